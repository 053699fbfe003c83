"""One file per kind of task on the cluster: a container component each, no logic.

The rule: every task runs the same command in its image and is told everything by Kubeflow's executor input, so no
image needs kfp. What a verb does is in `reinstruct/container.py`.

Annotations are read by kfp when a component is defined: no `from __future__ import annotations` in this package.
"""

from kfp import dsl

WORKER = "reinstruct/worker:dev"  # reads, maps, gathers, asks servers, publishes
TRAINER = "reinstruct/trainer:dev"  # has torch: trains, measures, asks a model in its own process


def container(verb: str, image: str) -> dsl.ContainerSpec:
    """The container of one verb."""
    return dsl.ContainerSpec(
        image=image,
        command=["python", "-m", "reinstruct.container"],
        args=[verb, "--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER],
    )
