"""What any recipe can have done to its corpus first: languages, quality, leaked test items, near-duplicates, masking.

The one rule: what is off adds no step, so that a plan without it is the plan it always was.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

from reinstruct.plan import Dataset
from reinstruct.records import Document, Pair
from reinstruct.stage import Filter
from reinstruct.stages.decontaminate import DropLeaks
from reinstruct.stages.language import KeepLanguages
from reinstruct.stages.leak_sets import TestSets
from reinstruct.stages.near_duplicates import DropNearDuplicates
from reinstruct.stages.quality import preset
from reinstruct.stages.scrub import Scrub

R = TypeVar("R", Document, Pair)


@dataclass(frozen=True)
class Preparation:
    """Settings of every recipe, each a flag of its own (`--quality web`); all are off unless given.

    `languages` are ISO 639 codes of `stages.language` to keep. `quality` names rules of `stages.quality.PRESETS`, each
    asked in turn. `decontaminate` names files of test items: documents and made pairs that share 13 words with one are
    rejected. `near_duplicates` keeps one of documents that are nearly the same. `scrub` masks personal data and secrets
    in documents. RecipeError for an unknown language or name, and without the package that tells languages.
    """

    quality: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    near_duplicates: bool = False
    scrub: bool = False
    decontaminate: TestSets = field(default=TestSets())

    def __post_init__(self) -> None:
        self.rules()
        if self.languages:
            KeepLanguages(self.languages)

    def rules(self) -> tuple[Filter[Any], ...]:
        """The filters that `quality` names. RecipeError for a name that is none."""
        return tuple(preset(name) for name in self.quality)

    def documents(self, corpus: Dataset[Document]) -> Dataset[Document]:
        """The corpus prepared. What looks at all documents at once sees those left, and masks hide nothing from it."""
        if self.languages:
            corpus = corpus.map(KeepLanguages[Document](self.languages), name="languages")
        if self.quality:
            rules: Any = self.rules()
            corpus = corpus.map(*rules, name="quality")
        corpus = self.without_leaks(corpus)
        if self.near_duplicates:
            corpus = corpus.gather(DropNearDuplicates(), name="near-duplicates")
        return corpus.map(Scrub[Document](), name="scrub") if self.scrub else corpus

    def without_leaks(self, data: Dataset[R]) -> Dataset[R]:
        """Documents, or pairs that a model made, without those that share words with a test item."""
        if not self.decontaminate.uris:
            return data
        if data.step.record_type is Pair:
            leaks = DropLeaks[R](self.decontaminate, ("instruction", "input", "output"))
            return data.map(leaks, name="decontaminate-pairs")
        return data.map(DropLeaks[R](self.decontaminate), name="decontaminate")
