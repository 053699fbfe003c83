"""The command line as people meet it: each mistake is one sentence on standard error, and leaves nothing behind."""

import gzip
import json
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest

from reinstruct.cli import main
from tests.conftest import SEED

TEXT = "Rivers carry water from the hills to the sea, and feed the towns beside them. "


@dataclass
class Said:
    code: int
    out: str
    err: str


def reinstruct(*argv: str) -> Said:
    """The command in this process: as the console script calls it, at a hundredth of the cost of a new process."""
    out, err, before = StringIO(), StringIO(), sys.argv
    sys.argv = ["reinstruct", *argv]
    try:
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as left:
            main()
    finally:
        sys.argv = before
    code = left.value.code
    return Said(code if isinstance(code, int) else int(code is not None), out.getvalue(), err.getvalue())


def in_a_process(*argv: str, cwd: Path) -> Said:
    command = [sys.executable, "-c", "from reinstruct.cli import main; main()", *argv]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, stdin=subprocess.DEVNULL)
    return Said(done.returncode, done.stdout, done.stderr)


def rows(*table: dict[str, str]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table).encode()


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A folder with good inputs and bad ones."""
    folder = tmp_path_factory.mktemp("world")
    documents = [{"id": f"{n}", "text": TEXT * 10} for n in range(40)]
    damaged = bytearray(gzip.compress(rows(*documents)))
    damaged[15:80] = b"x" * 65
    contents = {
        "corpus.jsonl": rows(*documents),
        "bodies.jsonl": rows(*({"body": row["text"]} for row in documents)),
        "small.jsonl": rows({"text": TEXT}),
        "empty.jsonl": b"",
        "damaged.jsonl.gz": bytes(damaged),
        "plain.jsonl.gz": b"hello",
        "latin.jsonl": rows({"text": "café au lait"}).decode().encode("latin-1"),
        "latin.txt": "café au lait".encode("latin-1"),
        "seed.jsonl": b"".join(SEED.read_bytes().splitlines(keepends=True)[:60]),
        "no-pairs.jsonl": rows({"text": "no pair"}),
        "one-pair.jsonl": rows({"instruction": "Add.", "output": "Take two. Take two more. That is four."}),
        "unknown.toml": b'recipe = "reinstruct"\nreceipe = 3\n',
        "a-file": b"",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    for name in ("no-model", "no-files"):
        (folder / name).mkdir()
    return folder


MISTAKES = {
    "unknown setting": (["--upsampel", "3"], ["--upsampel", "did you mean '--upsample'?", "reinstruct recipes"]),
    "unknown field": (["--sft.epoch", "3"], ["'epoch'", "accepted: epochs,"]),
    "wrong value": (["--upsample", "two"], ["upsample is 'two'", "a whole number"]),
    "missing column": (["--corpus", "bodies.jsonl"], ["'text'", "columns are body", "--corpus-columns text=COLUMN"]),
    "empty corpus": (["--corpus", "empty.jsonl"], ["no records in", "empty.jsonl"]),
    "empty folder": (["--corpus", "no-files"], ["no-files is an empty folder", "accepted are .jsonl"]),
    "absent corpus": (["--corpus", "absent.jsonl"], ["absent.jsonl: no such file", "accepted are .jsonl"]),
    "damaged gzip": (["--corpus", "damaged.jsonl.gz"], ["damaged.jsonl.gz", "corrupt_file"]),
    "no gzip at all": (["--corpus", "plain.jsonl.gz"], ["plain.jsonl.gz is not a gzip file"]),
    "invalid UTF-8 rows": (["--corpus", "latin.jsonl"], ["latin.jsonl", "0xe9", "bad_utf8"]),
    "invalid UTF-8 text": (["--corpus", "latin.txt"], ["latin.txt", "bad_utf8"]),
    "no pairs": (["--seed", "no-pairs.jsonl"], ["'instruction'", "columns are text", "--seed-columns"]),
    "a seed too small": (["--seed", "one-pair.jsonl", "--held-out", "0.001"], ["every row of seed", "--held-out"]),
    "too small a corpus": (["--corpus", "small.jsonl"], ["78 characters", "needs 20,000", "--base"]),
    "a limit too small": (["--limit", "2"], ["1,560 characters", "needs 20,000", "--limit"]),
    "no model in a folder": (["--base", "./no-model"], ["no model at ./no-model", "config.json", "scratch:tiny"]),
    "a mistyped base": (["--base", "scratch:tny"], ["'scratch:tny'", "did you mean 'scratch:tiny'?", "scratch:small"]),
    "a mistyped bundled base": (["--base", "bundled:mnii"], ["'bundled:mnii'", "did you mean 'bundled:mini'?"]),
    "a base that is empty": (["--base", ""], ["needs --base"]),
    "a negative limit": (["--limit", "-1"], ["limit is -1", "accepted: a whole number"]),
    "a limit of letters": (["--limit", "x"], ["'--limit'", "valid integer"]),
    "nothing after a flag": (["--upsample"], ["--upsample needs a value"]),
    "too large a share": (["--held-out", "2"], ["held_out is 2.0", "below 1"]),
    "no server there": (["--server", "http://127.0.0.1:1"], ["no server at http://127.0.0.1:1", "--server"]),
    "a server for nobody": (["--server", "backwards=http://127.0.0.1:1"], ["'backwards'", "'backward'", "rewriter"]),
    "a server without URL": (["--server", "backward=here"], ["'backward=here'", "accepted: URL"]),
    "an unknown store": (["--out", "ftp://x/y"], ["'ftp://x/y'", "file://"]),
    "a stray word": (["stray"], ["'stray'", "--name value"]),
}


def complain(said: Said) -> str:
    """The one sentence that was said."""
    assert said.code == 2, said
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("reinstruct: ")
    assert "Traceback" not in line
    assert "Error(" not in line
    return line


@pytest.mark.parametrize(("flags", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_sentence_and_leaves_nothing(world: Path, flags: list[str], words: list[str]):
    before = sorted(path.name for path in world.iterdir())
    inputs = ["--corpus", "corpus.jsonl", "--seed", "seed.jsonl", "--base", "scratch:tiny", "--out", "out"]
    with chdir(world):
        line = complain(reinstruct("run", "reinstruct", *inputs, *flags))
    assert [word for word in words if word not in line] == []
    assert sorted(path.name for path in world.iterdir()) == before


OTHERS = {
    "unknown recipe": (["run", "reinstrct"], ["'reinstrct'", "did you mean 'reinstruct'?", "there are: "]),
    "unknown command": (["rnu", "reinstruct"], ["'rnu'", "'run'", "reinstruct --help"]),
    "unknown option": (["--hlep"], ["--hlep", "reinstruct --help"]),
    "no recipe": (["run"], ["RECIPE", "reinstruct --help"]),
    "nothing given": (["run", "reinstruct"], ["needs --corpus, --seed, --base"]),
    "unknown entry": (["run", "unknown.toml"], ["'receipe'", "did you mean 'recipe'?", "accepted: recipe, out"]),
    "absent run file": (["run", "absent.toml"], ["absent.toml", "No such file"]),
    "nothing was run": (["status", "no-files"], ["nothing was run in", "no-files"]),
    "status of nowhere": (["status", "nowhere"], ["nothing was run in", "nowhere"]),
    "report of nothing": (["report", "no-files"], ["nothing was run in", "no-files"]),
    "recipe unknown to list": (["recipes", "humpbck"], ["'humpbck'", "there are: "]),
}


@pytest.mark.parametrize(("argv", "words"), OTHERS.values(), ids=OTHERS)
def test_other_mistakes_are_one_sentence_too(world: Path, argv: list[str], words: list[str]):
    before = sorted(path.name for path in world.iterdir())
    with chdir(world):
        line = complain(reinstruct(*argv))
    assert [word for word in words if word not in line] == []
    assert sorted(path.name for path in world.iterdir()) == before


def inputs_in(world: Path) -> list[str]:
    return ["--corpus", str(world / "corpus.jsonl"), "--seed", str(world / "seed.jsonl"), "--base", "scratch:tiny"]


@pytest.mark.parametrize("out", ["a-file", "a-file/below"])
def test_an_out_that_is_a_file_is_told_and_left_alone(world: Path, out: str):
    line = complain(reinstruct("run", "reinstruct", *inputs_in(world), "--out", str(world / out)))
    assert f"--out is {world / out}, but {world / 'a-file'} is a file; accepted: a folder" in line
    assert (world / "a-file").read_bytes() == b""


def test_show_prints_the_graph_and_makes_nothing(world: Path, tmp_path: Path):
    said = reinstruct("show", "reinstruct", *inputs_in(world), "--out", str(tmp_path / "out"))
    assert said.code == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_files_that_are_not_read_are_told_apart_from_what_is_printed(world: Path, tmp_path: Path):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.txt").write_text(TEXT)
    given = [*inputs_in(world), "--corpus", str(folder), "--out", str(tmp_path / "out")]
    assert reinstruct("show", "reinstruct", *given).err == ""
    for name in ("[b].xyz", "c.xyz"):
        (folder / name).write_text(TEXT)
    told = "2 files of other endings ([b].xyz, c.xyz)"
    assert reinstruct("show", "reinstruct", *given).err == f"passed over in corpus: {told}\n"
    looked_at = reinstruct("corpus", "inspect", str(folder))
    assert (looked_at.code, looked_at.err) == (0, f"passed over: {told}\n")


@pytest.mark.slow
def test_real_processes_say_the_same(world: Path):
    """Help, a mistake found by Typer, one found by us, and an empty folder; each in a process of its own."""
    helped = in_a_process("--help", cwd=world)
    assert helped.code == 0
    assert [name for name in ("recipes", "show", "run", "status", "report", "compile") if name not in helped.out] == []
    listed = in_a_process("recipes", cwd=world)
    assert (listed.code, "reinstruct" in listed.out) == (0, True)
    assert "'rnu'" in complain(in_a_process("rnu", cwd=world))
    assert "no-files" in complain(in_a_process("status", "no-files", cwd=world))
    assert "reinstrct" in complain(in_a_process("run", "reinstrct", cwd=world))
