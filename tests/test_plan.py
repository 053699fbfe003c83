"""Plans are lazy, their ids name the work and nothing else, and a wrong composition is told at once."""

from dataclasses import dataclass, replace

import msgspec
import pytest

from reinstruct.corpus.source import Source, SourceFile
from reinstruct.errors import RecipeError
from reinstruct.plan import Dataset, Model, read, walk
from reinstruct.planfile import Plan, specs, steps_of
from reinstruct.recipes.reinstruct import Prompts, reinstruct
from reinstruct.records import Document, Example, Pair
from reinstruct.stage import Transform
from reinstruct.stages.gather import DropDuplicates, Sample
from reinstruct.stages.instruct import Repeat, TeachInstruction, WriteInstruction
from reinstruct.stages.text import KeepLengths, SelectAdvice

BACKWARD = Prompts().backward


def source(record_type: type, generation: str = "1", uri: str = "/data") -> Source:
    return Source(uri, "jsonl", record_type, (SourceFile("a.jsonl", 10, generation),))


def corpus(**given: str) -> Dataset[Document]:
    return read(source(Document, **given), name="corpus")


def seed() -> Dataset[Pair]:
    return read(source(Pair), name="seed")


def ids(*targets) -> dict[str, str]:
    """Names to ids, without concatenations: those have no name of their own."""
    steps = walk(*[target.step for target in targets])
    return {step.name: step.id for step in steps if step.name != "concat"}


def plan(**settings) -> dict[str, str]:
    outcome = reinstruct(corpus(), seed(), Model(uri="base"), **settings)
    return ids(outcome.data, outcome.model)


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


def test_planning_twice_gives_the_same_ids():
    assert plan() == plan()


def test_a_setting_changes_only_what_is_downstream_of_it():
    assert changed(plan(), plan(upsample=3)) == {"tag-seed", "final"}
    assert changed(plan(), plan(size=10)) == {"sample", "tag-synthetic", "final"}
    different = changed(plan(), plan(rules=replace(SelectAdvice(), min_chars=1)))
    assert "select" in different
    assert {"backward", "rewriter", "corpus", "seed"}.isdisjoint(different)


def test_files_are_part_of_the_identity_but_where_they_lie_is_not():
    assert ids(corpus()) != ids(corpus(generation="2"))
    assert ids(corpus()) == ids(corpus(uri="gs://bucket/data"))


def test_a_stage_version_is_part_of_the_identity():
    @dataclass(frozen=True)
    class Louder(Transform[Document, Document]):
        def apply(self, record: Document) -> Document:
            return record

    before = corpus().map(Louder()).step.id
    Louder.version = 2
    after = Dataset(replace(corpus().map(Louder()).step)).step.id
    assert before != after


def test_two_base_models_make_two_plans():
    one, two = (reinstruct(corpus(), seed(), Model(uri=uri)) for uri in ("a", "b"))
    assert {"backward", "guess", "final"} <= changed(ids(one.data, one.model), ids(two.data, two.model))
    assert {"corpus", "select", "reverse"}.isdisjoint(changed(ids(one.data, one.model), ids(two.data, two.model)))


@pytest.mark.parametrize(
    ("compose", "words"),
    [
        (lambda: seed().map(SelectAdvice()), "SelectAdvice takes Document records, but is given Pair"),
        (lambda: corpus().map(TeachInstruction(BACKWARD)), "TeachInstruction takes Pair records"),
        (lambda: corpus() + seed(), "takes Document records"),
        (lambda: Model(uri="m").train(seed(), "x"), "takes Example records, but is given Pair"),
        (lambda: corpus().map(), "at least one stage"),
        (lambda: corpus().map(DropDuplicates()), "not DropDuplicates"),
        (lambda: corpus().gather(KeepLengths()), "gather() takes a Gather stage"),
        (lambda: seed().map(Repeat(), name="Bad Name"), "step name 'Bad Name'"),
        (
            lambda: corpus().map(
                WriteInstruction(Model(uri="m"), BACKWARD),
                WriteInstruction(Model(uri="n"), BACKWARD),
            ),
            "WriteInstruction takes Document records, but is given Pair",
        ),
    ],
)
def test_wrong_compositions_are_refused(compose, words: str):
    with pytest.raises(RecipeError) as refused:
        compose()
    assert words in str(refused.value)


def test_types_follow_through_stages_of_any_record():
    kept = corpus().map(KeepLengths("text", 1, 10)).gather(Sample(3))
    assert kept.step.record_type is Document
    assert seed().map(Repeat(), TeachInstruction(BACKWARD)).step.record_type is Example


def test_a_plan_survives_json():
    outcome = reinstruct(corpus(), seed(), Model(uri="org/base", fingerprint="f00"), rules=SelectAdvice.loose())
    plan = Plan(recipe="reinstruct", steps=specs(outcome.data.step, outcome.model.step), data=outcome.data.step.id)
    again = steps_of(msgspec.json.decode(msgspec.json.encode(plan), type=Plan))
    assert list(again) == [step.id for step in walk(outcome.data.step, outcome.model.step)]


def test_a_plan_of_another_version_is_refused():
    outcome = reinstruct(corpus(), seed(), Model(uri="base"))
    plan = Plan(recipe="reinstruct", steps=specs(outcome.data.step), data=outcome.data.step.id)
    plan.steps[0].id = "seed-000000000000"
    with pytest.raises(RecipeError, match="another version"):
        steps_of(plan)


def test_a_plan_cannot_name_any_python_object():
    outcome = reinstruct(corpus(), seed(), Model(uri="base"))
    plan = Plan(recipe="reinstruct", steps=specs(outcome.data.step), data=outcome.data.step.id)
    plan.steps[0].action["type"] = "os:system"
    with pytest.raises(RecipeError, match="not a class"):
        steps_of(plan)
