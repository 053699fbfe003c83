"""Ask a model about each record: the servers named for it, or the trainer image's own process."""

from kfp import dsl

from components import WORKER, container


@dsl.container_component
def ask_model(store: str, plan: str, step: str, servers: str, made: dsl.Output[dsl.Dataset]):
    return container("ask", WORKER)
