"""Cycle-Instruct: instruction data without seed or teacher. Shen et al. 2025, https://arxiv.org/abs/2508.16100

Raw text holds questions and answers, not both together. Two models supply the missing halves: one answers the real
questions, the other writes questions for the real answers, and each is trained to rebuild the real half from what the
other made up. Pairs that do not survive the round trip are pruned, and a base model is tuned on the rest.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import ClassVar

from msgspec.structs import replace as with_fields

from reinstruct.errors import RecipeError
from reinstruct.llm import Prompt, Reply, Sampling
from reinstruct.plan import Dataset, Model, Outcome
from reinstruct.preparation import Preparation
from reinstruct.records import Document, Drop, Pair, Score, question
from reinstruct.stage import Ask
from reinstruct.stages.cluster import PruneClusters
from reinstruct.stages.gather import DropDuplicates, Sample
from reinstruct.stages.instruct import PutToModel, TeachInstruction, Template, WriteInstruction, made_from
from reinstruct.stages.sentences import whole_sentences
from reinstruct.stages.sides import Guard, KeepSide, Sides, SplitSegments
from reinstruct.train.settings import Sft
from reinstruct.wording import Wording, worded


def cycle_instruct(
    corpus: Dataset[Document],
    base: Model,
    seed: Dataset[Pair] | None = None,
    polisher: Model | None = None,
    *,
    cycles: int = 3,
    per_side: int = 0,
    sides: Sides = Sides(),
    prompts: Prompts | None = None,
    polishing: Sampling = Sampling(max_tokens=1024),
    asking: Sampling = Sampling(temperature=0.7, top_p=0.9, max_tokens=128),
    answering: Sampling = Sampling(temperature=0.7, top_p=0.9, max_tokens=512, stop=("\n###",)),
    rebuilding: Sampling = Sampling(max_tokens=512, stop=("\n###",)),
    good_question: Guard = Guard("instruction", min_words=3, max_words=150),
    good_answer: Guard = Guard("output", min_words=5, max_words=800),
    prune: PruneClusters = PruneClusters(),
    rates: tuple[float, ...] = (1.0, 0.8, 0.5, 0.3, 0.1),
    sft: Sft = Sft.cycle_instruct(),
    prepare: Preparation = Preparation(),
    random_seed: int = 0,
    compat: bool = False,
) -> Outcome:
    """Plan the method.

    `seed` only measures: no model sees it. `polisher` (any chat model) makes each segment self-contained first, as the
    paper does; without one, segments stay as they are. `per_side` samples that many questions and as many answers; 0
    takes all. `rates` are shares of the learning rate in each cycle, of which the last stays. A `prune.share` of 0
    leaves the filter out. `compat` splits by the paper's question mark and asks the untuned base without examples.
    """
    prompts = prompts or Prompts()
    ask, answer = prompts.ask, prompts.answer
    sides = replace(sides, compat=compat or sides.compat)
    segments = prepare.documents(corpus).map(SplitSegments(sides), name="segment")
    questions = segments.map(KeepSide("question", sides), name="ask-side")
    answers = segments.map(KeepSide("answer", sides), name="tell-side")
    questions = questions.gather(Sample(per_side, random_seed), name="questions")
    answers = answers.gather(Sample(per_side, random_seed), name="answers")
    if polisher is not None:
        questions = questions.map(
            Polish(polisher, prompts.polish_question, sampling=polishing), name="polish-questions"
        )
        answers = answers.map(Polish(polisher, prompts.polish_answer, sampling=polishing), name="polish-answers")

    answerer, asker, asked = base, base, None
    for cycle, tuning in enumerate(_tunings(sft, rates, cycles), start=1):
        prompt = answer if cycle > 1 or compat else prompts.first_answer
        answered = questions.map(Answer(answerer, prompt, sampling=answering), good_answer, name=f"answer-{cycle}")
        asker = asker.train(answered.map(TeachInstruction(ask), name=f"rebuild-q-{cycle}"), f"asker-{cycle}", tuning)
        write = WriteInstruction(asker, ask, sampling=asking)
        asked = answers.map(write, good_question, name=f"ask-{cycle}")
        asked = asked.gather(DropDuplicates("instruction"), name=f"distinct-{cycle}")
        answerer = answerer.train(asked.map(PutToModel(answer), name=f"rebuild-a-{cycle}"), f"answerer-{cycle}", tuning)

    assert asked is not None  # there is a cycle
    answered = questions.map(Answer(answerer, answer, sampling=answering), good_answer, name="answer-last")
    pairs = answered + asked
    if prune.share:
        rebuilt_questions = answered.map(Rebuild(asker, ask, "instruction", sampling=rebuilding), name="round-trip-q")
        rebuilt_answers = asked.map(Rebuild(answerer, answer, "output", sampling=rebuilding), name="round-trip-a")
        pairs = (rebuilt_questions + rebuilt_answers).gather(prune, name="prune")

    pairs = prepare.without_leaks(pairs)
    final = base.train(pairs.map(PutToModel(answer), name="final-data"), "final", sft)
    return Outcome(pairs, final, PutToModel(answer), sft)


def _tunings(sft: Sft, rates: tuple[float, ...], cycles: int) -> list[Sft]:
    if cycles < 1:
        raise RecipeError(f"cycles is {cycles}; accepted: 1 or more")
    if not rates or min(rates) <= 0:
        raise RecipeError(f"rates are {rates}; accepted: one or more numbers above 0")
    shares = (*rates, *[rates[-1]] * cycles)[:cycles]
    return [replace(sft, learning_rate=sft.learning_rate * share) for share in shares]


@dataclass(frozen=True)
class Polish(Ask[Document, Document]):
    """Light rewriting (paper, step 2): the segment must stay what it is, so what has little in common is refused."""

    template: Template
    max_distance: float = 0.6

    def prompt(self, record: Document) -> Prompt:
        return self.template.fill(text=record.text)

    def parse(self, record: Document, reply: Reply) -> Document | Drop:
        text = reply.text.strip()
        if not text:
            return Drop("empty_reply")
        if reply.finish == "length":
            return Drop("cut_off", text[:200])
        if text_distance(record.text, text) > self.max_distance:
            return Drop("drifted", text[:200])
        return with_fields(record, text=text)


@dataclass(frozen=True)
class Answer(Ask[Document, Pair]):
    """Answer a real question. A base model rarely ends by itself: a reply that was cut off keeps its whole sentences,
    for it is only the made-up half.
    """

    version: ClassVar[int] = 2
    template: Template

    def prompt(self, record: Document) -> Prompt:
        return self.template.fill(instruction=record.text)

    def parse(self, record: Document, reply: Reply) -> Pair | Drop:
        output = reply.text.strip()
        if not output:
            return Drop("empty_reply")
        if reply.finish == "length":
            output = whole_sentences(output)
        if not output:
            return Drop("cut_off", reply.text[:200])
        return made_from(record, instruction=record.text, output=output)


@dataclass(frozen=True)
class Rebuild(Ask[Pair, Pair]):
    """One more round trip: rebuild the real half of a pair (`gold`: instruction or output) from the made-up one, and
    score how far off the rebuilt text is as "cycle_distance". No reply at all is as far off as can be.
    """

    template: Template
    gold: str

    def prompt(self, record: Pair) -> Prompt:
        if self.gold == "instruction":
            return self.template.fill(response=record.output)
        return self.template.fill(instruction=question(record))

    def parse(self, record: Pair, reply: Reply) -> Pair:
        distance = text_distance(record.document, reply.text)
        return with_fields(record, scores=(*record.scores, Score("cycle_distance", round(distance, 6))))


def text_distance(gold: str, rebuilt: str, longest: int = 6, beta: float = 2.0) -> float:
    """1 - chrF: 0 for equal texts, 1 for texts without a character in common. White space does not count.

    chrF is the F-score of character n-grams up to `longest`, with recall `beta` times as weighty as precision
    (Popović 2015, https://aclanthology.org/W15-3049): a measure of overlap in any language that needs no model.
    """
    texts = ["".join(text.split()) for text in (gold, rebuilt)]
    recalls: list[float] = []
    precisions: list[float] = []
    for size in range(1, longest + 1):
        wanted, found = (Counter(text[at : at + size] for at in range(len(text) - size + 1)) for text in texts)
        if wanted or found:
            shared = (wanted & found).total()
            recalls.append(shared / max(1, wanted.total()))
            precisions.append(shared / max(1, found.total()))
    recall, precision = (sum(values) / max(1, len(values)) for values in (recalls, precisions))
    if not recall or not precision:
        return 1.0
    return 1 - (1 + beta**2) * precision * recall / (beta**2 * precision + recall)


@dataclass(frozen=True)
class Prompts(Wording):
    """What is said to the models: `first_answer` to the base model before it has learnt to answer, `polish_question`
    and `polish_answer` to the polisher.
    """

    answer: Template = Template(
        """\
### Question
{instruction}

### Answer
"""
    )
    first_answer: Template = Template(
        """\
Questions from readers, each followed by a complete and friendly answer.

### Question
Why do my tomatoes crack just before they are ripe?

### Answer
Cracks usually come from uneven watering. After a dry spell a heavy soak makes the fruit swell faster than its skin \
can stretch. Water a little every other day instead of a lot at once, and cover the soil so that it stays damp.

### Question
I have two lists of names in a spreadsheet. How can I see which names are in both?

### Answer
Put the lists into columns A and B. In C1, count how often the name in A1 stands in column B, then fill the formula \
down. Every row with a number above zero is a name that both lists hold; a filter on column C leaves only those.

### Question
{instruction}

### Answer
"""
    )
    ask: Template = Template(
        """\
### Answer
{response}

### The question that was asked
"""
    )
    polish_question: Template = Template(
        """\
The question below was cut out of a longer text. Word it so that a stranger understands it without that text: say who \
or what is meant, keep its meaning, its language and as many of its words as you can. Write the question and nothing \
else.

{text}""",
        chat=True,
    )
    polish_answer: Template = Template(
        """\
The passage below was cut out of a longer text. Make it read as a piece of its own: mend broken sentences and \
references to what is missing, add nothing, keep its language and as many of its words as you can. Write the passage \
and nothing else.

{text}""",
        chat=True,
    )

    @classmethod
    def english(cls) -> Prompts:
        """As they stand here."""
        return cls()

    @classmethod
    def chinese(cls) -> Prompts:
        """All of them in Chinese."""
        return worded(cls, "cycle_instruct.chinese")
