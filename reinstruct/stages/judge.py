"""Have a model judge pairs, read its verdicts, keep pairs by them.

The one rule: a verdict is stated once, at its place and on its scale, or there is none. Reading gives a number or the
reason why not, for any text whatever; it never raises, never guesses and never accepts by default.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import ClassVar

import polars as pl
from msgspec.structs import replace

from reinstruct import records
from reinstruct.errors import RecipeError
from reinstruct.llm import Prompt, Reply
from reinstruct.records import Drop, Example, Pair, question
from reinstruct.stage import Ask, Filter, Transform
from reinstruct.stages.instruct import LoseLines, Template, example
from reinstruct.stages.select import first_reason

# Possessive, so that no part of "10502" or of "3e2" is ever taken for a number of its own.
_NUMBER = r"[+\-−]?\d++(?:[.,]\d++)*+(?!\w)"
_OUT_OF = r"(?:[\s*_]*+(?:/|out of)[\s*_]*+(?P<of>\d++(?:\.\d++)?+)(?!\w))?+"
_SECOND_NUMBER = re.compile(r"[*_\s\]]*(?:[-−–—/,]|to\b|or\b|and\b)[*_\s\[]*\d", re.IGNORECASE)
_CLOSING = " \t\r\n.。*_`'\"’”)]】|#"
_ECHO_CHARS = 20


def stated_after(word: str) -> str:
    """Pattern of a line of its own: `word`, a colon, a number, which may be "of" the highest: "Final score: 4/5"."""
    return rf"^[\s>*_#\-]*+(?:(?:final|overall|total)\s+)?{word}[\s*_]*+[:：=][\s*_\[]*+(?P<value>{_NUMBER}){_OUT_OF}"


@dataclass(frozen=True)
class Rating:
    """A number in a judge's reply.

    `pattern` finds it, with the number in a group `value` and, if the scale is stated too, its highest number in a
    group `of`; case makes no difference, ^ is the start of any line. The last statement counts. At most
    `max_chars_after` characters may follow it, closing punctuation aside: a number with much text behind it is not the
    verdict. Where an earlier statement gives another number, the reply contradicts itself.
    """

    pattern: str = stated_after("score")
    low: float = 1
    high: float = 5
    whole: bool = True  # 4.5 is off the scale
    max_chars_after: int = 0

    def __post_init__(self) -> None:
        try:
            groups = re.compile(self.pattern).groupindex
        except re.error as error:
            raise RecipeError(f"rating pattern {self.pattern!r} is not a regular expression: {error}") from error
        if "value" not in groups:
            raise RecipeError(f"rating pattern {self.pattern!r} has no group (?P<value>...) around the number")

    @classmethod
    def mt_bench(cls) -> Rating:
        """[[7]] or [[8.5]] of 10, as the judge of MT-bench is asked to write (Zheng et al. 2023)."""
        return cls(rf"\[\[\s*(?P<value>{_NUMBER})\s*\]\]", high=10, whole=False, max_chars_after=200)

    @classmethod
    def out_of_five(cls) -> Rating:
        """4/5 or 4 out of 5, alone in the last line or after any words of it."""
        return cls(rf"(?<![\w.,/\-])(?P<value>{_NUMBER})[\s*_]*+(?:/|out of)[\s*_]*+(?P<of>\d++)(?![\w/])", low=0)

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        return re.compile(self.pattern, re.IGNORECASE | re.MULTILINE)

    def value_in(self, text: str) -> float | Drop:
        """The number the reply states, or one of no_score, score_not_last, contradictory, score_out_of_range."""
        found = list(self._regex.finditer(text))
        if not found:
            return _unread("no_score", text[-200:])
        rest = text[found[-1].end() :]
        if _SECOND_NUMBER.match(rest) or len({_as_number(match["value"]) for match in found}) > 1:
            return _unread("contradictory", " | ".join(match[0].strip() for match in found)[-200:])
        if len(rest.strip(_CLOSING)) > self.max_chars_after:
            return _unread("score_not_last", rest[:200])
        return self._on_scale(found[-1])

    def _on_scale(self, match: re.Match[str]) -> float | Drop:
        number, of = _as_number(match["value"]), match.groupdict().get("of")
        if number is None or not self.low <= number <= self.high or (self.whole and not number.is_integer()):
            return _unread("score_out_of_range", match[0].strip()[:200])
        if of is not None and _as_number(of) != self.high:
            return _unread("score_out_of_range", match[0].strip()[:200])
        return number


@dataclass(frozen=True)
class Choice:
    """One of two answers in a judge's reply, as 1 (`positive`) or 0 (`negative`).

    Negative forms are looked for first and longest first: "not equal" holds "equal". `place` is where they are looked
    for: "first" (the reply opens with one), "last" (its last line is one, or ends in one after a colon), "brackets"
    ([good], 【good】, <good>, 「good」, anywhere) or "anywhere". Both answers there contradict each other.
    """

    positive: tuple[str, ...] = ("yes",)
    negative: tuple[str, ...] = ("no",)
    place: str = "first"

    def __post_init__(self) -> None:
        if self.place not in ("first", "last", "brackets", "anywhere"):
            raise RecipeError(f"place of a choice is {self.place!r}; accepted: first, last, brackets, anywhere")
        if not all((*self.positive, *self.negative)) or not self.positive or not self.negative:
            raise RecipeError("a choice needs at least one positive and one negative form, none of them empty")

    def value_in(self, text: str) -> float | Drop:
        """1, 0, or one of no_score, contradictory."""
        found = {word.lower() in self._negatives for word in self._stated(text)}
        if not found:
            return _unread("no_score", text[-200:])
        if len(found) > 1:
            return _unread("contradictory", text[-200:])
        return 0.0 if found.pop() else 1.0

    @property
    def _negatives(self) -> frozenset[str]:
        return frozenset(word.lower() for word in self.negative)

    @cached_property
    def _word(self) -> str:
        ordered = [*sorted(self.negative, key=len, reverse=True), *sorted(self.positive, key=len, reverse=True)]
        return "|".join(rf"{_edge(word[0])}{re.escape(word)}{_edge(word[-1], after=True)}" for word in ordered)

    def _stated(self, text: str) -> list[str]:
        match self.place:
            case "first":
                # "yes or no" and "yes/no" are the question, not an answer.
                opening = re.match(rf"[\W_]*({self._word})(?:\s*(?:/|\bor\b)\s*({self._word}))?", text, re.IGNORECASE)
                return [word for word in opening.groups() if word] if opening else []
            case "last":
                line = (text.strip().splitlines() or [""])[-1]
                ending = re.search(rf"(?:^|[:：])[\W_]*({self._word})[\W_]*$", line, re.IGNORECASE)
                return [ending[1]] if ending else []
            case "brackets":
                return re.findall(rf"[\[［【<「『]\s*({self._word})\s*[\]］】>」』]", text, re.IGNORECASE)
            case _:
                return re.findall(f"({self._word})", text, re.IGNORECASE)


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
            return _unread("empty_reply")
        if reply.finish == "length":
            return _unread("cut_off", reply.text[-200:])
        own = without_echo(reply.text, _text_of(self.prompt(record)))
        value = self.verdict.value_in(own)
        if isinstance(value, Drop):
            return _unread("echoed", reply.text[:200]) if own != reply.text and value.reason == "no_score" else value
        kept = tuple(score for score in record.scores if score.name != self.name)
        return replace(record, scores=(*kept, records.Score(self.name, value)))


@dataclass(frozen=True)
class TeachRating(Transform[Pair, Example]):
    """Two lessons in judging from each seed pair: its response is worth `high`, the same with lines lost `low`.

    No paper does this. A model too small to follow a written scale learns from it to write a verdict that can be read;
    how good its verdicts are is another matter. Pairs of a single sentence give the first lesson alone.
    """

    expands: ClassVar[bool] = True
    template: Template
    praise: str = "It answers all that was asked.\nScore: 5"
    blame: str = "Parts of the answer are missing.\nScore: 2"
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


def _as_number(text: str) -> float | None:
    """None for what is not one plain decimal number, such as "1,000" or "4.5.1"."""
    plain = re.fullmatch(r"([+\-−]?)(\d+)(?:[.,](\d{1,2}))?", text)
    return float(f"{plain[1].replace('−', '-')}{plain[2]}.{plain[3] or 0}") if plain else None


def _edge(char: str, *, after: bool = False) -> str:
    """A word boundary where the script has them: Chinese writes no spaces between words."""
    if not char.isascii() or not char.isalnum():
        return ""
    return r"(?![A-Za-z0-9_])" if after else r"(?<![A-Za-z0-9_])"


def _unread(reason: str, detail: str = "") -> Drop:
    return Drop(reason, detail.strip(), unreadable=True)
