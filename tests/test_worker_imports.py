"""Workers import no more than they need: each library is memory that every worker of a machine takes."""

import json
import subprocess
import sys

import pytest

from reinstruct.corpus.typed import text_columns
from reinstruct.stages.compiled import shingle_keys

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(None in (text_columns, shingle_keys), reason="the package was installed without a C compiler"),
]

RUN = """
import sys
from reinstruct.commit import close
from reinstruct.corpus.open import open_source
from reinstruct.layout import ensure_layout
from reinstruct.plan import read
from reinstruct.records import Document
from reinstruct.stages.near_duplicates import DropNearDuplicates
from reinstruct.stages.text import KeepLengths
from reinstruct.store import LocalStore
from reinstruct.worker import run_shard

corpus, store, *which = sys.argv[1:]
store = LocalStore(store)
source = read(open_source(corpus, Document))
long = source.map(KeepLengths("text", 10), name="long")
steps = {"read": source, "filter": long, "gather": long.gather(DropNearDuplicates(), name="near")}
for name in which:
    step = steps[name].step
    ensure_layout(store, step, shards=1, min_rows=1)
    run_shard(store, step, 0, lambda model: None)
    print(close(store, step.id).rows)
print(*(name for name in ("pandas", "pyarrow.compute") if name in sys.modules))
"""


def test_reading_filtering_and_gathering_import_no_more_than_they_need(tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    texts = ["short", *(f"A text that is number {n} and long enough to stay. " * 3 for n in range(50))]
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in [*texts, texts[-1]]))

    def worker(*which: str) -> list[str]:
        command = [sys.executable, "-c", RUN, str(corpus), str(tmp_path / "store"), *which]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()

    *rows, imported = worker("read", "filter")
    assert rows == ["52", "51"], imported
    assert "pandas" not in imported.split()
    kept, imported = worker("gather")
    assert 0 < int(kept) < 51
    assert imported == ""
