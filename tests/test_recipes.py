"""Every recipe, by its signature: it plans, fills its prompts, makes rows and resumes. And REInstruct, row by row."""

import dataclasses
import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import Formatter
from typing import Any

import pytest

from reinstruct import recipes
from reinstruct.commit import result_of
from reinstruct.corpus.open import open_source
from reinstruct.errors import RecipeError
from reinstruct.llm import LLM, Reply, Request, Sampling, Scripted
from reinstruct.plan import Map, Model, Outcome, Step, Train, read, walk
from reinstruct.planfile import Plan
from reinstruct.planning import Ask, plan_run
from reinstruct.recipes.reinstruct import Prompts, reinstruct
from reinstruct.records import Document, Example, Instruction, Pair, without_none
from reinstruct.settings import presets_of
from reinstruct.stage import Ask as AskStage
from reinstruct.stages.instruct import Template
from reinstruct.stages.text import SelectAdvice
from reinstruct.store import LocalStore
from tests.in_process import make_rows, rejected, rows
from tests.scripted_world import World, write

CARE = " It is a matter of care and of time, as with all good things in a kitchen, and nobody is born with it. " * 2
ADVICE = "\n".join(
    line + CARE.rstrip()
    for line in (
        "Start with a clean pan and warm it slowly on a low flame.",
        "Add the oil once the pan is warm to the hand.",
        "Stir the onions until they are soft and turn gold.",
        "Pour in the stock and let it come to the boil.",
        "Taste it, then put in salt and pepper as it needs.",
        "Serve it hot with bread and a green salad beside.",
    )
)
# What a model says to a prompt that has the words: some replies are read for more than their text.
REPLIES = {
    "the word Score": "It answers all that was asked.\nScore: 5",
    "[/RES]": "[RES]Warm the pan, add oil, and stir until the onions are soft.[/RES]",
    "【好】": "要求清楚。\n【好】",
    "### Task": "#instruction#: How is soup made?\n#input#:\n#output#: Warm the pan, add oil, and stir.",
    "#instruction#": "#instruction#: How is soup made?\n#input#:\n#output#: Warm the pan, add oil, and stir.",
    "": "How is soup best made at home when there is little time?",
}

ROW = {
    Document: {"text": ADVICE},
    Instruction: {"instruction": "Cook a soup."},
    Pair: {"instruction": "Cook a soup.", "output": ADVICE, "document": f"Menu\n{ADVICE}\nBuy now"},
}


def inputs_of(recipe: recipes.Recipe, folder: Path, *, optional: bool) -> dict[str, str]:
    """A URI for each input of the recipe, with those it can do without or not."""
    uris: dict[str, str] = {}
    for wanted in recipe.inputs:
        if wanted.record_type is None:
            uris[wanted.name] = f"org/{wanted.name}"
        else:
            row = ROW[wanted.record_type]
            table = [{"id": f"{n}", **{key: f"{text} {n}" for key, text in row.items()}} for n in range(12)]
            if wanted.record_type is Document:
                table += [{"id": f"q{n}", "text": f"How do I make a good soup for {n} guests?"} for n in range(2, 9)]
                table += [{"id": f"a{n}", "text": f"For {n} guests, take {n} onions and stir."} for n in range(2, 9)]
            uris[wanted.name] = write(folder / f"{wanted.name}.jsonl", *table)
    return {wanted.name: uris[wanted.name] for wanted in recipe.inputs if wanted.required or optional}


def outcome_of(recipe: recipes.Recipe, uris: dict[str, str], **settings: Any) -> Outcome:
    given: dict[str, Any] = {}
    for wanted in recipe.inputs:
        if wanted.name in uris and wanted.record_type is None:
            given[wanted.name] = Model(uri=uris[wanted.name])
        elif wanted.name in uris:
            given[wanted.name] = read(open_source(uris[wanted.name], wanted.record_type), name=wanted.name)
    return recipe.plan(**given, **settings)


def outcomes(recipe: recipes.Recipe, folder: Path, **settings: Any) -> list[Outcome]:
    """The recipe with what it must have, with all it can take, and with each one input it can do without."""
    needed, every = (inputs_of(recipe, folder, optional=optional) for optional in (False, True))
    choices = [needed, every, *({**needed, name: every[name]} for name in every.keys() - needed.keys())]
    return [outcome_of(recipe, uris, **settings) for uris in choices]


def steps(outcome: Outcome) -> list[Step]:
    return list(walk(outcome.data.step, *([outcome.model.step] if outcome.model and outcome.model.step else [])))


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture(params=recipes.names())
def recipe(request) -> recipes.Recipe:
    return recipes.find(request.param)


def test_it_plans_from_files_and_the_same_each_time(recipe, tmp_path):
    for optional in (False, True):
        ask = Ask(recipe.name, inputs_of(recipe, tmp_path, optional=optional))
        first, second = plan_run(ask), plan_run(ask)
        assert [step.id for step in first.steps] == [step.id for step in second.steps]
        assert first.id == second.id
        assert first.data in {step.id for step in first.steps}


def test_its_name_is_its_file_and_its_summary_says_the_paper(recipe):
    assert Path(inspect.getfile(recipe.plan)).stem == recipe.name
    assert "http" in recipe.summary


def stages_with_templates(outcome: Outcome) -> Iterator[tuple[Any, Template]]:
    for step in steps(outcome):
        for stage in step.action.stages if isinstance(step.action, Map) else ():
            for part in dataclasses.fields(stage):
                value = getattr(stage, part.name)
                if isinstance(value, Template):
                    yield stage, value


def sample_record(stage: Any) -> Any:
    from reinstruct.stage import record_types

    taken, _ = record_types(stage)
    if taken is Document:
        return Document(id="d", text="A text.")
    if taken is Instruction:
        return Instruction(id="i", instruction="Ask.")
    return Pair(id="p", instruction="Ask.", output="An answer.", document="A page.")


def prompt_of(stage: Any) -> str:
    """What the stage makes of a record whose fields are all set."""
    record = sample_record(stage)
    made = [stage.prompt(record)] if isinstance(stage, AskStage) else stage.apply(record)
    (first, *_) = made if isinstance(made, list) else [made]
    prompt = first if isinstance(first, (str, tuple)) else first.prompt or first.messages
    return prompt if isinstance(prompt, str) else prompt[-1].content


def worded(recipe: recipes.Recipe) -> dict[str, Any]:
    """The recipe's prompts in each language, its own first."""
    kind: Any = without_none(next(setting.type for setting in recipe.settings if setting.name == "prompts"))
    made = {name: make() for name, make in presets_of(kind).items()}
    return dict(sorted(made.items(), key=lambda item: item[1] != kind()))


def test_every_prompt_of_every_language_is_filled_by_some_stage(recipe, tmp_path):
    for prompts in worded(recipe).values():
        filled: list[str] = []
        for outcome in outcomes(recipe, tmp_path, prompts=prompts):
            for stage, template in stages_with_templates(outcome):
                text = prompt_of(stage)
                assert template.placeholders
                assert not [name for name in template.placeholders if f"{{{name}}}" in text]
                for literal, *_ in Formatter().parse(template.text):
                    assert literal in text
                filled.append(template.text)
        for name, template in templates_of(prompts).items():
            assert any(template.text in text for text in filled), f"{name} is no stage's"


def templates_of(prompts: Any) -> dict[str, Template]:
    values = {part.name: getattr(prompts, part.name) for part in dataclasses.fields(prompts)}
    return {name: value for name, value in values.items() if isinstance(value, Template)}


def test_a_language_words_all_there_is_and_changes_nothing_else(recipe):
    own, other = worded(recipe).values()
    assert list(worded(recipe)) == (["chinese", "english"] if recipe.name == "kun" else ["english", "chinese"])
    for part in dataclasses.fields(own):
        before, after = getattr(own, part.name), getattr(other, part.name)
        if isinstance(before, Template):
            assert (before.chat, bool(before.opening)) == (after.chat, bool(after.opening))
            assert before.placeholders == after.placeholders
            bare = before.text.strip() == "{instruction}"
            assert bare or before.text != after.text, part.name
        else:
            assert before != after, part.name
    chinese, english = (own, other) if recipe.name == "kun" else (other, own)
    for prompts, share in ((chinese, (0.7, 1)), (english, (0, 0.05))):
        text = "".join(re.sub(r"{\w+}", "", template.text) for template in templates_of(prompts).values())
        letters = [char for char in text if char.isalpha()]
        assert share[0] <= sum("\u4e00" <= char <= "\u9fff" for char in letters) / len(letters) <= share[1]


def test_a_wrong_prompt_is_refused_with_what_is_accepted(recipe, tmp_path):
    inputs = inputs_of(recipe, tmp_path, optional=False)
    for name, template in templates_of(next(iter(worded(recipe).values()))).items():
        accepted = ", ".join(f"{{{each}}}" for each in sorted(template.placeholders))
        for text, words in (
            (f"{template.text} {{respnse}}", f"prompts.{name} has {{respnse}}"),
            ("Say something.", f"prompts.{name} has no {accepted}; "),
            (f"{template.text} {{", f"prompts.{name} has a brace alone"),
        ):
            with pytest.raises(RecipeError) as told:
                plan_run(Ask(recipe.name, inputs, {f"prompts.{name}.text": text}))
            assert str(told.value).startswith(words)
            assert f"accepted: {accepted}" in str(told.value)


def test_a_prompt_changes_the_steps_that_use_it_and_what_follows(recipe, tmp_path):
    """A step has another identity if it uses the prompt or reads, or asks, one that has; and no other step has."""
    uris = inputs_of(recipe, tmp_path, optional=True)
    default = next(iter(worded(recipe).values()))
    before = by_name(outcome_of(recipe, uris))
    for name, template in templates_of(default).items():
        other = replace(default, **{name: replace(template, text=f"{template.text} ")})
        after = by_name(outcome_of(recipe, uris, prompts=other))
        users = {key for key in before if own_prompts(before[key]) != own_prompts(after[key])}
        changed = {key for key in before if before[key].id != after[key].id}
        assert users <= changed
        assert changed == {key for key, step in before.items() if users & {need.name for need in walk(step)}}


def by_name(outcome: Outcome) -> dict[str, Step]:
    return {step.name: step for step in steps(outcome) if step.name != "concat"}


def own_prompts(step: Step) -> list[str]:
    stages = step.action.stages if isinstance(step.action, Map) else ()
    values = [getattr(stage, part.name) for stage in stages for part in dataclasses.fields(stage)]
    return [value.text for value in values if isinstance(value, Template)]


def test_it_makes_rows_and_running_again_asks_nothing(recipe, tmp_path, store):
    for outcome in outcomes(recipe, tmp_path)[:2]:
        model = scripted()
        make_rows(store, outcome.data.step, lambda _, model=model: model)
        made = rows(store, outcome.data.step)
        assert len({(pair.origin, pair.id) for pair in made}) == len(made)
        make_rows(store, outcome.data.step, lambda _: no_model())
        assert rows(store, outcome.data.step) == made


@pytest.mark.slow
def test_each_training_row_has_a_prompt_or_messages_and_a_target(recipe, tmp_path, store):
    examples: list[Example] = []
    for outcome in outcomes(recipe, tmp_path)[:2]:
        for step in [step for step in steps(outcome) if isinstance(step.action, Train)]:
            make_rows(store, step.inputs[0], lambda _: scripted())
            examples += rows(store, step.inputs[0])
    assert examples
    assert all(bool(example.prompt) != bool(example.messages) and example.target for example in examples)


def scripted() -> Scripted:
    return Scripted(lambda prompt: next(reply for words, reply in REPLIES.items() if words in prompt))


def no_model() -> LLM:
    raise AssertionError("no model is needed any more")


@dataclass
class Author:
    """Answers by the record's id, as the model its name says."""

    name: str
    replies: dict[str, Reply]
    asked: list[Request] = field(default_factory=list)

    def complete(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[list[tuple[Request, Reply]]]:
        for request in requests:
            self.asked.append(request)
            yield [(request, self.replies.get(request.key, Reply(f"{self.name} on {request.key}")))]


PROMPTS = Prompts()
SEEDS = [
    {"id": "s1", "instruction": "Sum up.", "input": "A long text.", "output": "First this. Then that. Last those."},
    {"id": "s2", "instruction": "Boil an egg.", "output": "Heat water.\nPut the egg in.\nWait six minutes."},
]
PAGES = {name: f"Page {name}. {ADVICE}" for name in ("a", "b", "deictic", "empty", "cut", "bullets", "leak", "thistle")}
RULES = replace(SelectAdvice.loose(), prose=None)
BACKWARD_SAYS = {
    "deictic": Reply("What does this say?"),
    "empty": Reply(" "),
    "cut": Reply("How do I", "length"),
    "thistle": Reply("How tall is a thistle?"),
}
REWRITER_SAYS = {"bullets": Reply("- a\n" * 11), "leak": Reply("The web text says yes.")}


class Reinstruct(World):
    def plan(self, **given: Any) -> Outcome:
        pages = [{"id": name, "text": text, "url": f"http://{name}"} for name, text in PAGES.items()]
        pages += [
            {"id": "short", "text": "Too short."},
            {"id": "twin", "text": PAGES["a"].replace("Page a", "page  A")},
        ]
        corpus, seed = self.dataset("corpus", Document, pages), self.dataset("seed", Pair, SEEDS)
        return reinstruct(corpus, seed, Model(uri="org/base"), **{"rules": RULES, **given})


@pytest.fixture
def world(tmp_path: Path) -> Reinstruct:
    says = {"backward": BACKWARD_SAYS, "rewriter": REWRITER_SAYS, "org/teacher": REWRITER_SAYS}
    return Reinstruct(tmp_path, no_answer, {name: Author(name, replies) for name, replies in says.items()})


def no_answer(name: str, prompt: str) -> str:
    raise AssertionError(f"nobody should ask {name}")


def step_called(outcome: Outcome, name: str) -> Step:
    return next(step for step in steps(outcome) if step.name == name)


def test_reinstruct_row_by_row(world: Reinstruct):
    outcome = world.plan()
    made = {pair.id: pair for pair in world.make(outcome.data.step)}
    assert list(made) == ["s1", "s2", "a", "b", "thistle"]
    assert [pair.origin for pair in made.values()] == ["seed", "seed", "synthetic", "synthetic", "synthetic"]
    assert made["s1"].input == "A long text."
    assert made["s1"].lineage == ()
    one = made["a"]
    assert (one.instruction, one.output) == ("backward on a", "rewriter on a")
    assert (one.document, one.document_id, one.url) == (PAGES["a"], "a", "http://a")
    guess, rewrite = one.lineage
    backward, rewriter = (step_called(outcome, name).id for name in ("backward", "rewriter"))
    assert (guess.step, guess.stage, guess.model) == (step_called(outcome, "guess").id, "WriteInstruction", backward)
    assert (rewrite.step, rewrite.stage, rewrite.model) == (step_called(outcome, "rewrite").id, "Rewrite", rewriter)
    assert guess.prompt
    assert guess.prompt != rewrite.prompt


def test_reinstruct_says_why_each_other_row_is_gone(world: Reinstruct):
    outcome = world.plan()
    make_rows(world.store, outcome.data.step, world.open)
    turned_away = {
        row.id: (step.name, row.stage, row.reason)
        for step in walk(outcome.data.step)
        if result_of(world.store, step.id)
        for row in rejected(world.store, step)
    }
    assert turned_away == {
        "short": ("select", "SelectAdvice", "too_short"),
        "twin": ("deduplicate", "DropDuplicates", "duplicate"),
        "deictic": ("guess", "InstructionRules", "points_at_text"),
        "empty": ("guess", "WriteInstruction", "empty_reply"),
        "cut": ("guess", "WriteInstruction", "cut_off"),
        "bullets": ("rewrite", "ResponseRules", "too_many_bullets"),
        "leak": ("rewrite", "ResponseRules", "mentions_source"),
    }


def test_reinstruct_marks_training_rows_by_where_their_answer_comes_from(world: Reinstruct):
    outcome = world.plan(upsample=3)
    examples = {row.id: row for row in world.make(outcome.model.step.inputs[0])}
    assert list(examples) == ["s1", "s1#2", "s1#3", "s2", "s2#2", "s2#3", "a", "b", "thistle"]
    assert len(world.make(outcome.model.step.inputs[0])) == len(examples)

    def asked(question: str) -> str:
        return PROMPTS.chat.text.replace("{instruction}", question)

    assert examples["s1#3"].prompt == asked(f"Sum up.\n\nA long text. {PROMPTS.seed_tag}")
    assert examples["s2"].prompt == asked(f"Boil an egg. {PROMPTS.seed_tag}")
    assert examples["s2"].target == SEEDS[1]["output"]
    assert examples["a"].prompt == asked(f"backward on a {PROMPTS.web_tag}")
    assert examples["a"].target == "rewriter on a"
    assert outcome.ask.apply(Pair(id="x", instruction="Why?", output="")).prompt == asked(
        f"Why? {PROMPTS.seed_tag} {PROMPTS.web_tag}"
    )


def test_without_rewrites_or_teacher_the_seed_loses_lines(world: Reinstruct):
    examples = world.make(step_called(world.plan(), "rewriter").inputs[0])
    assert [row.id for row in examples] == ["s1", "s2"]
    assert [row.target for row in examples] == [row["output"] for row in SEEDS]
    kept = examples[1].prompt.split("### Page\n")[1].split("\n\n### Question\n")[0].split("\n")
    assert 1 <= len(kept) < 3
    assert set(kept) < set(SEEDS[1]["output"].split("\n"))


def test_given_rewrites_teach_the_rewriter(world: Reinstruct):
    table = [
        {"id": "r1", "instruction": "Why?", "output": "Because.", "document": "Some page."},
        {"id": "r2", "instruction": "Why?", "output": "No page."},
    ]
    outcome = world.plan(rewrites=world.dataset("rewrites", Pair, table), teacher=Model(uri="org/teacher"))
    (example,) = world.make(step_called(outcome, "rewriter").inputs[0])
    assert example.prompt == PROMPTS.rewrite.fill(document="Some page.", instruction="Why?")
    assert example.target == "Because."
    (lost,) = rejected(world.store, step_called(outcome, "rewrite-data"))
    assert (lost.id, lost.reason) == ("r2", "no_document")
    assert {"lose-lines", "teach-rewrites"}.isdisjoint(step.name for step in steps(outcome))


def test_a_teacher_writes_the_rewrites(world: Reinstruct):
    outcome = world.plan(teacher=Model(uri="org/teacher"), rewrite_size=3)
    examples = world.make(step_called(outcome, "rewriter").inputs[0])
    teacher = world.asked["org/teacher"]
    assert len(teacher.asked) == 3
    (message,) = teacher.asked[0].prompt
    assert message.role == "user"
    assert message.content.endswith(f"### Question\nbackward on {teacher.asked[0].key}") or "thistle" in message.content
    kept = {request.key for request in teacher.asked} - {"bullets", "leak"}
    assert {row.id: row.target for row in examples} == {key: f"org/teacher on {key}" for key in kept}
    assert all(row.prompt.endswith("### Answer\n") for row in examples)


def test_compat_rejects_this_inside_of_words_and_selects_like_the_release(world: Reinstruct):
    outcome = world.plan(rules=replace(RULES, max_chars=100_000), compat=True)
    make_rows(world.store, outcome.data.step, world.open)
    reasons = {row.id: row.reason for row in rejected(world.store, step_called(outcome, "guess"))}
    assert reasons["thistle"] == "points_at_text"
    (select,) = step_called(outcome, "select").action.stages
    assert select.compat


def test_candidates_bound_what_models_are_asked_and_size_what_is_kept(world: Reinstruct):
    outcome = world.plan(candidates=5)
    make_rows(world.store, outcome.data.step, world.open)
    assert len(world.asked["backward"].asked) == 5
    all_rows = {pair.id for pair in world.make(world.plan().data.step)}
    two, one = ({p.id for p in world.make(world.plan(size=size).data.step)} - {"s1", "s2"} for size in (2, 1))
    assert (len(two), len(one)) == (2, 1)
    assert one < two < all_rows


def test_other_random_seeds_sample_others(world: Reinstruct):
    samples = [
        frozenset(row.id for row in world.make(step_called(world.plan(candidates=3, random_seed=seed), "candidates")))
        for seed in range(5)
    ]
    assert len(set(samples)) > 1


def test_an_upsampling_of_nothing_is_refused(world: Reinstruct):
    with pytest.raises(RecipeError, match=r"upsample is 0; accepted: .*1 or more"):
        world.plan(upsample=0)


def test_a_plan_says_which_step_trained_each_model(tmp_path):
    recipe = recipes.find("reinstruct")
    plan: Plan = plan_run(Ask("reinstruct", inputs_of(recipe, tmp_path, optional=False)))
    assert list(plan.models) == ["backward", "rewriter", "final", "seed-only"]
    assert list(plan.losses) == ["base", "seed-only", "final"]
