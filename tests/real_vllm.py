"""A real vLLM, a small random model for it, and a recipe that asks it: what its tests share.

It runs where REINSTRUCT_VLLM_PYTHON or .bench/vllm is (`make vllm-env`). Where neither is, the tests are skipped; a
REINSTRUCT_VLLM_PYTHON that is not there fails them.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from reinstruct.commit import result_of
from reinstruct.corpus.open import open_source
from reinstruct.layout import output_parts
from reinstruct.llm import Sampling
from reinstruct.plan import Model, read
from reinstruct.planfile import Plan, specs, steps_of
from reinstruct.records import Document, Pair, Rejected
from reinstruct.runner import LocalRunner
from reinstruct.serving import existing_model
from reinstruct.stages.instruct import Rewrite, Template, WriteInstruction
from reinstruct.store import LocalStore
from reinstruct.tables import read_parts
from tests.conftest import ROOT
from tests.test_runner import Notes

FLAGS = ("--dtype", "float32", "--max-num-seqs", "64")  # in float32, greedy replies are those of the other engine
CONTEXT = 512
LINE = "the river carries water from hill to sea and past the mills of a town where boats wait for rain"
WORDS = LINE.split()


@pytest.fixture(scope="module")
def python() -> str:
    named = os.environ.get("REINSTRUCT_VLLM_PYTHON", "")
    found = named or str(ROOT / ".bench" / "vllm" / "bin" / "python")
    if not named and not Path(found).exists():
        pytest.skip(f"no vLLM at {found}: `make vllm-env` makes it")
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A random Llama whose greedy choices are no ties, with a tokenizer that puts BOS in front."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    path = tmp_path_factory.mktemp("models") / "teacher"
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    raw.train_from_iterator([" ".join(WORDS)] * 2, trainer)
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>")
    tokenizer.save_pretrained(path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT,
            bos_token_id=0,
            eos_token_id=1,
            initializer_range=0.3,
        )
        LlamaForCausalLM(config).save_pretrained(path)
    return str(path)


def corpus(folder: Path, size: int) -> Path:
    path = folder / f"corpus-{size}.jsonl"
    texts = [" ".join(WORDS[(n * k) % len(WORDS)] for k in range(1, 20 + n % 30)) + f" {n}." for n in range(size)]
    path.write_text("".join(json.dumps({"id": f"d{n}", "text": text}) + "\n" for n, text in enumerate(texts)))
    return path


def recipe(corpus: Path, teacher: Model, rewriter: Model) -> Plan:
    """Which instruction does each document answer, and how would the rewriter answer it? Nothing is trained."""
    # The likeliest syllables of a reply end it, or a random model would talk on for ever.
    sampling = Sampling(max_tokens=24, stop=("a", "e", "i"))
    ask = WriteInstruction(teacher, Template("Say: {response}"), sampling=sampling)
    answer = Rewrite(rewriter, Template("{instruction}: {document}"), sampling=sampling)
    documents = read(open_source(str(corpus), Document), name="corpus")
    step = documents.map(ask, name="guess").map(answer, name="rewrite").step
    return Plan(recipe="test", steps=specs(step), data=step.id)


def plan_of(folder: Path, size: int, teacher: str, rewriter: str) -> Plan:
    return recipe(corpus(folder, size), existing_model(teacher), existing_model(rewriter))


def rows(store: LocalStore, plan: Plan) -> dict[str, list[tuple[str, ...]]]:
    """What each step made of each document: its pair, or why there is none and how the reply began."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for step in steps_of(plan).values():
        if step.name == "corpus":
            continue
        kept = read_parts(store, output_parts(store, step), Pair)
        dropped = read_parts(store, result_of(store, step.id).rejected, Rejected)
        found[step.name] = sorted(
            [
                *((pair.id, pair.instruction, pair.output) for chunk in kept for pair in chunk.records),
                *((row.id, row.reason, row.detail) for chunk in dropped for row in chunk.records),
            ]
        )
    return found


def rows_in_process(folder: Path, plan: Plan) -> dict[str, list[tuple[str, ...]]]:
    """What the engine in the workers makes of the plan."""
    store = LocalStore(folder / "in-process")
    LocalRunner(store, Notes(), workers=1).run(plan)
    return rows(store, plan)


def servers_with(words: str) -> list[int]:
    """Process ids of vLLM servers with these words in their command."""
    found = subprocess.run(["pgrep", "-f", "--", words], capture_output=True, text=True, check=False).stdout.split()
    lines = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in found if Path(f"/proc/{pid}").exists()}
    return [pid for pid, line in lines.items() if b"vllm.entrypoints" in line and b"reinstruct.guard" not in line]
