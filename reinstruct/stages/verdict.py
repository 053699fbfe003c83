"""Read a judge's verdict: a number on a scale, or one of two answers.

The one rule: a verdict is stated once, at its place and on its scale, or there is none. Reading gives a number or the
reason why not, for any text whatever; it never raises, never guesses and never accepts by default.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from reinstruct.errors import RecipeError, expect
from reinstruct.records import Drop

# Possessive, so that no part of "10502" or of "3e2" is ever taken for a number of its own.
_NUMBER = r"[+\-−]?\d++(?:[.,]\d++)*+(?![^\W分])"
_OF = r"(?:[/／]|out of|分?[\s*_]*+[,，（(]?[\s*_]*+满分[为是:：]?)"
_OUT_OF = rf"(?:[\s*_]*+{_OF}[\s*_]*+(?P<of>\d++(?:\.\d++)?+)(?![^\W分]))?+(?:[\s*_]*+分(?!\w))?+"
_NUMBER_AFTER = re.compile(r"[*_\s\]]*(?:[-−–—/,~～、]|to\b|or\b|and\b)[*_\s\[]*\d", re.IGNORECASE)
_NUMBER_BEFORE = re.compile(r"\d[ \t*_\]]*(?:[-−–—/~]|to|or|and)[ \t*_\[]*$", re.IGNORECASE)
_CLOSING = " \t\r\n.。*_`'\"’”)）】]|#"

# What makes a statement none: right before it a denial or "for example", a condition in its sentence, a question after.
_MARKS = r"[ \t,:\"'“”‘’*_`(\[]*"
_FILLERS = r"(?:an?|the|be|been|as|of|is|my|its|final|overall|rating|score|rated|judged|called|deserve|really|quite)"
_DENIED = re.compile(
    rf"(?:\b(?:not|never|cannot|hardly|instead of|rather than|for example|for instance|e\.g\.)|n['’]t){_MARKS}"
    rf"(?:{_FILLERS}\b{_MARKS})*$|(?:达|够|谈|算|称|说|配)不[到上]$|"
    r"(?:[不未非]|难以|没有?)[应该能可足配值得以被再够]*(?:评为?|算是?|是|属于?|称为?|叫|给|打|说是?)?$",
    re.IGNORECASE,
)
_SUPPOSED = re.compile(r"(?:\b(?:if|unless)\b|若|如果|要是|假如|除非)[^.!?。！？\n]*$", re.IGNORECASE)
_QUESTIONED = re.compile(r"[\s*_]*(?:[?？]|吗|还是|或)")
_NEAR = 200  # characters before a statement that may take it back

# "No doubt" and "yes if" are no answers: behind an English word stands the end, a mark, or a word that goes on from it.
_ANSWERS = (
    r"(?!(?<=[A-Za-z])[ \t]+(?!(?:and|or|but|it|this|that|th[eo]se|there|they|the|because|since|i|you|both)\b)\w)"
)
_TURNS = r"(?:(?:and|or|but|maybe|perhaps|wait)\b[\W_]*)*"


def stated_after(*words: str) -> str:
    """Pattern of a line of its own: a word, a colon, a number, which may be "of" the highest: "Final score: 4/5",
    "最终评分：4分（满分5分）".
    """
    word = rf"(?:(?:final|overall|total)\s+|最终|最后|总体|综合|总)?(?:{'|'.join(words)})"
    return rf"^[\s>*_#\-【]*+{word}[\s*_】]*+[:：=][\s*_\[]*+(?P<value>{_NUMBER}){_OUT_OF}"


SCORE = ("score", "评分", "得分", "分数", "打分", "总分")
_STATED = stated_after(*SCORE)
_BRACKETED = rf"\[\[\s*(?P<value>{_NUMBER})\s*\]\]"
_OF_FIVE = rf"(?<![\w.,/\-])(?P<value>{_NUMBER})[\s*_]*+(?:/|out of)[\s*_]*+(?P<of>\d++)(?![\w/])"
# What a prompt that asks for a number of the pattern says; nothing is known of other patterns.
_ASKED = {_STATED: SCORE, _BRACKETED: ("[[",), _OF_FIVE: ("/5", "out of 5", "out of five")}


@dataclass(frozen=True)
class Rating:
    """A number in a judge's reply.

    `pattern` finds it, with the number in a group `value` and, if the scale is stated too, its highest number in a
    group `of`; case makes no difference, ^ is the start of any line. The last statement counts. At most
    `max_chars_after` characters may follow it, closing punctuation aside: a number with much text behind it is not the
    verdict. Where an earlier statement gives another number, or a digit follows, the reply contradicts itself. A number
    that is denied, supposed or an example is none.
    """

    pattern: str = _STATED
    low: float = 1
    high: float = 5
    whole: bool = True  # 4.5 is off the scale
    max_chars_after: int = 0

    def __post_init__(self) -> None:
        expect(self.low < self.high, "Rating: low", self.low, f"a number below high ({self.high:g})")
        try:
            groups = re.compile(self.pattern).groupindex
        except re.error as error:
            raise RecipeError(f"rating pattern {self.pattern!r} is not a regular expression: {error}") from error
        if "value" not in groups:
            raise RecipeError(f"rating pattern {self.pattern!r} has no group (?P<value>...) around the number")

    @classmethod
    def mt_bench(cls) -> Rating:
        """[[7]] or [[8.5]] of 10, as the judge of MT-bench is asked to write (Zheng et al. 2023)."""
        return cls(_BRACKETED, high=10, whole=False, max_chars_after=200)

    @classmethod
    def out_of_five(cls) -> Rating:
        """4/5 or 4 out of 5, alone in the last line or after any words of it."""
        return cls(_OF_FIVE, low=0)

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        return re.compile(self.pattern, re.IGNORECASE | re.MULTILINE)

    @property
    def told(self) -> str:
        """What a prompt has to ask for, in words."""
        return f"a number as the verdict reads it, with {' or '.join(_ASKED.get(self.pattern, ()))}"

    def is_asked_in(self, text: str) -> bool:
        """Whether a prompt may lead to such a statement, as far as its pattern is known."""
        forms = _ASKED.get(self.pattern, ())
        return not forms or any(form in text.lower() for form in forms)

    def expect_on_scale(self, name: str, given: float) -> None:
        """RecipeError unless a verdict can give that number."""
        expect(self.low <= given <= self.high, name, given, f"a rating from {self.low:g} to {self.high:g}")

    def value_in(self, text: str) -> float | Drop:
        """The number the reply states, or one of no_score, score_not_last, contradictory, score_out_of_range."""
        found = list(self._regex.finditer(text))
        if not found:
            return unread("no_score", text[-200:])
        before, rest = text[: found[-1].start()], text[found[-1].end() :]
        if _is_taken_back(before, rest):
            return unread("no_score", text[-200:])
        is_range = _NUMBER_BEFORE.search(before) or _NUMBER_AFTER.match(rest)
        if is_range or len({_as_number(match["value"]) for match in found}) > 1:
            return unread("contradictory", " | ".join(match[0].strip() for match in found)[-200:])
        if len(rest.strip(_CLOSING)) > self.max_chars_after:
            return unread("score_not_last", rest[:200])
        if re.search(r"\d", rest):
            return unread("contradictory", rest[:200])
        return self._on_scale(found[-1])

    def _on_scale(self, match: re.Match[str]) -> float | Drop:
        number, of = _as_number(match["value"]), match.groupdict().get("of")
        if number is None or not self.low <= number <= self.high or (self.whole and not number.is_integer()):
            return unread("score_out_of_range", match[0].strip()[:200])
        if of is not None and _as_number(of) != self.high:
            return unread("score_out_of_range", match[0].strip()[:200])
        return number


@dataclass(frozen=True)
class Choice:
    """One of two answers in a judge's reply, as 1 (`positive`) or 0 (`negative`).

    Negative forms are looked for first and longest first: "not equal" holds "equal". `place` is where they are looked
    for: "first" (the reply opens with one), "last" (its last line is one, or ends in one after a colon), "brackets"
    ([good], 【good】, <good>, 「good」, anywhere) or "anywhere". Both answers there contradict each other; so does one
    that is denied, supposed or asked for: "not [good]", "if it were shorter: [good]", "[good]?".
    """

    positive: tuple[str, ...] = ("yes",)
    negative: tuple[str, ...] = ("no",)
    place: str = "first"

    def __post_init__(self) -> None:
        if self.place not in ("first", "last", "brackets", "anywhere"):
            raise RecipeError(f"place of a choice is {self.place!r}; accepted: first, last, brackets, anywhere")
        if not all((*self.positive, *self.negative)) or not self.positive or not self.negative:
            raise RecipeError("a choice needs at least one positive and one negative form, none of them empty")

    @property
    def told(self) -> str:
        """What a prompt has to ask for, in words."""
        where = " in brackets" if self.place == "brackets" else ""
        return f"one of {', '.join(self.positive)} or one of {', '.join(self.negative)}{where}"

    def is_asked_in(self, text: str) -> bool:
        """Whether a prompt names an answer of either kind."""
        stated = self._in_brackets(text) if self.place == "brackets" else self._anywhere(text)
        return len({match[1].lower() in self._negatives for match in stated}) == 2

    def value_in(self, text: str) -> float | Drop:
        """1, 0, or one of no_score, contradictory."""
        stated = self._stated(text)
        found = {match[1].lower() in self._negatives for match in stated}
        if not found:
            return unread("no_score", text[-200:])
        if len(found) > 1 or any(_is_taken_back(text[: match.start()], text[match.end() :]) for match in stated):
            return unread("contradictory", text[-200:])
        return 0.0 if found.pop() else 1.0

    @property
    def _negatives(self) -> frozenset[str]:
        return frozenset(word.lower() for word in self.negative)

    @cached_property
    def _word(self) -> str:
        ordered = [*sorted(self.negative, key=len, reverse=True), *sorted(self.positive, key=len, reverse=True)]
        return "|".join(rf"{_edge(word[0])}{re.escape(word)}{_edge(word[-1], after=True)}" for word in ordered)

    def _stated(self, text: str) -> list[re.Match[str]]:
        """Where the reply holds an answer at its place; group 1 is the answer."""
        match self.place:
            case "first":
                opening = re.match(rf"[\W_]*({self._word}){_ANSWERS}", text, re.IGNORECASE)
                other = opening and self._after_opening.match(text, opening.end())
                return [found for found in (opening, other) if found]
            case "last":
                start = text.rstrip().rfind("\n") + 1
                ending = re.compile(rf"(?:^|[:：])[\W_]*({self._word})[\W_]*$", re.IGNORECASE | re.MULTILINE)
                return [found for found in [ending.search(text.rstrip(), start)] if found]
            case "brackets":
                return self._in_brackets(text)
            case _:
                return self._anywhere(text)

    def _in_brackets(self, text: str) -> list[re.Match[str]]:
        return list(re.finditer(rf"[\[［【<「『]\s*({self._word})\s*[\]］】>」』]", text, re.IGNORECASE))

    def _anywhere(self, text: str) -> list[re.Match[str]]:
        return list(re.finditer(f"({self._word})", text, re.IGNORECASE))

    @cached_property
    def _after_opening(self) -> re.Pattern[str]:
        """Another answer right behind the first: "yes/no", "No. Yes." but not "No. Yes would be wrong"."""
        return re.compile(rf"[\W_]*{_TURNS}({self._word})(?=\s*(?:[^\w\s]|$))", re.IGNORECASE)


def unread(reason: str, detail: str = "") -> Drop:
    """A reply without a verdict: it counts towards what may be unreadable."""
    return Drop(reason, detail.strip(), unreadable=True)


def _is_taken_back(before: str, after: str) -> bool:
    near = before[-_NEAR:]
    return bool(_DENIED.search(near) or _SUPPOSED.search(near) or _QUESTIONED.match(after))


def _as_number(text: str) -> float | None:
    """None for what is not one plain decimal number, such as "1,000" or "4.5.1"."""
    plain = re.fullmatch(r"([+\-−]?)(\d+)(?:[.,](\d{1,2}))?", text)
    return float(f"{plain[1].replace('−', '-')}{plain[2]}.{plain[3] or 0}") if plain else None


def _edge(char: str, *, after: bool = False) -> str:
    """A word boundary where the script has them: Chinese writes no spaces between words."""
    if not char.isascii() or not char.isalnum():
        return ""
    return r"(?![A-Za-z0-9_])" if after else r"(?<![A-Za-z0-9_])"
