"""What the store holds of a run: results, counts over columns, samples, lengths and examples of rejected rows.

The one rule: a look costs the same for millions of rows as for thousands. Whole datasets are read only in single
columns of short values; texts only from row groups spread evenly over the parts.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, TypeVar, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reinstruct.commit import Part, Result, result_of
from reinstruct.errors import StoreError
from reinstruct.planfile import Plan, StepSpec
from reinstruct.records import Made, Pair, Rejected, from_table
from reinstruct.store import Store
from reinstruct.tables import ROWS

T = TypeVar("T")

LOOKED_AT = 20_000  # rows whose texts are looked at
GROUPS = 400  # row groups of rejected rows looked through, per step


@dataclass(frozen=True)
class Run:
    """A plan and the results of its finished steps."""

    store: Store
    plan: Plan
    results: Mapping[str, Result]

    @cached_property
    def specs(self) -> dict[str, StepSpec]:
        return {spec.id: spec for spec in self.plan.steps}

    def datasets(self, step_id: str) -> list[list[Part]]:
        """The parts of each finished dataset a step consists of: its own, or those a concatenation joins."""
        spec = self.specs.get(step_id)
        if spec is None:
            return []
        if kind_of(spec) == "Concat":
            return [parts for needed in spec.inputs for parts in self.datasets(needed)]
        result = self.results.get(step_id)
        return [result.parts] if result else []

    @cached_property
    def data(self) -> list[list[Part]]:
        """Those of the dataset the recipe promises."""
        return self.datasets(self.plan.data)

    def count(self, column: str, group: Callable[[str], str] = str) -> Counter[str]:
        """How many rows of the promised dataset have each value of a column, or group of values; all are counted."""
        found: Counter[str] = Counter()
        for parts in self.data:
            for part in parts:
                with _opened(self.store, part.name) as parquet:
                    for value, rows in _value_counts(parquet.read(columns=[column]).column(column)):
                        found[group(value)] += rows
        return found

    def lengths(self) -> dict[str, dict[str, list[int]]]:
        """Characters of the promised dataset's texts, by origin and by document, instruction and response."""
        found: dict[str, dict[str, list[int]]] = {}
        for table in self._tables(["origin", "document", "instruction", "input", "output"]):
            texts = {name: pc.utf8_length(table.column(name)).to_pylist() for name in table.column_names[1:]}
            rows = zip(_values(table, "origin"), *texts.values(), strict=True)
            for origin, document, instruction, added, output in rows:
                lengths = found.setdefault(origin, {"document": [], "instruction": [], "response": []})
                if document:
                    lengths["document"].append(document)
                lengths["instruction"].append(instruction + added)
                lengths["response"].append(output)
        return found

    def makers(self) -> Counter[Made]:
        """How many of the rows looked at each model stage and prompt had a hand in."""
        found: Counter[Made] = Counter()
        for table in self._tables(["lineage"]):
            made = [Made(**entry) for lineage in _values(table, "lineage") for entry in lineage]
            found.update(made)
        return found

    def sample(self, size: int, origin: str = "synthetic") -> list[Pair]:
        """The `size` rows of that origin with the smallest hashes of their ids, of the rows looked at."""
        found = heapq.nsmallest(size, self._draws(origin), key=lambda draw: draw[0])
        pairs: dict[str, Pair] = {}
        for _, name, group, row in found:
            with _opened(self.store, name) as parquet:
                for pair in from_table(parquet.read_row_group(group).slice(row, 1), Pair):
                    pairs.setdefault(pair.id, pair)
        return list(pairs.values())

    def _draws(self, origin: str) -> Iterator[tuple[bytes, str, int, int]]:
        for name, group, table in self._groups(["id", "origin"]):
            origins = _values(table, "origin")
            for row, key in enumerate(_values(table, "id")):
                if origins[row] == origin:
                    yield blake2b(key.encode(), digest_size=8).digest(), name, group, row

    def _tables(self, columns: list[str]) -> Iterator[pa.Table]:
        return (table for _, _, table in self._groups(columns))

    def _groups(self, columns: list[str]) -> Iterator[tuple[str, int, pa.Table]]:
        for parts in self.data:
            yield from _spread(self.store, parts, columns, LOOKED_AT // len(self.data))


def open_run(store: Store, plan: Plan) -> Run:
    """The plan with the results it has so far."""
    found = {spec.id: result_of(store, spec.id) for spec in plan.steps}
    return Run(store, plan, {step_id: result for step_id, result in found.items() if result is not None})


def kind_of(spec: StepSpec) -> str:
    """The name of the step's action: Read, Map, GatherAll, Concat, TrainBase, Train or MeasureLoss."""
    return str(spec.action["type"]).rpartition(":")[2]


def model_ids(spec: StepSpec) -> tuple[str, ...]:
    """The models the step's action uses: the id of the step that trains one, or where one lies."""
    return tuple(dict.fromkeys(_models_in(spec.action)))


def rejected_examples(
    store: Store, result: Result, most: int = 3, groups: int = GROUPS
) -> dict[tuple[str, str], list[Rejected]]:
    """The first rows rejected by each (stage, reason), up to `most`; stops as soon as it has them all."""
    missing = {
        (count.stage, reason): min(most, rows) for count in result.counts for reason, rows in count.rejected.items()
    }
    found: dict[tuple[str, str], list[Rejected]] = {}
    for parquet, group in _row_groups(store, result.rejected, groups):
        if not any(missing.values()):
            break
        rows = list(_wanted(parquet.read_row_group(group, columns=["stage", "reason"]).to_pylist(), missing))
        if rows:
            for rejected in from_table(parquet.read_row_group(group).take(rows), Rejected):
                found.setdefault((rejected.stage, rejected.reason), []).append(rejected)
    return found


def _models_in(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in cast(list[Any], value):
            yield from _models_in(item)
    elif isinstance(value, dict):
        fields = cast(dict[str, Any], value)
        if "type" not in fields and isinstance(fields.get("model"), str):
            yield fields["model"]
        for item in fields.values():
            yield from _models_in(item)


def _wanted(rows: Sequence[dict[str, str]], missing: dict[tuple[str, str], int]) -> Iterator[int]:
    """Numbers of the rows still missing, which then are so no more."""
    for number, row in enumerate(rows):
        key = row["stage"], row["reason"]
        if missing.get(key):
            missing[key] -= 1
            yield number


def _row_groups(store: Store, parts: Iterable[Part], most: int) -> Iterator[tuple[pq.ParquetFile, int]]:
    for part in parts:
        with _opened(store, part.name) as parquet:
            for group in range(min(parquet.num_row_groups, most)):
                yield parquet, group
                most -= 1
        if most <= 0:
            return


def _spread(store: Store, parts: list[Part], columns: list[str], rows: int) -> Iterator[tuple[str, int, pa.Table]]:
    """(part, group, columns) of all row groups, or of about `rows` rows' worth spread evenly. Parts count once."""
    distinct = list({part.name: part for part in parts if part.rows}.values())
    total, wanted = sum(part.rows for part in distinct), max(1, rows // ROWS)
    places, end = [total * number // wanted for number in range(wanted)], 0
    for part in distinct:
        begin, end = end, end + part.rows
        here = [place - begin for place in places if begin <= place < end]
        if here or total <= rows:
            with _opened(store, part.name) as parquet:
                count = parquet.num_row_groups
                for group in range(count) if total <= rows else sorted({place * count // part.rows for place in here}):
                    yield part.name, group, parquet.read_row_group(group, columns=columns)


def _value_counts(column: Any) -> list[tuple[str, int]]:
    entries: list[dict[str, Any]] = cast(Any, pc.value_counts(column)).to_pylist()
    return [(entry["values"], entry["counts"]) for entry in entries]


def _values(table: pa.Table, column: str) -> list[Any]:
    return table.column(column).to_pylist()


@contextmanager
def _opened(store: Store, name: str) -> Generator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(store.path(name), memory_map=True) as parquet:
            yield parquet
    except FileNotFoundError as error:
        raise StoreError(f"{store.root} has lost {name}, which a done record names") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise StoreError(f"{store.root}/{name} is damaged: {error}") from error
