"""Compile a comparison of recipes to one Kubeflow pipeline: a task per step of any of them, then one per recipe that
publishes.

The rule: a step that several recipes share is one task. As in from_plan.py, the pipeline holds no settings.

Annotations are read by kfp when a pipeline is defined: no `from __future__ import annotations` in this package.
"""

from collections.abc import Mapping
from pathlib import Path

from kfp import compiler, dsl

from pipelines.from_plan import Images, dns_name, publish_task, step_tasks
from reinstruct.compare import merged
from reinstruct.errors import RecipeError
from reinstruct.planfile import Plan


def compile_comparison(
    plans: Mapping[str, Plan],
    *,
    store: str,
    path: Path,
    images: Images = Images(),
    servers: Mapping[str, tuple[str, ...]] = {},
) -> None:
    """Write the pipeline of several plans to `path`; each is published in the folder of the store named by its key.

    `compare.save_all` puts the plans in the store, before the pipeline is submitted. Arguments are those of
    `from_plan.compile_plan`; RecipeError for a plan made by another version.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise RecipeError(f"cannot compile to {path}: accepted: a name that ends in .yaml or .yml")
    together = merged(plans)

    @dsl.pipeline(name=dns_name(together.id), description=f"{', '.join(plans)} on the same inputs")
    def compare_recipes(store: str = store, plan: str = f"plans/{together.id}.json"):
        tasks = step_tasks(together, store, plan, images, servers)
        for folder, each in plans.items():
            given = {"store": store, "plan": f"plans/{each.id}.json", "folder": folder}
            publish_task(each, tasks, images, f"publish-{folder}", **given)

    path.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(compare_recipes, str(path))
