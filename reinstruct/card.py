"""The dataset card: what a Hugging Face dataset's README.md says of how the rows were made.

The one rule: the card says only what the plan, the counts and the rows themselves say.
"""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_type_hints

from reinstruct.planfile import Plan
from reinstruct.records import Pair
from reinstruct.report_funnel import Funnel, StageRow, funnel_of
from reinstruct.report_rows import Run, model_ids, open_run
from reinstruct.report_text import number, share
from reinstruct.store import Store

LISTED = 20

LICENCE_NOTE = "Each row keeps the licence its source states; it holds for the text the row was made from."
SOURCE_NOTE = "Collections: of a row's source, the host of its address, or what stands before the first of @ : #."

# Identifiers the Hub knows, of the licences found in corpora; every other licence is "other" to it.
HUB_LICENCES = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0"),
    *("cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "odc-by", "odbl", "pddl", "gfdl"),
)
HUB_SIZES = (
    *((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")),
    *((10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B")),
)

FIELDS = {
    "id": "as the source gives it, or made from the text; the same in every run",
    "instruction": "what is asked",
    "input": "what the instruction is about, where it is kept apart",
    "output": "the response",
    "origin": "`synthetic` or `seed`",
    "document": "the text the pair was made from, as it was before any rewriting",
    "document_id": "id of that text",
    "url": "where that text was found",
    "source": "the collection the row comes from",
    "licence": "as the source states it",
    "scores": "numbers given by judges or rules: name, value",
    "lineage": "what made or changed the row, in order: step, stage, model, prompt version",
}


def dataset_card(store: Store, plan: Plan) -> str:
    """The card as Markdown with a YAML header, for a folder of train-*.parquet. StoreError if the store is damaged."""
    run = open_run(store, plan)
    funnel, licences = funnel_of(run), run.count("licence")
    sections = [
        _header(plan, funnel.pairs, licences),
        _made(run, funnel),
        _funnel(funnel),
        _fields(),
        ranked("Licences", LICENCE_NOTE, licences),
        ranked("Sources", SOURCE_NOTE, run.count("source", collection)),
    ]
    return "\n\n".join(sections) + "\n"


def cell(text: str, most: int = 200) -> str:
    """Untrusted text as one line of Markdown that is nothing but text, also inside a table; at most so long."""
    line = " ".join(text.split())
    short = line if len(line) <= most else line[:most] + "…"
    return re.sub(r"([\\`*\[\]|~])", r"\\\1", html.escape(short, quote=False))


def collection(source: str) -> str:
    """What many rows share of a source that names each row's own file or page."""
    if "://" in source:
        return source.partition("://")[2].partition("/")[0]
    return re.split("[@:#]", source, maxsplit=1)[0].strip()


def hub_licence(licences: Counter[str]) -> str:
    """The Hub's identifier, if all rows have one licence and the Hub knows it; else "other"."""
    names = {name.strip().lower().replace(" ", "-") for name in licences}
    return names.pop() if len(names) == 1 and names <= set(HUB_LICENCES) else "other"


def _header(plan: Plan, rows: int, licences: Counter[str]) -> str:
    size = next((name for limit, name in HUB_SIZES if rows < limit), "n>1B")
    lines = [
        "---",
        f"pretty_name: {json.dumps(plan.recipe + ' instruction data')}",
        f"license: {hub_licence(licences)}",
    ]
    lines += ["task_categories:", "- text-generation", "tags:", "- instruction-tuning", "- synthetic"]
    lines += ["size_categories:", f"- {size}"]
    lines += ["configs:", "- config_name: default", "  data_files:", "  - split: train", '    path: "train-*.parquet"']
    return "\n".join([*lines, "---"])


def _made(run: Run, funnel: Funnel) -> str:
    plan = run.plan
    lines = [f"# {plan.recipe} instruction data", ""]
    lines += [
        f"{number(funnel.pairs)} pairs of instruction and response: {number(funnel.synthetic)} synthetic, "
        f"{number(funnel.seed)} from the seed. Made from {number(funnel.documents)} documents "
        f"with reinstruct, recipe `{plan.recipe}`.",
        *("", "## How it was made", "", f"Plan: `{plan.id}`"),
    ]
    if plan.settings:
        lines += ["", *settings_table(plan.settings)]
    steps = [(spec.name, model) for spec in plan.steps for model in model_ids(spec)]
    if steps:
        lines += ["", *table(("Step", "Model it uses"), steps)]
    makers = run.makers()
    if makers:
        ranked = sorted(makers, key=lambda made: (-makers[made], made.stage, made.prompt))
        rows = [(made.stage, made.model, made.prompt, share(makers[made], makers.total())) for made in ranked[:LISTED]]
        lines += ["", *table(("Stage", "Model", "Prompt version", "Share of lineage entries looked at"), rows)]
    return "\n".join(lines)


def _funnel(funnel: Funnel) -> str:
    if not funnel.main:
        return "## Rows kept and rejected\n\nNo step between the corpus and the dataset is finished."
    head = ("Stage", "Read", "Kept", "Rejected", "Reasons")
    return section("Rows kept and rejected", *table(head, [_stage(row) for row in funnel.main]))


def _stage(row: StageRow) -> tuple[str, ...]:
    reasons = ", ".join(f"{reason.name} {number(reason.rows)}" for reason in row.reasons)
    return row.stage, number(row.read), number(row.kept), number(row.rejected), reasons or "–"


def _fields() -> str:
    types = {str: "string", tuple: "list of structs"}
    hints = get_type_hints(Pair)
    rows = [(name, types.get(hints[name], "list of structs"), meaning) for name, meaning in FIELDS.items()]
    lines = [f"| `{name}` | {kind} | {meaning} |" for name, kind, meaning in rows]
    return section("Fields", "| Field | Type | Meaning |", "| --- | --- | --- |", *lines)


def section(title: str, *lines: str) -> str:
    """Lines of Markdown under a heading."""
    return "\n".join([f"## {title}", "", *lines])


def ranked(title: str, note: str, rows: Counter[str]) -> str:
    """A section with a table of the commonest values and their rows."""
    if not rows:
        return section(title, "The dataset has no rows yet.")
    listed = [(name or "none stated", number(count)) for name, count in rows.most_common(LISTED)]
    left = len(rows) - len(listed)
    more = ["", f"and {number(left)} more."] if left > 0 else []
    return section(title, note, "", *table((title[:-1], "Rows"), listed), *more)


def settings_table(settings: Mapping[str, Any]) -> list[str]:
    """The lines of a table of settings."""
    return table(("Setting", "Value"), [(name, _plain(value)) for name, value in settings.items()])


def _plain(value: Any) -> str:
    """A text as it is, but for an empty one, and any other value as JSON."""
    return value if value and isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table; cells are any text."""
    lines = [head, ["---"] * len(head), *([cell(value) for value in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]
