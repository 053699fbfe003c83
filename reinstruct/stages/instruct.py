"""Write and answer instructions with a model, and the training rows that teach a model to do so.

The one rule: a prompt is written once, as a Template; training and asking both fill the same one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from string import Formatter
from typing import ClassVar

from msgspec import structs

from reinstruct.draw import draw
from reinstruct.llm import Prompt, Reply
from reinstruct.records import Document, Drop, Example, Message, Pair, question
from reinstruct.stage import Ask, Transform
from reinstruct.stages.bounds import expect_share
from reinstruct.stages.sentences import sentences


@dataclass(frozen=True)
class Template:
    """A prompt with {placeholders}; a brace that is none is written twice.

    `chat` sends it as a user's message, for models with a chat template. A plain prompt ends in `opening`, the words
    with which the reply begins, so that even a small model begins as it should; in a chat there is none.
    """

    text: str
    chat: bool = False
    opening: str = ""

    def fill(self, **values: str) -> Prompt:
        """The prompt. Braces inside values are left alone."""
        filled = self.text.format_map(values)
        return (Message("user", filled),) if self.chat else filled + self.opening

    @property
    def begins(self) -> str:
        """What is said of the reply before the model speaks."""
        return "" if self.chat else self.opening

    @property
    def placeholders(self) -> frozenset[str]:
        """All that stands in braces. ValueError for braces that do not match."""
        parts = [part[1:] for part in Formatter().parse(self.text) if part[1] is not None]
        return frozenset(f"{name}{f'!{how}' if how else ''}{f':{form}' if form else ''}" for name, form, how in parts)

    def in_chat(self) -> Template:
        """The same, as a user's message."""
        return replace(self, chat=True)

    def within(self, frame: Template, *first: str) -> Template:
        """As a turn of the conversation that `frame` writes, whose {instruction} it is, after the sentences `first`."""
        text = frame.text.replace("{instruction}", self.text)
        return replace(self, text="\n\n".join((*filter(None, first), text)), chat=frame.chat)


def example(record: Pair, prompt: Prompt, target: str) -> Example:
    """A training row: after `prompt`, the model should say `target`."""
    if isinstance(prompt, str):
        return Example(id=record.id, prompt=prompt, target=target, origin=record.origin, licence=record.licence)
    return Example(id=record.id, messages=prompt, target=target, origin=record.origin, licence=record.licence)


@dataclass(frozen=True)
class TeachInstruction(Transform[Pair, Example]):
    """Pairs reversed: from the response, learn to write the instruction (and input) behind it.

    `origin` names these rows. Mixed with rows that answer, they are an auxiliary objective, as in CRAB
    (https://arxiv.org/abs/2410.24175; its release takes 70 % forward rows): `Sft.weights` says by that name how many of
    them an epoch shows.
    """

    template: Template
    origin: str = ""

    def apply(self, record: Pair) -> Example:
        taught = example(record, self.template.fill(response=record.output), question(record))
        return structs.replace(taught, origin=self.origin or record.origin)


@dataclass(frozen=True)
class WriteInstruction(Ask[Document, Pair]):
    """Which instruction does this text answer? The text becomes the response."""

    template: Template

    def prompt(self, record: Document) -> Prompt:
        return self.template.fill(response=record.text)

    def parse(self, record: Document, reply: Reply) -> Pair | Drop:
        instruction = reply.text.strip()
        if not instruction:
            return Drop("empty_reply")
        if reply.finish == "length":
            return Drop("cut_off", instruction[:200])
        return made_from(record, instruction=instruction, output=record.text)


def made_from(record: Document, *, instruction: str, output: str, input: str = "") -> Pair:
    """A synthetic pair that remembers the document it is from."""
    return Pair(
        id=record.id,
        instruction=instruction,
        input=input,
        output=output,
        origin="synthetic",
        document=record.text,
        document_id=record.id,
        url=record.url,
        source=record.source,
        licence=record.licence,
    )


@dataclass(frozen=True)
class TeachRewriting(Transform[Pair, Example]):
    """From a document and an instruction, learn to write the good response."""

    template: Template

    def apply(self, record: Pair) -> Example | Drop:
        if not record.document:
            return Drop("no_document")
        prompt = self.template.fill(document=record.document, instruction=question(record))
        return example(record, prompt, record.output)


@dataclass(frozen=True)
class Rewrite(Ask[Pair, Pair]):
    """Answer the instruction from the document; the reply becomes the response."""

    template: Template

    def prompt(self, record: Pair) -> Prompt:
        return self.template.fill(document=record.document, instruction=question(record))

    def parse(self, record: Pair, reply: Reply) -> Pair | Drop:
        output = reply.text.strip()
        if not output:
            return Drop("empty_reply")
        if reply.finish == "length":
            return Drop("cut_off", output[:200])
        return structs.replace(record, output=output)


@dataclass(frozen=True)
class LoseLines(Transform[Pair, Pair]):
    """Turn a response into a noisy document by losing lines of it, so that rewriting can be learnt from pairs alone.

    Each line is lost with probability `share`, drawn by (seed, id); at least one is lost and one kept. A response of
    fewer than three lines loses sentences instead. Source: the line dropout of Self-Lengthen, as methods for making
    rewriting data without a stronger model; the share there is 0.2.
    """

    version: ClassVar[int] = 2
    share: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        expect_share("LoseLines.share", self.share)

    def apply(self, record: Pair) -> Pair | Drop:
        pieces = [f"{line}\n" for line in record.output.split("\n") if line.strip()]
        if len(pieces) < 3:
            pieces = sentences(record.output.strip())
        if len(pieces) < 2:
            return Drop("single_sentence")
        draws = [draw(self.seed, record.id, number) for number in range(len(pieces))]
        lost = {number for number, draw in enumerate(draws) if draw < self.share}
        lost = lost or {draws.index(min(draws))}
        if len(lost) == len(pieces):
            lost.discard(draws.index(max(draws)))
        kept = [piece for number, piece in enumerate(pieces) if number not in lost]
        return structs.replace(record, document="".join(kept).strip(), document_id=record.id)


@dataclass(frozen=True)
class Repeat(Transform[Pair, Pair]):
    """Each pair `times` times, under ids of their own: how a small seed keeps its weight beside synthetic pairs."""

    expands: ClassVar[bool] = True
    times: int = 2

    def apply(self, record: Pair) -> list[Pair]:
        copies = [structs.replace(record, id=f"{record.id}#{number}") for number in range(2, self.times + 1)]
        return [record, *copies]


@dataclass(frozen=True)
class PutToModel(Transform[Pair, Example]):
    """A pair as the tuned model is trained and asked: the instruction, the tags that say where its answer comes from.

    Tags stand after the instruction, one space before each (REInstruct's released constants and train/sft.py).
    """

    template: Template
    tags: tuple[str, ...] = field(default=())

    def apply(self, record: Pair) -> Example:
        asked = " ".join((question(record), *self.tags))
        return example(record, self.template.fill(instruction=asked), record.output)


@dataclass(frozen=True)
class PutWithSystem(Transform[Pair, Example]):
    """As `PutToModel`, with the tags as system sentences before all else (Humpback and Back-and-Forth)."""

    template: Template
    tags: tuple[str, ...] = field(default=())

    def apply(self, record: Pair) -> Example:
        prompt = system_first(self.template.fill(instruction=question(record)), self.tags)
        return example(record, prompt, record.output)


def system_first(prompt: Prompt, sentences: tuple[str, ...]) -> Prompt:
    """The sentences as the system's turn of a conversation, or as the first paragraph of a plain prompt."""
    said = " ".join(sentences)
    if not said:
        return prompt
    return f"{said}\n\n{prompt}" if isinstance(prompt, str) else (Message("system", said), *prompt)
