"""Humpback: self-alignment with instruction backtranslation. Li et al. 2023, https://arxiv.org/abs/2308.06259

Two models are tuned on the same seed, one forward, one backward. The backward model writes the instruction each segment
of the web answers (self-augmentation). The forward model rates these pairs, and the next forward model is tuned on the
seed and the best of them (self-curation), twice over. Nothing stronger than the base model is needed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from reinstruct.errors import RecipeError
from reinstruct.llm import Sampling
from reinstruct.plan import Dataset, Model, Outcome
from reinstruct.preparation import Preparation
from reinstruct.records import Document, Pair
from reinstruct.stages.gather import DropDuplicates, Sample
from reinstruct.stages.instruct import PutWithSystem, TeachInstruction, Template, WriteInstruction
from reinstruct.stages.judge import KeepScore, Score, TeachRating
from reinstruct.stages.seed import KeepLanguage
from reinstruct.stages.segment import DropRepetitive, SegmentRules, SplitAtHeaders
from reinstruct.stages.verdict import Rating
from reinstruct.train.settings import Sft
from reinstruct.wording import Wording, worded


def humpback(
    corpus: Dataset[Document],
    seed: Dataset[Pair],
    base: Model,
    judge: Model | None = None,
    *,
    headers: SplitAtHeaders = SplitAtHeaders(),
    rules: SegmentRules = SegmentRules(),
    repetition: DropRepetitive = DropRepetitive(),
    prompts: Prompts | None = None,
    seed_language: str | None = None,
    seed_size: int = 3200,
    candidates: int = 0,
    rounds: int = 2,
    keep: float = 4.5,
    size: int = 0,
    writing: Sampling = Sampling(temperature=0.7, top_p=0.9, max_tokens=512),
    rating: Sampling = Sampling(temperature=0.7, top_p=0.9, max_tokens=512),
    verdict: Rating = Rating(),
    max_unreadable: float = 0.5,
    teach_rating: bool = False,
    sft: Sft = Sft.humpback(),
    paper_steps: bool = True,
    prepare: Preparation = Preparation(),
    random_seed: int = 0,
) -> Outcome:
    """Plan the method.

    `seed` are pairs or Open Assistant trees; of those in the language (that of the `prompts`, unless `seed_language`
    names another), `seed_size` are taken. `candidates` samples that many segments before any model sees them, `size`
    that many curated pairs in each round; 0 takes all. Pairs rated `keep` or more are curated; a step fails if more
    than `max_unreadable` of its verdicts cannot be read. A `judge` (any chat model) rates in place of the forward
    models; it does not change, so there is one round. `teach_rating` adds lessons in judging to the forward models that
    rate, for bases too small to follow a scale. With `paper_steps`, epochs and batch are the paper's wherever
    `seed_size` and `size` tell how much data there is.
    """
    if rounds < 1:
        raise RecipeError(f"rounds is {rounds}; accepted: how often pairs are curated, 1 or more")
    prompts = prompts or Prompts()
    prompts.expect_read(verdict, "rate", *(("praise", "blame") if teach_rating else ()))
    verdict.expect_on_scale("keep", keep)
    rate_as_taught = prompts.rate.within(prompts.chat, prompts.seed_tag)
    first = paper_schedule(seed_size, sft) if paper_steps and seed_size else sft
    later = paper_schedule(seed_size + size, sft) if paper_steps and seed_size and size else sft

    spoken = seed.map(KeepLanguage(prompts.language if seed_language is None else seed_language), name="choose-seed")
    human = spoken.gather(Sample(seed_size, random_seed), name="human")
    backward = base.train(human.map(TeachInstruction(prompts.backward), name="reverse"), "backward", first)
    said = human.map(PutWithSystem(prompts.chat, (prompts.seed_tag,)), name="tag-seed")
    lessons = TeachRating(rate_as_taught, prompts.praise, prompts.blame, seed=random_seed)
    taught = said + human.map(lessons, name="teach-rating") if teach_rating else said
    forward = base.train(taught, "forward-0", first)

    pages = prepare.documents(corpus)
    segments = pages.map(headers, rules, repetition, name="segments").gather(DropDuplicates(), name="deduplicate")
    texts = segments.gather(Sample(candidates, random_seed), name="candidates")
    guesses = texts.map(WriteInstruction(backward, prompts.backward, sampling=writing), name="guess")
    guesses = prepare.without_leaks(guesses)

    curated, last = guesses, 1 if judge else rounds
    for number in range(1, last + 1):
        rater, asked = (judge, prompts.rate.in_chat()) if judge else (forward, rate_as_taught)
        rate = Score(rater, asked, verdict=verdict, sampling=rating, max_unreadable=max_unreadable)
        rated = guesses.map(rate, KeepScore(at_least=keep), name=f"curate-{number}")
        curated = rated.gather(Sample(size, random_seed), name=f"curated-{number}")
        found = curated.map(PutWithSystem(prompts.chat, (prompts.web_tag,)), name=f"tag-web-{number}")
        forward = base.train((taught if number < last else said) + found, f"forward-{number}", later)
    return Outcome(human + curated, forward, PutWithSystem(prompts.chat, (prompts.seed_tag, prompts.web_tag)), later)


def paper_schedule(rows: int, sft: Sft) -> Sft:
    """`sft` with the batch and epochs of the paper for this many rows, from its table of steps by size.

    Between two sizes of the table the epochs are those of the larger; above all, those of the largest.
    """
    if rows < 1:
        raise RecipeError(f"a schedule for {rows} rows; accepted: 1 or more")
    size, batch, steps = next((entry for entry in STEPS if rows <= entry[0]), STEPS[-1])
    return replace(sft, batch_size=batch, epochs=steps * batch / size)


# (rows, sequences of a batch, steps)
STEPS = (
    (100, 8, 30),
    (800, 8, 300),
    (1600, 8, 600),
    (3200, 32, 500),
    (6400, 32, 600),
    (12800, 32, 600),
    (25600, 32, 1200),
    (51200, 32, 1600),
)


@dataclass(frozen=True)
class Prompts(Wording):
    """What is said to the models: `rate` to those that judge, as a turn of `chat` or, to a `judge` of its own, as a
    user's message; `praise` and `blame` are lessons in judging. The tags are sentences, `language` is the seed's.
    """

    language: str = "en"
    seed_tag: str = "Answer as a good AI assistant would."
    web_tag: str = "Answer with what a search of the web brings up."
    backward: Template = Template(
        """\
Below is what an assistant replied to somebody. The message it replied to follows.

### Reply
{response}

### Message
"""
    )
    chat: Template = Template(
        """\
### Person
{instruction}

### Assistant
"""
    )
    rate: Template = Template(
        """\
Somebody sent the request below and got the answer below. Would the answer teach an AI assistant how to reply? Rate it:

1 - Not usable: it misses the request, is vague, breaks off or repeats itself; or it is no answer but an advertisement,
    a menu, a forum post, or somebody's own story and opinions.
2 - It deals with most of the request but does not answer it outright: it names an approach and leaves the rest open.
3 - It is complete and of use, but was plainly not written for this person: it reads like an article or a blog.
4 - It is written to this person, complete and clear; some of it could be tighter, or is not needed.
5 - It could not be better: just what was asked, by one who knows, in good order, with nothing to take away.

Request:
{instruction}

Answer:
{response}

First give your reasons in a few sentences. Then end with a line that holds the word Score, a colon and the number.""",
        opening="Reasons:\n",
    )
    praise: str = "It answers all that was asked.\nScore: 5"
    blame: str = "Parts of the answer are missing.\nScore: 2"

    @classmethod
    def english(cls) -> Prompts:
        """As they stand here."""
        return cls()

    @classmethod
    def chinese(cls) -> Prompts:
        """All of them in Chinese."""
        return worded(cls, "humpback.chinese")
