from dataclasses import dataclass
import polars as pl
from reinstruct.stages.quality_rules import QualityFilter
@dataclass(frozen=True)
class Prose(QualityFilter):
    @classmethod
    def han(cls): return cls()
    @classmethod
    def other(cls): return cls()
