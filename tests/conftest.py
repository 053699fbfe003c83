"""Paths and small inputs shared by the tests."""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl
import pytest

from reinstruct.llm import Batch, Reply, Request
from reinstruct.rows import expect_fields

ROOT = Path(__file__).parents[1]
SEED = ROOT / "examples" / "seed.jsonl"
# Files that take long, in the order in which two workers that take the next one when they are free end together.
LONG = (
    "test_all_recipes",
    "test_full_run",
    "test_vllm",
    "test_train_processes",
    "test_train",
    "test_compare",
    "test_vllm_runs",
    "test_pipelines",
)


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Bytes are no names: packed ones hold the time, and workers would collect different tests."""
    return argname if isinstance(val, bytes) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONG)))


@pytest.fixture
def shared_data() -> Path:
    """Folder of the public test data; the test is skipped where it is absent."""
    return shared_folder()


def shared_folder() -> Path:
    """As the fixture, for fixtures that live longer than a test."""
    folder = Path(os.environ.get("REINSTRUCT_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; set REINSTRUCT_TEST_DATA")
    return folder


@pytest.fixture
def corpus_file(tmp_path: Path) -> Path:
    """Forty documents of prose, two of them alike, one too short."""
    prose = "Rivers carry water from the hills to the sea. They feed the towns beside them and turn the mills. "
    texts = [f"Notes on river {n}. {prose * 4}It is {n} miles long." for n in range(38)]
    rows = [{"id": f"d{n}", "text": text} for n, text in enumerate([*texts, texts[0], "Too short."])]
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def flat(batches: Iterable[Batch]) -> Iterator[tuple[Request, Reply]]:
    """Replies one by one."""
    for batch in batches:
        yield from batch


class FrameRows:
    """A data frame as a gather sees a dataset, in pieces of three rows."""

    def __init__(self, frame: pl.DataFrame, scratch: Path = Path()) -> None:
        self.frame = frame
        self.height = frame.height
        self.scratch = scratch

    def read(self, *fields: str) -> Iterator[pl.DataFrame]:
        expect_fields(fields, self.frame.columns)
        yield from self.frame.select(fields).iter_slices(3)


def judged(stage, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with the verdicts of a gather."""
    with tempfile.TemporaryDirectory() as scratch:
        verdicts = pl.concat(list(stage.verdicts(FrameRows(frame, Path(scratch)))))
    assert verdicts.schema["reason"] == pl.String
    return frame.hstack(verdicts)


def tiny_model(folder: Path, seed: int = 0) -> str:
    """A folder with a causal language model of weights drawn by the seed, and a tokenizer of bytes; made once."""
    if (folder / "config.json").exists():
        return str(folder)
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<s>", "</s>", *alphabet])}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=4096,
            bos_token_id=0,
            eos_token_id=1,
        )
        LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)
