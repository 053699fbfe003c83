"""Humpback by the rules of its paper: who learns from what, who rates what, what is kept, how long it trains."""

from pathlib import Path
from typing import Any

import pytest

from reinstruct.commit import result_of
from reinstruct.corpus.open import open_source
from reinstruct.errors import RecipeError, ShardError
from reinstruct.layout import ensure_layout
from reinstruct.plan import Model, Outcome, Step, Train, read, walk
from reinstruct.planning import Ask, plan_run
from reinstruct.recipes.humpback import STEPS, Prompts, humpback, paper_schedule
from reinstruct.records import Document, Example, Pair
from reinstruct.stages.segment import SegmentRules
from reinstruct.stages.verdict import Rating
from reinstruct.train.settings import Sft
from tests.in_process import rejected
from tests.scripted_world import World

SEED, WEB = Prompts().seed_tag, Prompts().web_tag
BODY = "It takes {n} days, and the whole town of place number {n} comes to help with it. " * 9
SEEDS = [
    {"id": "s1", "instruction": "Boil an egg.", "output": "Heat water. Put the egg in. Wait."},
    {"id": "s2", "instruction": "Name a river.", "output": "The Rhine. It is long. It is in Europe."},
]
VERDICTS = {0: "Fine.\nScore: 5", 1: "Wordy.\nScore: 4", 2: "Score: 5 or 4", 3: "Score: 10502", 4: "I like it."}


def body(n: int) -> str:
    return " ".join(f"Day {n} number {day} brings w{n}{day} to x{day}{n} and y{n}{day}y home." for day in range(16))


def page(*segments: int) -> str:
    return "\n\n".join(f"# Festival {n}\n{body(n)}" for n in segments)


class Humpback(World):
    def plan(self, **given: Any) -> Outcome:
        pages = [{"id": "p", "text": page(0, 1, 2)}, {"id": "q", "text": page(3, 4)}]
        corpus, seed = self.dataset("corpus", Document, pages), self.dataset("seed", Pair, SEEDS)
        return humpback(corpus, seed, Model(uri="org/base"), **{"max_unreadable": 1.0, **given})


def number_in(prompt: str) -> int:
    return next(n for n in range(5) if f"Day {n} " in prompt)


def answer(name: str, prompt: str) -> str:
    number = number_in(prompt)
    return f"Tell me of festival {number}." if name == "backward" else VERDICTS[number]


@pytest.fixture
def world(tmp_path: Path) -> Humpback:
    return Humpback(tmp_path, answer)


def step_of(outcome: Outcome, name: str) -> Step:
    assert outcome.model is not None
    assert outcome.model.step is not None
    return next(step for step in walk(outcome.data.step, outcome.model.step) if step.name == name)


def training(outcome: Outcome, name: str) -> Train:
    action = step_of(outcome, name).action
    assert isinstance(action, Train)
    return action


def examples(world: Humpback, outcome: Outcome, name: str) -> list[Example]:
    """What the model called `name` learns from."""
    return world.make(step_of(outcome, name).inputs[0])


def test_seed_and_curated_pairs_are_the_data(world):
    made = world.make(world.plan().data.step)
    assert [(pair.id, pair.origin) for pair in made] == [("s1", "seed"), ("s2", "seed"), ("p.1", "synthetic")]
    best = made[-1]
    assert (best.instruction, best.output, best.scores[0].value) == ("Tell me of festival 0.", body(0), 5)


def test_every_pair_is_rated_in_each_round_by_the_forward_model_of_the_round_before(world):
    outcome = world.plan()
    world.make(outcome.data.step)
    assert len(world.asked["backward"].asked) == 5
    assert len(world.asked["forward-1"].asked) == 5, "only what the data needs is asked: the last round"
    world.make(step_of(outcome, "curate-1"))
    assert len(world.asked["forward-0"].asked) == 5
    third = world.plan(rounds=3)
    assert step_of(third, "curate-3").action.stages[0].model.step.name == "forward-2"


def test_unusable_verdicts_are_told_apart_and_kept_out(world):
    outcome = world.plan()
    world.make(outcome.data.step)
    curate = step_of(outcome, "curate-2")
    reasons = {row.id: row.reason for row in rejected(world.store, curate)}
    assert reasons == {"p.2": "low_quality", "p.3": "contradictory", "q.1": "score_out_of_range", "q.2": "no_score"}


def test_a_step_fails_when_too_many_verdicts_cannot_be_read(world):
    for budget, fails in ((0.6, False), (0.5, True)):
        curate = step_of(world.plan(max_unreadable=budget), "curate-2")
        world.make(curate.inputs[0])
        ensure_layout(world.store, curate, shards=1, min_rows=1)
        if not fails:
            assert [pair.id for pair in world.make(curate)] == ["p.1"]
            continue
        with pytest.raises(ShardError, match="3 of 5 replies were unreadable"):
            world.make(curate)


def test_keep_is_a_setting(world):
    assert [pair.id for pair in world.make(world.plan(keep=4).data.step)] == ["s1", "s2", "p.1", "p.2"]
    assert [pair.id for pair in world.make(world.plan(keep=5.0).data.step)] == ["s1", "s2", "p.1"]


def test_the_sources_are_marked_by_system_sentences_and_both_stand_when_the_model_is_asked(world):
    outcome = world.plan()
    shown = examples(world, outcome, "forward-2")
    assert [(row.id, row.prompt.split("\n\n")[0]) for row in shown] == [("s1", SEED), ("s2", SEED), ("p.1", WEB)]
    assert shown[-1].target == body(0)
    assert outcome.ask is not None
    asked = outcome.ask.apply(Pair(id="x", instruction="Why?", output="So."))
    assert isinstance(asked, Example)
    assert asked.prompt == f"{SEED} {WEB}\n\n### Person\nWhy?\n\n### Assistant\n"


def test_forward_and_backward_learn_from_the_same_seed(world):
    outcome = world.plan()
    backward, forward = examples(world, outcome, "backward"), examples(world, outcome, "forward-0")
    assert [row.target for row in backward] == ["Boil an egg.", "Name a river."]
    assert "Heat water. Put the egg in. Wait." in backward[0].prompt
    assert [row.target for row in forward] == [row["output"] for row in SEEDS]
    assert {training(outcome, f"forward-{n}").base.uri for n in range(3)} == {"org/base"}, "each from the base anew"


def test_the_forward_model_is_asked_to_rate_as_it_was_trained(world):
    world.make(world.plan().data.step)
    prompt = world.asked["forward-1"].asked[0]
    assert isinstance(prompt, str)
    assert prompt.startswith(f"{SEED}\n\n### Person\n")
    assert "\n\n### Assistant\n" in prompt


def test_an_outside_judge_rates_once_in_chat(world):
    outcome = world.plan(judge=Model(uri="org/judge"))
    made = world.make(outcome.data.step)
    assert [pair.id for pair in made] == ["s1", "s2", "p.1"]
    assert isinstance(world.asked["org/judge"].asked[0], tuple)
    names = {step.name for step in walk(outcome.model.step)}
    assert "curate-2" not in names
    assert "forward-0" not in names, "nobody asks it"


def test_lessons_in_judging_are_for_models_that_rate(world):
    outcome = world.plan(teach_rating=True)
    for name in ("forward-0", "forward-1"):
        assert [row.id for row in examples(world, outcome, name)][2:6] == ["s1", "s1#damaged", "s2", "s2#damaged"]
    assert [row.id for row in examples(world, outcome, "forward-2")] == ["s1", "s2", "p.1"]


def test_the_seed_is_chosen_by_language_and_size(world, shared_data):
    trees = read(open_source(str(shared_data / "seed" / "oasst_trees_100.jsonl.gz"), Pair), name="seed")
    corpus = world.dataset("corpus", Document, [{"id": "p", "text": page(0)}])
    for settings, count in (({}, 99), ({"seed_size": 10}, 10), ({"seed_language": "de"}, 0)):
        human = step_of(humpback(corpus, trees, Model(uri="org/base"), **settings), "human")
        assert len(world.make(human)) == count


def test_documents_without_headers_need_the_plain_rules(world):
    corpus = world.dataset("plain", Document, [{"id": "p", "text": body(0)}])
    seed = world.dataset("seed", Pair, SEEDS)
    base = Model(uri="org/base")
    strict = step_of(humpback(corpus, seed, base), "segments")
    assert world.make(strict) == []
    assert [row.reason for row in rejected(world.store, strict)] == ["no_header"]
    plain = step_of(humpback(corpus, seed, base, rules=SegmentRules.plain()), "segments")
    assert [(row.id, type(row)) for row in world.make(plain)] == [("p.0", Document)]


@pytest.mark.parametrize(
    ("rows_", "batch", "steps"),
    [(100, 8, 30), (800, 8, 300), (1600, 8, 600), (3200, 32, 500), (12800, 32, 600), (51200, 32, 1600)],
)
def test_steps_by_size_are_the_papers(rows_, batch, steps):
    sft = paper_schedule(rows_, Sft(learning_rate=1e-5))
    assert (sft.batch_size, sft.learning_rate) == (batch, 1e-5)
    assert sft.epochs * rows_ / sft.batch_size == pytest.approx(steps)


def test_between_and_above_the_sizes_of_the_table():
    assert paper_schedule(801, Sft()) == paper_schedule(1600, Sft())
    assert paper_schedule(500_000, Sft()) == paper_schedule(51200, Sft())
    assert [entry[0] for entry in STEPS] == sorted(entry[0] for entry in STEPS)
    with pytest.raises(RecipeError, match="0 rows"):
        paper_schedule(0, Sft())


def test_the_schedule_follows_the_sizes_that_are_known(world):
    sized = world.plan(size=9600)
    assert (training(sized, "backward").settings.epochs, training(sized, "forward-2").settings.epochs) == (5.0, 1.5)
    assert training(world.plan(), "forward-2").settings == Sft.humpback()
    own = world.plan(size=9600, paper_steps=False, sft=Sft(epochs=7))
    assert {training(own, name).settings.epochs for name in ("backward", "forward-0", "forward-2")} == {7}


def ids(outcome: Outcome) -> dict[str, str]:
    steps = walk(outcome.data.step, outcome.model.step)
    return {step.name: step.id for step in steps if step.name != "concat"}


ROUNDS = {f"{name}-{n}" for n in (1, 2) for name in ("curate", "curated", "tag-web", "forward")}


@pytest.mark.parametrize(
    ("settings", "changed"),
    [({"size": 1}, ROUNDS - {"curate-1"}), ({"keep": 4}, ROUNDS), ({"verdict": Rating(high=10)}, ROUNDS)],
)
def test_a_setting_changes_only_what_follows(world, settings, changed):
    before, after = (ids(world.plan(paper_steps=False, **given)) for given in ({}, settings))
    assert before == ids(world.plan(paper_steps=False))
    assert {name for name in before if before[name] != after[name]} == changed


def test_wrong_settings_are_refused_before_any_work(world):
    with pytest.raises(RecipeError, match="rounds is 0"):
        world.plan(rounds=0)


def test_settings_are_given_by_name(world):
    world.plan()
    asked = {"corpus": str(world.folder / "corpus.jsonl"), "seed": str(world.folder / "seed.jsonl"), "base": "org/base"}
    rate = "Is {response} an answer to {instruction}? End in [[your rating]]."
    given = {"rules": "plain", "verdict": "mt_bench", "headers.max_level": "2", "prompts.rate.text": rate}
    plan = plan_run(Ask("humpback", asked, given))
    stages = {step.name: step.action.get("stages", []) for step in plan.steps}
    assert (stages["segments"][0]["max_level"], stages["segments"][1]["require_header"]) == (2, False)
    assert stages["curate-1"][0]["verdict"]["high"] == 10
    assert result_of(world.store, plan.data) is None
