"""Apply filters and transforms to each record; no model."""

from kfp import dsl

from components import WORKER, container


@dsl.container_component
def map_records(store: str, plan: str, step: str, servers: str, made: dsl.Output[dsl.Dataset]):
    return container("map", WORKER)
