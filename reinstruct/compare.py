"""Several recipes on the same inputs and budget, in one store, and what each made of them side by side.

The rule: recipes are run as one plan, so a step that several share (the base, reading the corpus) is done once; each
recipe's figures count it in full, as if it had run alone.

    reinstruct compare reinstruct tegit --corpus FILES --seed FILE --base MODEL --limit N --out FOLDER
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import msgspec

from reinstruct import recipes
from reinstruct.errors import RecipeError
from reinstruct.evaluate.scaling import scaling_coefficient
from reinstruct.planfile import Plan, save
from reinstruct.planning import LOSSES, plan_run
from reinstruct.publish import publish
from reinstruct.records import Pair
from reinstruct.report_rows import Run, open_run
from reinstruct.runfile import COLUMNS, read_run_file, wanted
from reinstruct.store import Store
from reinstruct.suggest import suggestion

SAMPLED = 400  # synthetic pairs of a recipe whose texts are looked at
TABLE = "compare"
LABELLED = "@"


@dataclass(frozen=True)
class Made:
    """What one recipe made. Tokens are those models read and wrote, seconds those of all shards added up.

    `distinct` are shares of different word pairs among all, and `openings` of different first three words among
    instructions; they fall as a sample grows, so each is taken over as many words (rows) as every recipe has. None
    where there is nothing to measure. `nll` (nats per token) compares only roughly between recipes: each asks its
    models in its own way.
    """

    recipe: str
    documents: int
    synthetic: int
    rows: int
    tokens_read: int
    tokens_written: int
    seconds: float
    instruction_words: float | None
    mean_instruction_words: float | None
    output_words: float | None
    mean_output_words: float | None
    distinct_instructions: float | None
    distinct_outputs: float | None
    openings: float | None
    nll: Mapping[str, float | None]


def plan_comparison(
    names: Sequence[str], flags: Sequence[str], *, limit: int | None, held_out: str | None
) -> dict[str, Plan]:
    """A plan for each recipe. `flags` are inputs and settings as --name value; each goes to the recipes that take it,
    --RECIPE.name to that recipe alone. RecipeError for one that nobody takes, and for everything `plan_run` finds.

    A run file stands for its recipe with the file's inputs and settings, which flags go before. A recipe may be
    compared with itself: RECIPE@LABEL (or FILE@LABEL) is that recipe once more, and takes --RECIPE@LABEL.name too.
    """
    asked = _asked(names)
    found = {name: recipes.find(_recipe(name)) for name in asked}
    if len(found) < 2:
        raise RecipeError("compare takes the names of two recipes or more, before any flag")
    groups = list(_groups(flags))
    given: dict[str, list[str]] = {name: [] for name in found}
    for group in groups:
        takers = [name for name, recipe in found.items() if _takes(name, recipe, group[0])]
        if not takers:
            known = sorted({f"--{each}" for recipe in found.values() for each in _known(recipe)})
            raise RecipeError(f"no recipe takes {group[0]}{suggestion(group[0], known)}")
        for name in takers:
            given[name] += [_without(name, group[0]), *group[1:]]
    return {
        name: plan_run(wanted(asked[name], flags, out="", limit=limit, held_out=held_out).ask)
        for name, flags in given.items()
    }


def _asked(names: Sequence[str]) -> dict[str, str]:
    """What each entry of the table is called -> the recipe or run file it is planned from."""
    asked: dict[str, str] = {}
    for name in names:
        source, labelled, label = name.rpartition(LABELLED) if LABELLED in name else (name, "", "")
        if labelled and not re.fullmatch(r"[A-Za-z0-9_-]+", label):
            raise RecipeError(f"{name!r}: accepted behind {LABELLED} is a label of letters, digits, - and _")
        recipe = read_run_file(source).recipe if source.endswith(".toml") else source
        called = f"{recipe}{labelled}{label}"
        if asked.setdefault(called, source) != source:
            raise RecipeError(f"{asked[called]} and {source} are both {called}; tell them apart as {source}@LABEL")
    return asked


def merged(plans: Mapping[str, Plan]) -> Plan:
    """One plan with the steps of all, each once. Its dataset is the first recipe's: the others are published too."""
    steps = {spec.id: spec for plan in plans.values() for spec in plan.steps}
    first = next(iter(plans.values()))
    settings = {"recipes": list(plans), "plans": [plan.id for plan in plans.values()]}
    return Plan(recipe=TABLE, settings=settings, steps=list(steps.values()), data=first.data, corpus=first.corpus)


def save_all(store: Store, plans: Mapping[str, Plan]) -> Plan:
    """Put every plan in the store, and the one that holds the steps of all, as the newest."""
    for plan in plans.values():
        save(store, plan)
    together = merged(plans)
    save(store, together)
    return together


def publish_all(store: Store, plans: Mapping[str, Plan]) -> list[Made]:
    """Publish finished plans, each in the folder named like its recipe, and their figures as compare.md and .json."""
    losses = {name: publish(store, plan, folder=name)["held_out_nll"] for name, plan in plans.items()}
    made = figures(store, plans, losses)
    store.put(f"{TABLE}.json", msgspec.json.format(msgspec.json.encode([asdict(each) for each in made])))
    store.put(f"{TABLE}.md", as_markdown(made).encode())
    return made


def figures(store: Store, plans: Mapping[str, Plan], losses: Mapping[str, Mapping[str, float | None]]) -> list[Made]:
    """The figures of finished plans."""
    runs = {name: open_run(store, plan) for name, plan in plans.items()}
    samples = {name: run.sample(SAMPLED) for name, run in runs.items()}
    diversity = _diversity(samples)
    return [_made(name, run, samples[name], diversity[name], losses[name]) for name, run in runs.items()]


def as_rows(made: Sequence[Made]) -> list[list[str]]:
    """The table as people read it: one row per figure, one column per recipe, both with a heading."""
    rows = [["", *(each.recipe for each in made)]]
    for title, name, digits in _SHOWN:
        rows.append([title, *(_number(getattr(each, name), digits) for each in made)])
    for label in LOSSES:
        rows.append([f"held-out nll, {label}", *(_number(each.nll.get(label), 3) for each in made)])
    gains = scaling(made)
    if any(gain is not None for gain in gains.values()):
        rows.append(["final nll, for each e-fold of pairs", *(_number(gains[each.recipe], 3) for each in made)])
    return rows


def scaling(made: Sequence[Made]) -> dict[str, float | None]:
    """For each entry, how the final model's held-out loss changes with each e-fold of pairs, over all the entries of
    its recipe; None where these are not of two sizes. Below zero means that more data helps.
    """
    points: dict[str, list[tuple[int, float]]] = {}
    for each in made:
        loss = each.nll.get("final")
        if each.rows and loss is not None:
            points.setdefault(_recipe(each.recipe), []).append((each.rows, loss))
    slopes = {
        name: scaling_coefficient(*zip(*found, strict=True)) if len({rows for rows, _ in found}) > 1 else None
        for name, found in points.items()
    }
    return {each.recipe: slopes.get(_recipe(each.recipe)) for each in made}


def as_markdown(made: Sequence[Made]) -> str:
    """The table as Markdown."""
    heading, *rows = [f"| {' | '.join(row)} |" for row in as_rows(made)]
    return "\n".join([heading, "|---|" + "---:|" * len(made), *rows, ""])


_SHOWN = (
    ("documents read", "documents", 0),
    ("synthetic pairs kept", "synthetic", 0),
    ("pairs in the dataset", "rows", 0),
    ("tokens read by models", "tokens_read", 0),
    ("tokens written", "tokens_written", 0),
    ("seconds of work", "seconds", 0),
    ("words of an instruction, median", "instruction_words", 0),
    ("words of an instruction, mean", "mean_instruction_words", 1),
    ("words of an output, median", "output_words", 0),
    ("words of an output, mean", "mean_output_words", 1),
    ("distinct word pairs, instructions", "distinct_instructions", 3),
    ("distinct word pairs, outputs", "distinct_outputs", 3),
    ("distinct openings", "openings", 3),
)


def _recipe(name: str) -> str:
    return name.partition(LABELLED)[0]


def _groups(flags: Sequence[str]) -> Iterator[list[str]]:
    """Each flag with its value."""
    group: list[str] = []
    for item in flags:
        if item.startswith("--") and group:
            yield group
            group = []
        group.append(item)
    if group:
        yield group


def _takes(name: str, recipe: recipes.Recipe, flag: str) -> bool:
    name = _without(name, flag).removeprefix("--").partition("=")[0].replace("-", "_").partition(".")[0]
    return name.removesuffix(COLUMNS) in _known(recipe)


def _without(name: str, flag: str) -> str:
    """--tegit.size is --size to tegit and to tegit@twice, and unknown to any other recipe."""
    head, dot, rest = flag.removeprefix("--").partition(".")
    return f"--{rest}" if dot and head.replace("-", "_") in (name, _recipe(name)) else flag


def _known(recipe: recipes.Recipe) -> list[str]:
    return [*(given.name for given in recipe.inputs), *(setting.name for setting in recipe.settings)]


def _made(
    name: str, run: Run, sample: list[Pair], diversity: Sequence[float | None], nll: Mapping[str, float | None]
) -> Made:
    shards = [done for result in run.results.values() for done in result.shards]
    corpus = run.results.get(run.plan.corpus)
    origins = run.count("origin")
    outputs, instructions = _word_counts([p.output for p in sample]), _word_counts([p.instruction for p in sample])
    return Made(
        name,
        documents=corpus.rows if corpus else 0,
        synthetic=origins["synthetic"],
        rows=origins.total(),
        tokens_read=sum(done.prompt_tokens for done in shards),
        tokens_written=sum(done.completion_tokens for done in shards),
        seconds=sum(done.seconds for done in shards),
        instruction_words=_median(instructions),
        mean_instruction_words=_mean(instructions),
        output_words=_median(outputs),
        mean_output_words=_mean(outputs),
        distinct_instructions=diversity[0],
        distinct_outputs=diversity[1],
        openings=diversity[2],
        nll={label: nll.get(label) for label in LOSSES},
    )


def _diversity(samples: Mapping[str, list[Pair]]) -> dict[str, tuple[float | None, float | None, float | None]]:
    """Distinct word pairs of instructions and of outputs, distinct openings; over equally much of each recipe."""
    filled = {name: sample for name, sample in samples.items() if sample}
    rows = min((len(sample) for sample in filled.values()), default=0)
    asked = {name: [pair.instruction for pair in sample] for name, sample in filled.items()}
    said = {name: [pair.output for pair in sample] for name, sample in filled.items()}
    words = [min((sum(_word_counts(texts)) for texts in kind.values()), default=0) for kind in (asked, said)]
    return {
        name: (
            distinct(asked[name], words[0]) if name in filled else None,
            distinct(said[name], words[1]) if name in filled else None,
            _openings(asked[name][:rows]) if name in filled else None,
        )
        for name in samples
    }


def distinct(texts: Sequence[str], most_words: int, size: int = 2) -> float | None:
    """Different runs of `size` words among all, in about the first `most_words` words (Li et al. 2016, distinct-n)."""
    import polars as pl

    from reinstruct.stages.checks import grams, words

    frame = pl.DataFrame({"text": texts}, schema={"text": pl.String})
    before = words(pl.col("text")).cum_sum().shift(1, fill_value=0)
    runs = frame.filter(before < most_words).select(grams(pl.col("text"), size).explode()).to_series().drop_nulls()
    return runs.n_unique() / len(runs) if len(runs) else None


def _openings(instructions: Sequence[str]) -> float:
    return len({tuple(text.lower().split()[:3]) for text in instructions}) / len(instructions)


def _word_counts(texts: Sequence[str]) -> list[int]:
    import polars as pl

    from reinstruct.stages.checks import words

    return pl.DataFrame({"text": texts}, schema={"text": pl.String}).select(words(pl.col("text"))).to_series().to_list()


def _median(values: list[int]) -> float | None:
    return float(sorted(values)[len(values) // 2]) if values else None


def _mean(values: list[int]) -> float | None:
    return sum(values) / len(values) if values else None


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"
