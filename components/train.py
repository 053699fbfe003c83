"""Train a base model on documents, or fine-tune one on examples."""

from kfp import dsl

from components import TRAINER, container


@dsl.container_component
def train_model(store: str, plan: str, step: str, servers: str, made: dsl.Output[dsl.Model]):
    return container("train", TRAINER)
