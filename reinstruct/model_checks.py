"""Before a run: can every model that is asked be asked, and in the way it is to be asked?"""

from __future__ import annotations

from typing import Any

from reinstruct.architecture import expect_decoder
from reinstruct.engine import expect_able
from reinstruct.engines import TRANSFORMERS, Engine
from reinstruct.errors import RecipeError
from reinstruct.plan import Map, MeasureLoss, Model, Train, TrainBase
from reinstruct.planfile import Plan, steps_of
from reinstruct.serving import Servers, name_of, open_served, urls_of
from reinstruct.stage import Ask
from reinstruct.suggest import suggestion
from reinstruct.train.bases import expect_trainable
from reinstruct.train.job import expect_libraries


def check_models(plan: Plan, servers: Servers, engine: Engine) -> None:
    """Before anything is spent: every server answers and is of use, and what runs here can be run here."""
    asked = {name_of(model) for model in _asked_models(plan)}
    for name, urls in servers.items():
        if name and name not in asked:
            raise RecipeError(f"no model {name!r} is asked{suggestion(name, asked)}; asked are: {', '.join(asked)}")
        open_served(urls).check()
    _check_builds(plan, servers, engine)
    trains = any(isinstance(step.action, (Train, TrainBase, MeasureLoss)) for step in steps_of(plan).values())
    asks = any(not urls_of(model, servers) for model in _asked_models(plan))
    if asks and engine.name != TRANSFORMERS:
        engine.check()
    if trains or (asks and engine.name == TRANSFORMERS):
        expect_libraries()
    for stage in _asking(plan):
        if engine.name == TRANSFORMERS and not urls_of(stage.model, servers):
            expect_able(stage.sampling)


def _check_builds(plan: Plan, servers: Servers, engine: Engine) -> None:
    """Models of encoder and decoder are not served by vLLM, nor trained with every setting."""
    for model in _asked_models(plan):
        if engine.name != TRANSFORMERS and not urls_of(model, servers):
            expect_decoder(_origin(model), f"--engine {TRANSFORMERS}, or --server for a server that knows it")
    for step in steps_of(plan).values():
        if isinstance(step.action, Train):
            expect_trainable(_origin(step.action.base), step.action.settings)


def _origin(model: Model) -> str:
    """The existing model that a model is tuned from; nothing for one that a run makes from scratch."""
    while model.step and isinstance(model.step.action, Train):
        model = model.step.action.base
    return "" if model.step else model.uri


def _asked_models(plan: Plan) -> list[Model]:
    return [stage.model for stage in _asking(plan)]


def _asking(plan: Plan) -> list[Ask[Any, Any]]:
    maps = [step.action for step in steps_of(plan).values() if isinstance(step.action, Map)]
    return [stage for action in maps for stage in action.stages if isinstance(stage, Ask)]
