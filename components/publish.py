"""Put the finished dataset, its card and the report where people find them."""

from kfp import dsl

from components import WORKER, container


@dsl.container_component
def publish_dataset(store: str, plan: str, made: dsl.Output[dsl.Dataset], folder: str = ""):
    return container("publish", WORKER)
