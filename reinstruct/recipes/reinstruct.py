"""REInstruct: building instruction data from an unlabeled corpus. Chen et al. 2024, https://arxiv.org/abs/2408.10663

Rules select texts worth answering with. A model trained backward on the seed writes the instruction each text answers,
and a model trained to rewrite turns the text into a good response. A base model is tuned on seed and synthetic pairs
together, each marked by a tag that says where its answer comes from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from reinstruct.errors import RecipeError
from reinstruct.llm import Sampling
from reinstruct.plan import Dataset, Model, Outcome
from reinstruct.preparation import Preparation
from reinstruct.records import Document, Pair
from reinstruct.stage import Filter
from reinstruct.stages.gather import DropDuplicates, Sample
from reinstruct.stages.instruct import (
    LoseLines,
    PutToModel,
    Repeat,
    Rewrite,
    TeachInstruction,
    TeachRewriting,
    Template,
    WriteInstruction,
)
from reinstruct.stages.leak_sets import TestSets
from reinstruct.stages.select import first_reason
from reinstruct.stages.text import SelectAdvice
from reinstruct.train.settings import Sft
from reinstruct.wording import Wording, worded


def reinstruct(
    corpus: Dataset[Document],
    seed: Dataset[Pair],
    base: Model,
    rewrites: Dataset[Pair] | None = None,
    teacher: Model | None = None,
    *,
    rules: SelectAdvice = SelectAdvice(),
    prompts: Prompts | None = None,
    candidates: int = 0,
    size: int = 0,
    rewrite_size: int = 2000,
    upsample: int = 2,
    remove_refusals: bool = False,
    compat: bool = False,
    writing: Sampling = Sampling(temperature=0.7, top_p=0.9, max_tokens=256),
    rewriting: Sampling = Sampling(max_tokens=1024),
    sft: Sft = Sft(),
    prepare: Preparation = Preparation(),
    random_seed: int = 0,
) -> Outcome:
    """Plan the method.

    `rewrites` are pairs with the document each was written from; without them a `teacher` (any chat model) answers
    `rewrite_size` guessed instructions, and without one the seed's own responses lose lines and are to be restored.
    `quality` names rules of `reinstruct.stages.quality.PRESETS` asked before the method's own, such as gopher or web.
    `candidates` samples that many selected texts before any model sees them (the release's data_size), `size` that
    many synthetic pairs (the paper: 8000, 16000, 32000); 0 takes all. `decontaminate` names files of test items:
    texts and pairs that share 13 words with one are rejected. `compat` judges texts and pairs as the released
    code does.
    """
    if upsample < 1:
        raise RecipeError(f"upsample is {upsample}; accepted: how often each seed pair is trained on, 1 or more")
    prompts = prompts or Prompts()
    rules = replace(rules, compat=compat or rules.compat)
    instruction_rules = InstructionRules(compat=compat)
    response_rules = ResponseRules(remove_refusals=remove_refusals)

    prepared = replace(prepare, quality=(), decontaminate=TestSets()).documents(corpus)
    asked: Any = (*prepare.rules(), rules)
    passed: Dataset[Document] = prepared.map(*asked, name="select")
    selected = prepare.without_leaks(passed.gather(DropDuplicates(), name="deduplicate"))
    texts = selected.gather(Sample(candidates, random_seed), name="candidates")
    backward = base.train(seed.map(TeachInstruction(prompts.backward), name="reverse"), "backward", sft)
    guesses = texts.map(WriteInstruction(backward, prompts.backward, sampling=writing), instruction_rules, name="guess")

    if rewrites is None and teacher is not None:
        answer = Rewrite(teacher, prompts.rewrite.in_chat(), sampling=rewriting)
        sample = guesses.gather(Sample(rewrite_size, random_seed), name="sample-rewrites")
        rewrites = sample.map(answer, response_rules, name="teach-rewrites")
    elif rewrites is None:
        rewrites = seed.map(LoseLines(seed=random_seed), name="lose-lines")
    rewriter = base.train(rewrites.map(TeachRewriting(prompts.rewrite), name="rewrite-data"), "rewriter", sft)

    rewritten = guesses.map(Rewrite(rewriter, prompts.rewrite, sampling=rewriting), response_rules, name="rewrite")
    synthetic = prepare.without_leaks(rewritten).gather(Sample(size, random_seed), name="sample")

    human = seed.map(Repeat(upsample), PutToModel(prompts.chat, (prompts.seed_tag,)), name="tag-seed")
    machine = synthetic.map(PutToModel(prompts.chat, (prompts.web_tag,)), name="tag-synthetic")
    final = base.train(human + machine, "final", sft)
    return Outcome(seed + synthetic, final, PutToModel(prompts.chat, (prompts.seed_tag, prompts.web_tag)), sft)


DEICTIC = r"\bthis\b|[这此]一?[个些种篇段份张条则]|(?:^|[^日])本文|上文|[上下]述"
LEAKS = (
    "web text",
    "based on the information provided",
    "网页文本",
    "根据提供的信息",
    "根据所提供的信息",
    "根据给定的信息",
)
REFUSALS = ("sorry", "i apologize", "抱歉", "对不起", "很遗憾")


@dataclass(frozen=True)
class InstructionRules(Filter[Pair]):
    """Rules on the written instruction (released filter_rewritten.py). They do not need the rewritten response, so they
    are asked before any is paid for.

    The release (`compat`) rejects "this" anywhere, also inside "thistle"; the default rejects the word, and the like in
    Chinese. `deictic` is a Rust regex.
    """

    max_chars: int = 500
    deictic: str = DEICTIC
    compat: bool = False

    def reason(self) -> pl.Expr:
        text = pl.col("instruction").str.to_lowercase()
        points = text.str.contains("this" if self.compat else self.deictic)
        too_long = pl.col("instruction").str.len_chars() > self.max_chars
        return first_reason([("instruction_too_long", too_long), ("points_at_text", points)])


@dataclass(frozen=True)
class ResponseRules(Filter[Pair]):
    """Rules on the rewritten response (released filter_rewritten.py): too many bullets, and words that give the source
    away. `remove_refusals` is its optional flag. The words in Chinese are ours.
    """

    max_bullets: int = 10
    leaks: tuple[str, ...] = LEAKS
    remove_refusals: bool = False
    refusals: tuple[str, ...] = REFUSALS

    def reason(self) -> pl.Expr:
        text = pl.col("output").str.to_lowercase()
        rules = [
            ("too_many_bullets", pl.col("output").str.count_matches("- ", literal=True) > self.max_bullets),
            ("mentions_source", text.str.contains_any(list(self.leaks))),
        ]
        if self.remove_refusals:
            rules.append(("refusal", text.str.contains_any(list(self.refusals))))
        return first_reason(rules)


@dataclass(frozen=True)
class Prompts(Wording):
    """What is said to the models: `rewrite` to the rewriter and, as a user's message, to the teacher. The tags stand
    behind the instruction.
    """

    seed_tag: str = "Reply in the manner of a careful AI assistant."
    web_tag: str = "Reply with what a search of the web would tell."
    backward: Template = Template(
        """\
Someone asked an assistant for help and got the reply below. The request that led to it comes after.

### Reply
{response}

### Request
"""
    )
    rewrite: Template = Template(
        """\
Use the page below to answer the question after it: thoroughly, kindly and in your own words, as if you simply knew it.
Never let on that there was a page.

### Page
{document}

### Question
{instruction}""",
        opening="\n\n### Answer\n",
    )
    chat: Template = Template(
        """\
A curious person talks to an AI assistant. The assistant's answers are useful, thorough and courteous.

### Person
{instruction}

### Assistant
"""
    )

    @classmethod
    def english(cls) -> Prompts:
        """As they stand here."""
        return cls()

    @classmethod
    def chinese(cls) -> Prompts:
        """All of them in Chinese."""
        return worded(cls, "reinstruct.chinese")
