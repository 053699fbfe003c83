"""Instruction back-and-forth translation. Nguyen et al. 2024, https://arxiv.org/abs/2408.04614

Humpback's backward model writes the instruction a web document answers, its forward model rates the pairs, and the best
stay. Then an aligned model rewrites the document into a better response that keeps to it, and a base model is tuned
on seed and rewritten pairs. Either half may be left out, or the rewriting replaced by answers from scratch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from msgspec.structs import replace

from reinstruct.errors import RecipeError
from reinstruct.llm import Reply, Sampling
from reinstruct.plan import Dataset, Model, Outcome
from reinstruct.preparation import Preparation
from reinstruct.recipes import humpback
from reinstruct.records import Document, Drop, Example, Pair, question
from reinstruct.stage import Transform
from reinstruct.stages.gather import DropDuplicates, Sample
from reinstruct.stages.instruct import (
    LoseLines,
    PutWithSystem,
    Rewrite,
    TeachInstruction,
    Template,
    WriteInstruction,
    example,
)
from reinstruct.stages.judge import KeepScore, Score, TeachRating
from reinstruct.stages.seed import KeepLanguage
from reinstruct.stages.segment import KeepWithinContext
from reinstruct.stages.verdict import Rating
from reinstruct.train.settings import Sft
from reinstruct.wording import worded

VARIANTS = ("filter", "rewrite", "both", "distil")


def back_and_forth(
    corpus: Dataset[Document],
    seed: Dataset[Pair],
    base: Model,
    rewriter: Model | None = None,
    judge: Model | None = None,
    *,
    variant: str = "both",
    cut: KeepWithinContext = KeepWithinContext(),
    prompts: Prompts | None = None,
    seed_language: str | None = None,
    seed_size: int = 3200,
    candidates: int = 0,
    keep: float = 5,
    size: int = 0,
    writing: Sampling = Sampling(temperature=1.0, top_p=0.9, max_tokens=512),
    rating: Sampling = Sampling(temperature=1.0, top_p=0.9, max_tokens=512),
    rewriting: Sampling = Sampling(temperature=1.0, top_p=0.9, max_tokens=2048),
    verdict: Rating = Rating(),
    max_unreadable: float = 0.5,
    teach_rating: bool = False,
    sft: Sft = Sft(2, learning_rate=1e-5, schedule="cosine", batch_size=32, weight_decay=0.1, dropout=0.1),
    prepare: Preparation = Preparation(),
    random_seed: int = 0,
) -> Outcome:
    """Plan the method.

    `variant`: "filter" curates, "rewrite" rewrites, "both" does the one and then the other, "distil" curates and has
    the rewriter answer the instructions without showing it the documents. `rewriter` and `judge` may be any chat
    models. Without a rewriter one is trained to restore the seed's responses from drafts that lack lines (for "distil"
    the forward model answers); without a judge the forward model rates. The other settings are Humpback's.
    """
    if variant not in VARIANTS:
        raise RecipeError(f"variant is {variant!r}; accepted: {', '.join(VARIANTS)}")
    prompts = prompts or Prompts()
    prompts.expect_read(verdict, "rate", *(("praise", "blame") if teach_rating else ()))
    verdict.expect_on_scale("keep", keep)
    rate_as_taught = prompts.rate.within(prompts.chat, prompts.seed_tag)
    spoken = seed.map(KeepLanguage(prompts.language if seed_language is None else seed_language), name="choose-seed")
    human = spoken.gather(Sample(seed_size, random_seed), name="human")
    backward = base.train(human.map(TeachInstruction(prompts.backward), name="reverse"), "backward", sft)
    said = human.map(PutWithSystem(prompts.chat, (prompts.seed_tag,)), name="tag-seed")
    lessons = TeachRating(rate_as_taught, prompts.praise, prompts.blame, seed=random_seed)
    taught = said + human.map(lessons, name="teach-rating") if teach_rating else said
    forward = base.train(taught, "forward", sft)

    texts = prepare.documents(corpus).map(cut, name="cut").gather(DropDuplicates(), name="deduplicate")
    chosen = texts.gather(Sample(candidates, random_seed), name="candidates")
    made = chosen.map(WriteInstruction(backward, prompts.backward, sampling=writing), name="guess")

    if variant != "rewrite":
        asked = prompts.rate.in_chat() if judge else rate_as_taught
        rate = Score(judge or forward, asked, verdict=verdict, sampling=rating, max_unreadable=max_unreadable)
        made = made.map(rate, KeepScore(at_least=keep), name="curate")
    if variant == "distil":
        as_taught = ANSWER.within(prompts.chat, f"{prompts.seed_tag} {prompts.web_tag}")
        asked = ANSWER.in_chat() if rewriter else as_taught
        answer = Rewrite(rewriter or forward, asked, sampling=rewriting)
        made = made.map(answer, name="distil")
    elif variant != "filter":
        rewrite_as_taught = prompts.rewrite.within(prompts.chat)
        drafts = human.map(LoseLines(seed=random_seed), TeachSpan(rewrite_as_taught), name="rewrite-data")
        aligned = rewriter or base.train(drafts, "rewriter", sft)
        asked = prompts.rewrite.in_chat() if rewriter else rewrite_as_taught
        improve = RewriteSpan(aligned, asked, sampling=rewriting, max_unreadable=max_unreadable)
        made = made.map(improve, name="rewrite")

    synthetic = prepare.without_leaks(made).gather(Sample(size, random_seed), name="sample")
    machine = synthetic.map(PutWithSystem(prompts.chat, (prompts.web_tag,)), name="tag-synthetic")
    final = base.train(said + machine, "final", sft)
    return Outcome(human + synthetic, final, PutWithSystem(prompts.chat, (prompts.seed_tag, prompts.web_tag)), sft)


@dataclass(frozen=True)
class RewriteSpan(Rewrite):
    """As `Rewrite`, with the response between two marks; the model may say what it likes around them.

    A plain prompt may end in the first mark, so that the reply begins with the response. Then the end of the reply,
    if the model came to it by itself, ends the response too.
    """

    def parse(self, record: Pair, reply: Reply) -> Pair | Drop:
        if not reply.text.strip():
            return Drop("empty_reply", unreadable=True)
        text = self.template.begins + reply.text
        if OPEN in self.template.begins and reply.finish == "stop" and CLOSE not in text:
            text += CLOSE
        output = span(text)
        return output if isinstance(output, Drop) else replace(record, output=output)


@dataclass(frozen=True)
class TeachSpan(Transform[Pair, Example]):
    """From a draft (the document) and an instruction, learn to write the good response between the marks."""

    template: Template

    def apply(self, record: Pair) -> Example:
        prompt = self.template.fill(document=record.document, instruction=question(record))
        target = f"{OPEN}\n{record.output}\n{CLOSE}"
        return example(record, prompt, target.removeprefix(self.template.begins))


def span(text: str) -> str | Drop:
    """What stands between the marks, or one of no_span, span_not_closed, empty_span, several_spans.

    A span opened again before it is closed begins at the later mark. "Between the one and the other" is talk about the
    marks, as in the prompt, and no span.
    """
    pieces = [part.split(OPEN)[-1].strip() for part in text.split(CLOSE)[:-1] if OPEN in part]
    pieces = [piece for piece in pieces if not _TALK.fullmatch(piece)]
    if not pieces:
        reason = "span_not_closed" if OPEN in text.split(CLOSE)[-1] else "no_span"
        return Drop(reason, text[:200], unreadable=True)
    if not all(re.search(r"\w", piece) for piece in pieces):
        return Drop("empty_span", text[:200], unreadable=True)
    if len(set(pieces)) > 1:
        return Drop("several_spans", text[:200], unreadable=True)
    return pieces[0]


OPEN, CLOSE = "[RES]", "[/RES]"
_TALK = re.compile(r"\W*(?:(?:and|to|until|or)(?:\W+the)?|[和与到至或])\W*")
ANSWER = Template("{instruction}")


@dataclass(frozen=True)
class Prompts(humpback.Prompts):
    """As in Humpback, and `rewrite`, which is put to models as `rate` is."""

    rewrite: Template = Template(
        f"""\
An assistant is asked the question below, and a draft of its answer is at hand. Make the draft a better answer: one that
is meant for this person and goes straight to what was asked. Stay as near to the draft as you can, keep its sentences
where they serve, and state nothing that is not in it. Write the answer between {OPEN} and {CLOSE}.

Draft:
{{document}}

Question:
{{instruction}}""",
        opening=f"{OPEN}\n",
    )

    @classmethod
    def english(cls) -> Prompts:
        """As they stand here."""
        return cls()

    @classmethod
    def chinese(cls) -> Prompts:
        """All of them in Chinese."""
        return worded(cls, "humpback.chinese", "back_and_forth.chinese")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.expect_marks("rewrite", OPEN, CLOSE)
