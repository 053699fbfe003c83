"""Embeddings from a server and a model folder, and what is dropped or chosen by them."""

import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import polars as pl
import pytest

from reinstruct.embedding import Embedder
from reinstruct.errors import LLMRefused, RecipeError
from reinstruct.identity import describe
from reinstruct.stages.semantic import DropParaphrases, SampleDiverse
from tests.conftest import FrameRows

np = pytest.importorskip("numpy")


@contextmanager
def server(fail: int = 0, code: int = 503) -> Iterator[tuple[str, list[int]]]:
    """Embeds "30" as the direction of 30 degrees, twice as long as wanted; the first `fail` answers are an error."""
    asked: list[int] = []

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(len(body["input"]))
            angles = [math.radians(float(text.split()[0])) for text in body["input"]]
            rows = [{"index": n, "embedding": [2 * math.cos(a), 2 * math.sin(a)]} for n, a in enumerate(angles)]
            self.send_response(code if len(asked) <= fail else 200)
            self.end_headers()
            self.wfile.write(json.dumps({"data": rows[::-1]}).encode())

        def log_message(self, format, *args):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{running.server_port}/v1", asked
    finally:
        running.shutdown()
        running.server_close()


def rows(*angles: str) -> pl.DataFrame:
    return pl.DataFrame({"id": [f"d{n}" for n in range(len(angles))], "text": list(angles)})


def verdicts(stage, frame: pl.DataFrame, folder) -> pl.DataFrame:
    return pl.concat(list(stage.verdicts(FrameRows(frame, folder))))


def test_a_servers_vectors_are_put_in_order_and_to_length_one():
    with server(fail=1) as (url, asked):
        found = np.concatenate(list(Embedder("m", url, batch=2).vectors(iter(["0", "90", "180"]))))
    assert np.allclose(found, [[1, 0], [0, 1], [-1, 0]], atol=1e-6)
    assert sorted(asked) == [1, 2, 2] or sorted(asked) == [1, 1, 2]  # one of them asked twice


def test_a_refusal_is_told_at_once():
    with server(fail=9, code=400) as (url, asked), pytest.raises(LLMRefused, match="refused \\(400\\)"):
        list(Embedder("m", url).vectors(iter(["0"])))
    assert len(asked) == 1


def test_paraphrases_of_a_kept_row_go(tmp_path):
    with server() as (url, _):
        stage = DropParaphrases(Embedder("m", url, batch=3), least=math.cos(math.radians(11)))
        found = verdicts(stage, rows("0", "90", "10", "20", "95"), tmp_path)
        longest = verdicts(DropParaphrases(Embedder("m", url), least=0.95, keep="longest"), rows("0", "5 !"), tmp_path)
    # 20 is near to 10, which is gone, and far enough from 0
    assert found["detail"].to_list() == [None, None, "of d0, cosine 0.9848", None, "of d1, cosine 0.9962"]
    assert longest["detail"].to_list() == ["of d1, cosine 0.9962", None]


def test_rows_of_different_clusters_are_not_compared(tmp_path):
    angles = [str(n) for n in range(20)] + [str(180 + n) for n in range(20)]
    with server() as (url, _):
        stage = DropParaphrases(Embedder("m", url), least=0.99, cluster=20)
        found = verdicts(stage, rows(*angles), tmp_path)
        assert verdicts(stage, rows(*angles), tmp_path).equals(found)
    assert 2 <= found["reason"].null_count() <= 8
    assert all((int(d.split(",")[0][4:]) < 20) == (n < 20) for n, d in enumerate(found["detail"]) if d)


def test_the_farthest_are_sampled(tmp_path):
    with server() as (url, _):
        found = verdicts(SampleDiverse(Embedder("m", url), 3), rows("0", "1", "120", "121", "240", "241"), tmp_path)
        every = verdicts(SampleDiverse(Embedder("m", url)), rows("0", "1"), tmp_path)
    kept = [n // 2 for n, reason in enumerate(found["reason"]) if reason is None]
    assert kept == [0, 1, 2]
    assert every["reason"].to_list() == [None, None]


def test_where_a_model_is_served_is_no_part_of_what_it_is():
    one, other = Embedder("m", "http://a/v1"), Embedder("m", "http://b/v1", batch=7)
    assert describe(one, identity=True) == describe(other, identity=True) != describe(Embedder("n"), identity=True)


def test_wrong_settings_are_named(tmp_path):
    with pytest.raises(RecipeError, match="url is 'host:80'"):
        Embedder("m", "host:80")
    with pytest.raises(RecipeError, match="least is 0"):
        DropParaphrases(Embedder("m"), least=0)


@pytest.mark.slow
def test_a_folder_of_a_transformers_encoder_embeds(tmp_path):
    transformers = pytest.importorskip("transformers")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "rain", "falls", "on", "stone"]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary))
    transformers.BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.BertModel(transformers.BertConfig(vocab_size=len(vocabulary), **small)).save_pretrained(tmp_path)
    texts = ["rain falls", "rain falls on stone", "rain falls", ""]
    found = np.concatenate(list(Embedder(str(tmp_path), batch=2).vectors(iter(texts))))
    assert found.shape == (4, 16)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert np.allclose(found[0], found[2], atol=1e-5)  # padding makes no difference
    assert not np.allclose(found[0], found[1], atol=1e-3)
    with pytest.raises(RecipeError, match="cannot be loaded"):
        list(Embedder(str(tmp_path / "absent")).vectors(iter(["a"])))
