"""Take in records from outside: files, or the documentation of installed packages."""

from kfp import dsl

from components import WORKER, container


@dsl.container_component
def read_records(store: str, plan: str, step: str, servers: str, made: dsl.Output[dsl.Dataset]):
    return container("read", WORKER)
