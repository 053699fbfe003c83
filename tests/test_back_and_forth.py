"""Back-and-Forth by the rules of its paper: what each variant cuts, rates and rewrites, and how spans are read."""

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from reinstruct.errors import RecipeError
from reinstruct.llm import Reply
from reinstruct.plan import Model, Outcome, Step, walk
from reinstruct.recipes.back_and_forth import CLOSE, OPEN, Prompts, RewriteSpan, back_and_forth, span
from reinstruct.records import Document, Drop, Example, Message, Pair
from reinstruct.stages.segment import KeepWithinContext
from tests.in_process import rejected
from tests.scripted_world import World

PROMPTS = Prompts()
SEED, WEB = PROMPTS.seed_tag, PROMPTS.web_tag
REWRITE, REWRITE_CHAT = PROMPTS.rewrite.within(PROMPTS.chat), PROMPTS.rewrite.in_chat()
SEEDS = [{"id": "s1", "instruction": "Boil an egg.", "output": "Heat water.\nPut the egg in.\nWait six minutes."}]
PAGES = [{"id": f"d{n}", "text": f"Page {n} tells of boats."} for n in range(4)]
PAGES += [{"id": "long", "text": "x" * 401}, {"id": "twin", "text": "Page 0 tells of boats."}]
CUT = KeepWithinContext(context_tokens=200, reserved_tokens=100, chars_per_token=4)
VERDICTS = {"0": "Score: 5", "1": "Score: 4", "2": "Good.", "3": "Fine.\nScore: 5/5"}
REWRITER = Model(uri="org/rewriter")


class BackAndForth(World):
    def plan(self, **given: Any) -> Outcome:
        corpus, seed = self.dataset("corpus", Document, PAGES), self.dataset("seed", Pair, SEEDS)
        return back_and_forth(corpus, seed, Model(uri="org/base"), **{"cut": CUT, "max_unreadable": 1.0, **given})

    def made(self, **given: Any) -> dict[str, str]:
        """Id to response of the synthetic pairs."""
        return {pair.id: pair.output for pair in self.make(self.plan(**given).data.step) if pair.origin != "seed"}


def answer(name: str, prompt: str) -> str:
    number = next(n for n in "0123" if f"Page {n}" in prompt or f"boats {n}?" in prompt)
    if name == "backward":
        return f"What of boats {number}?"
    if "the word Score" in prompt:
        return VERDICTS[number]
    if OPEN not in prompt:
        return f"From memory {number}."
    if name == "rewriter":
        return f"Better {number}.\n{CLOSE}"
    return "I would rather not." if number == "3" else f"Here it is. {OPEN} Better {number}. {CLOSE} Well?"


@pytest.fixture
def world(tmp_path: Path) -> BackAndForth:
    return BackAndForth(tmp_path, answer)


def step_of(outcome: Outcome, name: str) -> Step:
    return next(step for step in walk(outcome.data.step, outcome.model.step) if step.name == name)


def names(outcome: Outcome) -> set[str]:
    return {step.name for step in walk(outcome.data.step, outcome.model.step)}


def test_both_halves(world):
    outcome = world.plan(rewriter=REWRITER)
    made = world.make(outcome.data.step)
    assert [(pair.id, pair.output, pair.document) for pair in made if pair.origin == "synthetic"] == [
        ("d0", "Better 0.", "Page 0 tells of boats.")
    ]
    assert made[-1].instruction == "What of boats 0?"
    curate, rewrite = step_of(outcome, "curate"), step_of(outcome, "rewrite")
    assert {row.id: row.reason for row in rejected(world.store, curate)} == {"d1": "low_quality", "d2": "no_score"}
    assert {row.id: row.reason for row in rejected(world.store, rewrite)} == {"d3": "no_span"}
    assert len(world.asked["org/rewriter"].asked) == 2, "only what was curated is paid for"


def test_each_variant(world):
    texts = {row["id"]: row["text"] for row in PAGES}
    assert world.made(variant="filter") == {"d0": texts["d0"], "d3": texts["d3"]}
    assert world.made(variant="rewrite", rewriter=REWRITER) == {f"d{n}": f"Better {n}." for n in range(3)}
    assert world.made(variant="both", rewriter=REWRITER) == {"d0": "Better 0."}
    assert world.made(variant="distil", rewriter=REWRITER) == {"d0": "From memory 0.", "d3": "From memory 3."}
    with pytest.raises(RecipeError, match="accepted: filter, rewrite, both, distil"):
        world.plan(variant="none")


def test_a_variant_plans_only_what_it_needs(world):
    assert names(world.plan(variant="filter")).isdisjoint({"rewrite", "rewriter", "distil"})
    assert names(world.plan(variant="rewrite")).isdisjoint({"curate", "forward", "distil"})
    assert names(world.plan(variant="distil")).isdisjoint({"rewrite", "rewriter"})
    assert {"curate", "forward", "rewrite", "rewriter"} <= names(world.plan())
    assert names(world.plan(rewriter=REWRITER, judge=Model(uri="j"))).isdisjoint({"forward", "rewriter"})


def test_distilling_never_shows_the_document(world):
    world.made(variant="distil", rewriter=REWRITER)
    assert all("Page" not in turns[-1].content for turns in world.asked["org/rewriter"].asked)
    world.made(variant="distil")
    answered = [prompt for prompt in world.asked["forward"].asked if "the word Score" not in prompt]
    assert answered[0] == f"{SEED} {WEB}\n\n### Person\nWhat of boats 0?\n\n### Assistant\n"


def test_long_documents_and_copies_are_left_out(world):
    outcome = world.plan(variant="filter")
    world.make(outcome.data.step)
    assert {row.id: row.reason for row in rejected(world.store, step_of(outcome, "cut"))} == {"long": "near_context"}
    assert [row.id for row in rejected(world.store, step_of(outcome, "deduplicate"))] == ["twin"]


def test_without_a_rewriter_one_learns_to_restore_the_seed(world):
    (lesson,) = world.make(step_of(world.plan(), "rewrite-data"))
    assert isinstance(lesson, Example)
    assert lesson.prompt.endswith(f"{OPEN}\n"), "the first mark is given, so that a small model need not find it"
    assert span(OPEN + lesson.target) == SEEDS[0]["output"]
    draft = lesson.prompt.partition("Draft:\n")[2].partition("\n\nQuestion:")[0]
    assert draft
    assert len(draft) < len(SEEDS[0]["output"])
    assert world.made()["d0"] == "Better 0."


def test_the_sources_are_marked(world):
    outcome = world.plan(rewriter=REWRITER)
    shown = world.make(outcome.model.step.inputs[0])
    assert [(row.id, row.prompt.split("\n\n")[0], row.target) for row in shown] == [
        ("s1", SEED, SEEDS[0]["output"]),
        ("d0", WEB, "Better 0."),
    ]
    asked = outcome.ask.apply(Pair(id="x", instruction="Why?", output="So."))
    assert asked.prompt.startswith(f"{SEED} {WEB}\n\n")


def test_a_setting_changes_only_what_follows(world):
    def ids(**settings):
        steps = walk(*[part.step for part in (world.plan(**settings).data, world.plan(**settings).model)])
        return {step.name: step.id for step in steps if step.name != "concat"}

    before = ids()
    assert before == ids()
    changed = {name for name, made in ids(keep=4).items() if made != before[name]}
    assert changed == {"curate", "rewrite", "sample", "tag-synthetic", "final"}


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("[RES]yes[/RES]", "yes"),
        ("Sure!\n[RES]\nOne.\n\nTwo.\n[/RES]\nAnything else?", "One.\n\nTwo."),
        ("[RES]again[/RES] [RES]again[/RES]", "again"),
        ("I write between [RES] like this: [RES] text [/RES]", "text"),
        ("", Drop("no_span")),
        ("just text", Drop("no_span")),
        ("text [/RES]", Drop("no_span")),
        ("[/RES] text [RES]", Drop("span_not_closed")),
        ("Put it between [RES] and [/RES]: [RES]it[/RES]", "it"),
        ("Put it between `[RES]` and `[/RES]`:\n\n[RES]it[/RES]", "it"),
        ("From the [RES] to the [/RES] mark stands my answer.", Drop("no_span")),
        ("[RES] it [RES]", Drop("span_not_closed")),
        ("[RES] one [/RES] [RES] two", "one"),
        ("[RES] cut off in the mid", Drop("span_not_closed")),
        ("[RES] \n [/RES]", Drop("empty_span")),
        ("[RES] ... [/RES]", Drop("empty_span")),
        ("[RES]one[/RES] or [RES]two[/RES]", Drop("several_spans")),
        ("[res]yes[/res]", Drop("no_span")),
    ],
)
def test_spans(reply, found):
    got = span(reply)
    if isinstance(found, Drop):
        assert isinstance(got, Drop)
        assert (got.reason, got.unreadable) == (found.reason, True)
    else:
        assert got == found


def real_answers(folder: Path) -> list[str]:
    path = folder / "outputs" / "alpaca_eval" / "dev_llama-2-7b-chat-hf.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line)["output"].strip() for line in file]


def test_real_answers_hold_a_span_only_between_marks(shared_data):
    answers = [text for text in real_answers(shared_data) if text]
    assert len(answers) > 700
    stage = RewriteSpan(REWRITER, REWRITE_CHAT)
    pair = Pair(id="p", instruction="How?", output="o", document="A text about boats.")
    for text in answers:
        bare = stage.parse(pair, Reply(text))
        assert isinstance(bare, Drop)
        assert (bare.reason, bare.unreadable) == ("no_span", True)
        marked = stage.parse(pair, Reply(f"Sure, here it is:\n{OPEN}\n{text}\n{CLOSE}\nAnything else?"))
        assert isinstance(marked, Pair)
        assert marked.output == text
        for cut in (len(text) // 2, len(text)):
            half = stage.parse(pair, Reply(f"{OPEN}\n{text[:cut]}", "length"))
            assert isinstance(half, Drop)
            assert half.reason == "span_not_closed"


def test_any_text_gives_a_span_or_a_reason():
    chance = random.Random(3)
    for _ in range(3000):
        text = "".join(chance.choices([OPEN, CLOSE, "a", " ", "\n", "[", "\ud800", "."], k=chance.randrange(9)))
        got = span(text)
        assert isinstance(got, Drop) or (got and OPEN not in got and CLOSE not in got)


def test_a_prompt_given_back_is_no_response():
    stage = RewriteSpan(REWRITER, REWRITE_CHAT)
    pair = Pair(id="p", instruction="How?", output="o", document="A text about boats and how to build them.")
    (message,) = stage.prompt(pair)
    assert isinstance(message, Message)
    for text in (message.content, "Write the answer between [RES] and [/RES].", " "):
        assert isinstance(stage.parse(pair, Reply(text)), Drop)
    kept = stage.parse(pair, Reply(f"{OPEN}\n{pair.document}\n{CLOSE}"))
    assert isinstance(kept, Pair), "keeping to the draft is what was asked for"
    assert kept.output == pair.document
    cut = stage.parse(pair, Reply(f"{OPEN} Build a", "length"))
    assert isinstance(cut, Drop)
    assert cut.reason == "span_not_closed"
    late = stage.parse(pair, Reply(f"{OPEN} Build it. {CLOSE} And", "length"))
    assert isinstance(late, Pair), "what was cut off came after the response"


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        (f"Build it.\n{CLOSE}", "Build it."),
        (f"{OPEN}Build it.{CLOSE} And", "Build it."),
        ("Build it", "Build it"),
        (f" {CLOSE}", "empty_span"),
        (OPEN, "empty_span"),
    ],
)
def test_a_prompt_that_opens_the_span_needs_only_its_end(reply, found):
    pair = Pair(id="p", instruction="How?", output="o", document="A text about boats.")
    stage = RewriteSpan(REWRITER, REWRITE)
    got = stage.parse(pair, Reply(reply))
    assert (got.reason if isinstance(got, Drop) else got.output) == found
    cut = stage.parse(pair, Reply("Build it", "length"))
    assert isinstance(cut, Drop), "who was cut off has not ended the response"
    assert cut.reason == "span_not_closed"
