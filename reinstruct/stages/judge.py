"""Have a model judge pairs and keep pairs by its verdicts.

The one rule: a reply without a verdict is never kept, and counted by the reason why it has none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

import polars as pl
from msgspec.structs import replace

from reinstruct import records
from reinstruct.llm import Prompt, Reply
from reinstruct.records import Drop, Example, Pair, question
from reinstruct.stage import Ask, Filter, Transform
from reinstruct.stages.instruct import LoseLines, Template, example
from reinstruct.stages.select import first_reason
from reinstruct.stages.verdict import Choice, Rating, unread

_ECHO_CHARS = 20


@dataclass(frozen=True)
class Score(Ask[Pair, Pair]):
    """Have the model judge each pair; its verdict is stored as the score `name`, in place of an earlier one.

    The template has {instruction} and {response}. A reply that was cut off has no verdict: "Score: 1" may be the
    beginning of "Score: 10". Lines the judge repeats from its prompt are not its own words and are not read.
    """

    template: Template
    name: str = "quality"
    verdict: Rating | Choice = field(default=Rating())

    def prompt(self, record: Pair) -> Prompt:
        return self.template.fill(instruction=question(record), response=record.output)

    def parse(self, record: Pair, reply: Reply) -> Pair | Drop:
        if not reply.text.strip():
            return unread("empty_reply")
        if reply.finish == "length":
            return unread("cut_off", reply.text[-200:])
        own = without_echo(reply.text, _text_of(self.prompt(record)))
        value = self.verdict.value_in(own)
        if isinstance(value, Drop):
            return unread("echoed", reply.text[:200]) if own != reply.text and value.reason == "no_score" else value
        kept = tuple(score for score in record.scores if score.name != self.name)
        return replace(record, scores=(*kept, records.Score(self.name, value)))


@dataclass(frozen=True)
class TeachRating(Transform[Pair, Example]):
    """Two lessons in judging from each seed pair: its response is worth `praise`, the same with lines lost
    `blame`.

    No paper does this. A model too small to follow a written scale learns from it to write a verdict that can be read;
    how good its verdicts are is another matter. Pairs of a single sentence give the first lesson alone.
    """

    expands: ClassVar[bool] = True
    template: Template
    praise: str
    blame: str
    share: float = 0.5
    seed: int = 0

    def apply(self, record: Pair) -> list[Example]:
        good = example(record, self._asked(record, record.output), self.praise)
        damaged = LoseLines(self.share, self.seed).apply(record)
        if isinstance(damaged, Drop):
            return [good]
        other = replace(record, id=f"{record.id}#damaged")
        return [good, example(other, self._asked(record, damaged.document), self.blame)]

    def _asked(self, record: Pair, response: str) -> Prompt:
        return self.template.fill(instruction=question(record), response=response)


@dataclass(frozen=True)
class TeachVerdict(Transform[Pair, Example]):
    """Two lessons in judging from each seed pair: its instruction is worth `praise`, the first half of it `blame`.

    As with TeachRating, no paper does this: it is for models too small to follow written rules.
    """

    expands: ClassVar[bool] = True
    template: Template
    praise: str
    blame: str

    def apply(self, record: Pair) -> list[Example]:
        half = record.instruction[: len(record.instruction) // 2]
        other = replace(record, id=f"{record.id}#half")
        return [
            example(record, self.template.fill(instruction=record.instruction), self.praise),
            example(other, self.template.fill(instruction=half), self.blame),
        ]


@dataclass(frozen=True)
class KeepScore(Filter[Pair]):
    """Keep pairs whose score `name` is `at_least` so much, or with `exactly` that very number.

    Others are low_<name> (with `exactly`: other_<name>); pairs that were never scored are no_<name>.
    """

    name: str = "quality"
    at_least: float = 5
    exactly: bool = False

    def reason(self) -> pl.Expr:
        named = pl.element().struct.field("name") == self.name
        value = pl.col("scores").list.eval(pl.element().struct.field("value").filter(named)).list.last()
        kept = value == self.at_least if self.exactly else value >= self.at_least
        missed = f"{'other' if self.exactly else 'low'}_{self.name}"
        return first_reason([(f"no_{self.name}", value.is_null()), (missed, ~kept)])


def without_echo(reply: str, prompt: str) -> str:
    """The reply less the lines it repeats from its prompt.

    A line is repeated if it has 20 characters or more and stands in the prompt, or if it follows a repeated line as it
    does in the prompt. So a bare "Score: 5" is the judge's own unless the text before it is not.
    """
    asked = [line.strip() for line in prompt.splitlines() if line.strip()]
    long_lines = {line for line in asked if len(line) >= _ECHO_CHARS}
    neighbours = set(pairwise(asked))
    kept: list[str] = []
    repeated = ""
    for line in reply.splitlines(keepends=True):
        bare = line.strip()
        if bare and (bare in long_lines or (repeated, bare) in neighbours):
            repeated = bare
            continue
        repeated = repeated if not bare else ""
        kept.append(line)
    return "".join(kept)


def _text_of(prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else "\n".join(message.content for message in prompt)
