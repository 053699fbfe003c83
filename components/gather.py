"""Look at all records at once: deduplicate, sample."""

from kfp import dsl

from components import WORKER, container


@dsl.container_component
def gather_records(store: str, plan: str, step: str, servers: str, made: dsl.Output[dsl.Dataset]):
    return container("gather", WORKER)
