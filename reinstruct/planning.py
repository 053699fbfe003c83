"""From names and URIs to a plan: open the inputs, call the recipe, add what every run has (held-out pairs, losses).

The rule: everything that can be wrong with what the user gave is found here, before anything is spent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from reinstruct import recipes
from reinstruct.corpus.open import open_source
from reinstruct.corpus.read import first_records
from reinstruct.errors import CorpusError, RecipeError
from reinstruct.evaluate.holdout import HoldOut
from reinstruct.identity import describe
from reinstruct.plan import Dataset, Model, Outcome, Step, measure_loss, read, train_base, walk
from reinstruct.planfile import Plan, specs
from reinstruct.records import Document, Pair
from reinstruct.serving import existing_model
from reinstruct.settings import settings_from
from reinstruct.suggest import suggestion
from reinstruct.train.settings import SIZES, Pretrain

SCRATCH = "scratch:"
LOSSES = ("base", "seed-only", "final")


@dataclass(frozen=True)
class Ask:
    """What a user asks for. `inputs` maps a recipe's inputs to URIs; `columns` an input to {field: column}.

    `limit` takes only that many documents. `held_out` is the share of the seed kept from every model, to measure the
    tuned one on; 0 measures nothing. `test` names pairs to measure on in its place: the seed is then trained on whole.
    """

    recipe: str
    inputs: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    limit: int = 0
    held_out: float = 0.1
    test: str = ""


def plan_run(ask: Ask) -> Plan:
    """The plan of a run. RecipeError or CorpusError for anything wrong with it."""
    recipe = recipes.find(ask.recipe)
    _check_inputs(recipe, ask)
    settings = settings_from(ask.settings, {s.name: (s.type, s.default) for s in recipe.settings})
    datasets = {i.name: _dataset(i, ask) for i in recipe.inputs if i.record_type and i.name in ask.inputs}
    corpus = next((datasets[i.name] for i in recipe.inputs if i.record_type is Document and i.name in datasets), None)
    models = {
        i.name: _model(ask.inputs[i.name], corpus) for i in recipe.inputs if _is_model(i) and i.name in ask.inputs
    }
    trained_on, held_out = dict(datasets), _test_pairs(ask.test) if ask.test else None
    if held_out is None and ask.held_out and "seed" in datasets:
        held_out = datasets["seed"]
        trained_on["seed"] = held_out.map(HoldOut(ask.held_out, "train"), name="seed-train")
    outcome = recipe.plan(**trained_on, **models, **recipe.arguments(settings))
    losses = _losses(outcome, ask, held_out, trained_on.get("seed"), models) if held_out else {}
    return _plan(ask, recipe, settings, outcome, losses, corpus)


def _plan(
    ask: Ask,
    recipe: recipes.Recipe,
    settings: Mapping[str, Any],
    outcome: Outcome,
    losses: Mapping[str, Step],
    corpus: Dataset[Any] | None,
) -> Plan:
    data = outcome.data.step
    targets = [data, *([outcome.model.step] if outcome.model and outcome.model.step else []), *losses.values()]
    trained = {step.name: step.id for step in walk(*targets) if type(step.action).__name__ in ("Train", "TrainBase")}
    defaults = {s.name: _default(s) for s in recipe.settings}
    return Plan(
        recipe=recipe.name,
        settings={
            **ask.inputs,
            **{key: value for name in settings for key, value in changed(name, settings[name], defaults[name])},
            "limit": ask.limit,
            "held_out": ask.test or ask.held_out,
        },
        steps=specs(*targets),
        data=data.id,
        corpus=corpus.step.id if corpus else "",
        models=trained,
        losses={label: step.id for label, step in losses.items()},
    )


def _default(setting: recipes.Setting) -> Any:
    """None stands for the fields of a class of the recipe's own as they are."""
    if setting.default is None and dataclasses.is_dataclass(setting.type):
        return cast(type[Any], setting.type)()
    return setting.default


def changed(name: str, value: Any, default: Any) -> Iterator[tuple[str, Any]]:
    """(dotted name, plain value) of a setting, or of the fields of one, where it differs from the default."""
    if value == default:
        return
    if not dataclasses.is_dataclass(value):
        yield name, describe(value)
        return
    for part in dataclasses.fields(value):
        before = getattr(default, part.name, None)
        yield from changed(f"{name}.{part.name}", getattr(value, part.name), before)


def _test_pairs(uri: str) -> Dataset[Pair]:
    try:
        source = open_source(uri, Pair)
        first_records(source, 1)
    except CorpusError as error:
        raise CorpusError(f"held_out is {uri!r}, neither a share nor pairs to measure on: {error}") from error
    return read(source, name="test")


def _losses(
    outcome: Outcome,
    ask: Ask,
    held_out: Dataset[Pair],
    seed: Dataset[Pair] | None,
    models: Mapping[str, Model],
) -> dict[str, Step]:
    """Held-out loss of the base, of the base tuned on the seed alone, and of the recipe's model, all asked alike."""
    if outcome.model is None or outcome.ask is None:
        return {}
    base = models["base"]
    measured = {"base": base, "final": outcome.model}
    if seed is not None:
        seed_only = base.train(seed.map(outcome.ask, name="ask-seed"), "seed-only", outcome.settings)
        measured["seed-only"] = _trained_already(seed_only, outcome.model) or seed_only
    if ask.test:
        asked = held_out.map(outcome.ask, name="held-out")
    else:
        asked = held_out.map(HoldOut(ask.held_out, "test"), outcome.ask, name="held-out")
    tokens = outcome.settings.max_tokens
    return {
        label: measure_loss(measured[label], asked, f"loss-{label}", tokens) for label in LOSSES if label in measured
    }


def _trained_already(model: Model, final: Model) -> Model | None:
    """The model of another name that `final` needs and that is trained just like this one."""
    assert model.step is not None
    twins = (step for step in walk(*[final.step] if final.step else []) if step.id.endswith(model.step.id[-12:]))
    return next((Model(step=step) for step in twins), None)


def _check_inputs(recipe: recipes.Recipe, ask: Ask) -> None:
    known = [i.name for i in recipe.inputs]
    for name in (*ask.inputs, *ask.columns):
        if name not in known:
            raise RecipeError(
                f"{recipe.name} takes no input {name!r}{suggestion(name, known)}; it takes: {_join(known)}"
            )
    missing = [i.name for i in recipe.inputs if i.required and not ask.inputs.get(i.name)]
    if missing:
        raise RecipeError(f"{recipe.name} needs {_join([f'--{name}' for name in missing])}")
    datasets = [i.name for i in recipe.inputs if i.record_type and ask.inputs.get(i.name)]
    for name in ask.columns:
        if name not in datasets:
            raise RecipeError(f"columns of {name} are given, but they can be named for {_join(datasets)} alone")
    if ask.limit < 0:
        raise RecipeError(f"limit is {ask.limit}; accepted: a whole number of documents, 0 for all")
    if not 0 <= ask.held_out < 1:
        raise RecipeError(f"held_out is {ask.held_out}; accepted: a share from 0 (measure nothing) to below 1")


def _dataset(wanted: recipes.Input, ask: Ask) -> Dataset[Any]:
    record_type = cast(type[Any], wanted.record_type)
    source = open_source(ask.inputs[wanted.name], record_type, columns=ask.columns.get(wanted.name))
    first_records(source, 1)
    limit = ask.limit if record_type is Document else 0
    return read(source, limit=limit, name=wanted.name.replace("_", "-"))


def _model(uri: str, corpus: Dataset[Any] | None) -> Model:
    if not uri.startswith(SCRATCH):
        return existing_model(uri)
    size, accepted = uri.removeprefix(SCRATCH), [SCRATCH + size for size in SIZES]
    if uri not in accepted:
        raise RecipeError(
            f"no base {uri!r}{suggestion(uri, accepted)}; accepted: {_join(accepted)}, a folder or a hub id"
        )
    if corpus is None:
        raise RecipeError(f"{uri} is trained on the corpus, and this recipe takes none; name an existing model")
    return train_base(corpus, Pretrain(size))


def _is_model(wanted: recipes.Input) -> bool:
    return wanted.record_type is None


def _join(names: list[str]) -> str:
    return ", ".join(names)
