"""`reinstruct pretrain`: a base model of one's own from the prose of a corpus, with a card that says what is in it.

The rule: the model learns from what the plan selects, and its figures are of sources it never saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

from reinstruct.corpus.open import open_source
from reinstruct.corpus.read import first_records
from reinstruct.errors import RecipeError, expect
from reinstruct.llm import Sampling
from reinstruct.plan import Dataset, measure_loss, read, train_base
from reinstruct.planfile import Plan, specs
from reinstruct.records import Document
from reinstruct.stages.gather import Sample
from reinstruct.stages.near_duplicates import DropNearDuplicates
from reinstruct.stages.prose import ContinueText, HoldOutSources, KeepLicences, KeepParagraphs, WriteOn
from reinstruct.stages.quality_prose import Prose
from reinstruct.train.settings import Pretrain

MOST_TOKENS = 1024  # of a held-out text; 1,200 characters have far fewer
SAMPLES = 6
WRITING = Sampling(temperature=0.7, top_p=0.9, max_tokens=120)
LOSS, HELD, WRITTEN = "held-out-loss", "held-out", "samples"  # names of steps that the card looks up


@dataclass(frozen=True)
class Wanted:
    """What `reinstruct pretrain` is asked for. `licences` are parts of licence names; none takes every document.

    `held_out` is the share of the sources (books, pages) that are not trained on but measured. `model_licence` is what
    the card states for the model; empty: nothing.
    """

    corpora: Sequence[str]
    licences: tuple[str, ...] = ()
    settings: Pretrain = field(default=Pretrain("mini"))
    limit: int = 0  # documents of each corpus; 0: all
    held_out: float = 0.02
    model_licence: str = ""


def plan_pretraining(wanted: Wanted) -> Plan:
    """Select English prose, hold sources out, train, and measure. RecipeError or CorpusError for a wrong input."""
    expect(wanted.limit >= 0, "limit", wanted.limit, "a whole number of documents, 0 for all")
    expect(0 < wanted.held_out < 1, "held_out", wanted.held_out, "a share of the sources, above 0 and below 1")
    if not wanted.corpora:
        raise RecipeError("pretrain needs a corpus: a file, folder, glob or URL, or pydoc:")
    if any(not licence.strip() for licence in wanted.licences):
        raise RecipeError("--licence is empty; accepted: a part of the licences' names, such as 'public domain'")
    corpus = reduce(add, [_corpus(uri, wanted.limit) for uri in wanted.corpora])
    prose = corpus.map(KeepLicences(wanted.licences), KeepParagraphs(), Prose(), name="select")
    unique = prose.gather(DropNearDuplicates(), name="deduplicate")
    seed = wanted.settings.seed
    trained = unique.map(HoldOutSources(wanted.held_out, "train", seed), name="train-texts")
    tested = unique.map(HoldOutSources(wanted.held_out, "test", seed), ContinueText(), name=HELD)
    model = train_base(trained, wanted.settings, name="model")
    assert model.step is not None
    loss = measure_loss(model, tested, LOSS, MOST_TOKENS)
    openings = unique.map(HoldOutSources(wanted.held_out, "test", seed), name="unseen").gather(Sample(SAMPLES, seed))
    samples = openings.map(WriteOn(model, sampling=WRITING), name=WRITTEN)
    return Plan(
        recipe="pretrain",
        settings=_told(wanted),
        steps=specs(model.step, loss, samples.step),
        data=trained.step.id,
        corpus=corpus.step.id,
        models={"model": model.step.id},
        losses={"model": loss.id},
    )


def _corpus(uri: str, limit: int) -> Dataset[Document]:
    source = open_source(uri, Document)
    first_records(source, 1)
    return read(source, limit=limit, name="corpus")


def _told(wanted: Wanted) -> dict[str, Any]:
    settings = wanted.settings
    told = {"corpus": [_shown(uri) for uri in wanted.corpora], "licence": list(wanted.licences), "size": settings.size}
    told |= {"model_licence": wanted.model_licence.strip(), "seed": settings.seed, "tokens": settings.tokens}
    return told | {"limit": wanted.limit, "held_out": wanted.held_out}


def _shown(uri: str) -> str:
    """A corpus as the card names it: of a local path, where it lies is nobody's business."""
    return uri if ":" in uri else Path(uri).name
