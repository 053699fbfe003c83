"""Run compiled pipelines here: kfp.local does the walking, each container is a process of this Python."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kfp import components, local
from kfp.local import config, status, subprocess_task_handler

KFP_TASK = subprocess_task_handler.SubprocessTaskHandler


class ContainerProcess(KFP_TASK):
    """A container's own command as a process. kfp has already put the executor input in its place."""

    def validate_image(self, image: str) -> None:
        """No image is needed."""

    def validate_not_container_component(self, full_command: list[str]) -> None:
        """Container components are what this runs."""

    def run(self) -> status.Status:
        program, *args = self.full_command
        argv = [sys.executable if program == "python" else program, *args]
        code = subprocess_task_handler.run_local_subprocess(argv, env_vars=self.env_vars)
        return status.Status.SUCCESS if code == 0 else status.Status.FAILURE


@contextmanager
def kfp_local(outputs: Path, task: type[KFP_TASK] = ContainerProcess) -> Iterator[None]:
    """Within this block kfp runs what is called, task by task, and keeps their output artifacts in `outputs`.

    The name in kfp's module is the only place where it can be told what runs a task.
    """
    before = config.LocalExecutionConfig.instance
    subprocess_task_handler.SubprocessTaskHandler = task
    try:
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(outputs))
        yield
    finally:
        subprocess_task_handler.SubprocessTaskHandler = KFP_TASK
        config.LocalExecutionConfig.instance = before


def run_pipeline(path: Path, outputs: Path, task: type[KFP_TASK] = ContainerProcess, **arguments: str) -> None:
    """Run a compiled pipeline to its end. RuntimeError if a task fails."""
    pipeline = components.load_component_from_file(str(path))
    with kfp_local(outputs, task):
        pipeline(**arguments)
