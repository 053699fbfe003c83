"""Measure how likely a model finds held-out targets."""

from kfp import dsl

from components import TRAINER, container


@dsl.container_component
def measure_loss(store: str, plan: str, step: str, servers: str, made: dsl.Output[dsl.Dataset]):
    return container("measure", TRAINER)
