"""Bases that see or hear besides reading: models of several parts, of which text trains one.

The one rule: what text does not reach is not trained. It gets no gradient, for which processes would wait in vain, and
is saved as it was.
"""

from __future__ import annotations

from typing import Any

from reinstruct.architecture import ENCODER_DECODER, architecture_of


def text_config(config: Any) -> Any:
    """The part of a configuration that tells of text; all of it where there are no parts."""
    return config if architecture_of(config) is ENCODER_DECODER else config.get_text_config(decoder=True)


def towers(model: Any) -> list[str]:
    """Names of the largest modules that have weights and no part in text; none in most models."""
    if text_config(model.config) is model.config:
        return []
    reached = {id(weight) for weight in _text_weights(model)}
    found: list[str] = []
    for name, module in model.named_modules():
        weights = {id(weight) for weight in module.parameters()}
        if weights and not weights & reached and not any(name.startswith(f"{tower}.") for tower in found):
            found.append(name)
    return found


def freeze_towers(model: Any) -> None:
    """Leave only the weights that text reaches to be trained."""
    if text_config(model.config) is model.config:
        return
    reached = {id(weight) for weight in _text_weights(model)}
    for weight in model.parameters():
        weight.requires_grad_(weight.requires_grad and id(weight) in reached)
    # FSDP cuts a model at the layers it names, and such models name some that they have not
    present = {type(module).__name__ for module in model.modules()}
    model._no_split_modules = {name for name in model._no_split_modules or () if name in present}


def _text_weights(model: Any) -> list[Any]:
    parts = (model.get_decoder(), model.get_output_embeddings())
    return [weight for part in parts if part is not None for weight in part.parameters()]
