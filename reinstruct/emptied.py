"""A corpus of which nothing is left ends the run, before any model is trained or asked for nothing.

The one rule: this is told from the finished step alone, so a run that is started again says the same.
"""

from __future__ import annotations

from collections import Counter

from reinstruct.commit import Result
from reinstruct.errors import CorpusError
from reinstruct.plan import Step
from reinstruct.records import Document

SHOWN = 4  # reasons


def expect_documents(step: Step, result: Result) -> None:
    """CorpusError saying why, if a finished step was given documents and let none through.

    Pairs may all be turned away: what is left of the seed still makes a dataset.
    """
    counts = result.counts
    if not issubclass(step.record_type, Document) or result.rows or not counts or not counts[0].read:
        return
    reasons = sum((Counter(count.rejected) for count in counts), Counter[str]())
    said = ", ".join(f"{reason} {rows:,}" for reason, rows in reasons.most_common(SHOWN))
    more = f" and {len(reasons) - SHOWN} more reasons" if len(reasons) > SHOWN else ""
    raise CorpusError(
        f"step {step.name} let none of {counts[0].read:,} documents through: {said}{more}. "
        f"Is it the right corpus for this recipe, and are its rules the right ones? "
        f"`reinstruct corpus inspect` and `reinstruct explain` show what a rule makes of a text"
    )
