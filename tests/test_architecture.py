"""The rules on what is imported where and how large modules are, and that pyright tells wrong compositions."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = sorted((ROOT / "reinstruct").rglob("*.py"))
# What may be imported -> where, as beginnings of paths.
EDGES = {
    ("kfp", "kubernetes"): ("components/", "pipelines/", "reinstruct/cluster/"),
    ("aiohttp", "asyncio"): ("reinstruct/served",),
    ("torch", "transformers", "trl", "accelerate", "datasets", "tokenizers"): (
        "reinstruct/train/",
        "reinstruct/architecture.py",
        "reinstruct/batching",
        "reinstruct/engine.py",
        "reinstruct/decoding.py",
        "reinstruct/embedding.py",
    ),
}


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def imported(path: Path) -> Iterator[str]:
    """Top-level names of all modules a file imports, wherever in the file."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def written_files() -> list[Path]:
    return [*LIBRARY, *(ROOT / "components").glob("*.py"), *(ROOT / "pipelines").glob("*.py")]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize(("libraries", "places"), EDGES.items(), ids=lambda value: value[0])
def test_libraries_stay_where_their_work_is(libraries: tuple[str, ...], places: tuple[str, ...]):
    importers = {name_of(path) for path in written_files() if not set(libraries).isdisjoint(imported(path))}
    assert importers, "the test looks for nothing"
    assert not {name for name in importers if not name.startswith(places)}


def test_the_library_imports_nothing_that_stands_on_it():
    assert not [name_of(path) for path in LIBRARY if {"pipelines"} & set(imported(path)) and path.name != "cli.py"]
    assert not [name_of(path) for path in LIBRARY if {"components", "tests", "benchmarks"} & set(imported(path))]


@pytest.mark.parametrize(("folder", "most"), [("reinstruct", 300), ("pipelines", 300), ("components", 59)])
def test_modules_stay_small(folder: str, most: int):
    sizes = {name_of(path): len(path.read_text().splitlines()) for path in (ROOT / folder).rglob("*.py")}
    assert sizes
    assert not {name: lines for name, lines in sizes.items() if lines > most}


def test_functions_stay_short():
    long = [
        f"{name_of(path)}:{node.name}"
        for path in LIBRARY
        for node in nodes(path)
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.body[0].lineno >= 50
    ]
    assert not long


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_a_module_says_what_it_is(path: Path):
    module = nodes(path)[0]
    assert isinstance(module, ast.Module)
    assert ast.get_docstring(module) or not module.body
    broad = [
        handler
        for handler in nodes(path)
        if isinstance(handler, ast.ExceptHandler)
        and (handler.type is None or getattr(handler.type, "id", "") in ("Exception", "BaseException"))
    ]
    assert not broad


def test_importing_the_package_loads_nothing_heavy():
    heavy = "torch transformers polars pyarrow aiohttp typer kfp"
    script = f"import sys, reinstruct; sys.exit(' '.join(m for m in {heavy.split()} if m in sys.modules) or 0)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


SNIPPET = """\
from reinstruct.plan import Dataset, Model
from reinstruct.recipes.reinstruct import Prompts
from reinstruct.records import Document, Pair
from reinstruct.stages.gather import DropDuplicates
from reinstruct.stages.instruct import Repeat, TeachInstruction, WriteInstruction
from reinstruct.stages.text import SelectAdvice


prompts = Prompts()


def compose(corpus: Dataset[Document], seed: Dataset[Pair], base: Model) -> Dataset[Pair]:
    backward = base.train(seed.map(Repeat(), TeachInstruction(prompts.backward)), "backward")
    texts = corpus.map(SelectAdvice()).gather(DropDuplicates())
    {line}
"""
RIGHT = "return seed + texts.map(WriteInstruction(backward, prompts.backward))"
WRONG = [
    "return seed.map(SelectAdvice())",
    "return texts.map(WriteInstruction(backward, prompts.backward), TeachInstruction(prompts.backward))",
    "return seed + texts",
    "return texts.map(WriteInstruction(base.train(seed, 'x'), BACKWARD))",
]


@pytest.mark.slow
def test_pyright_tells_wrong_compositions_from_right_ones(tmp_path: Path):
    files = {}
    for number, line in enumerate([RIGHT, *WRONG]):
        files[line] = tmp_path / f"snippet_{number}.py"
        files[line].write_text(SNIPPET.replace("{line}", line))
    config = f'{{"include": ["{tmp_path}"], "extraPaths": ["{ROOT}"], "typeCheckingMode": "strict"}}'
    (tmp_path / "pyrightconfig.json").write_text(config)
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--project", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = {line: f"{path.name}:" in done.stdout and f"{path.name}:15" in done.stdout for line, path in files.items()}
    assert found == {RIGHT: False, **dict.fromkeys(WRONG, True)}, done.stdout


def test_types_of_our_own_are_described_to_msgspec_while_modules_are_imported():
    """By a decoder at the top of a module: two threads that decode a type for the first time crash the process."""
    calls = [(path, node) for path in LIBRARY for node in nodes(path) if isinstance(node, ast.Call)]
    decoding = [(path, call) for path, call in calls if ast.unparse(call.func).endswith((".decode", ".Decoder"))]
    assert any(ast.unparse(call.func) == "msgspec.json.Decoder" for _, call in decoding), "the test looks for nothing"
    named = [
        f"{name_of(path)}:{call.lineno}"
        for path, call in decoding
        for word in call.keywords
        if word.arg == "type" and isinstance(word.value, ast.Name)
    ]
    assert not named
