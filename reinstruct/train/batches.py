"""From the rows of a forward pass to its tensors: behind one another in one sequence, or side by side and padded.

The one rule: rows of a pass never see one another. `keeps_apart` asks the model itself before rows are packed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import DataCollatorWithFlattening

from reinstruct.train.tokens import TokenRows

IGNORED = -100  # the label torch leaves out of the loss
TOLERANCE = 1e-3  # of logits, relative to the largest: rounding differs between the two ways, nothing else may
TOLERANCE_16 = 0.06  # where weights have 16 bits or fewer; rounding makes about 0.01, and Mamba's state 0.3 or more
PROBE = (7, 3, 5)  # tokens of the rows a model is asked with


class Collate(Protocol):
    """Passes of a dataset (each {"rows": row numbers}) as the tensors of one batch."""

    def __call__(self, passes: Sequence[dict[str, Any]]) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Packed:
    """One sequence [1, tokens]: positions begin anew with every row, and no label is the first of a row.

    Of such positions transformers makes masks that are blocks, and flash attention sequences of its own.
    """

    rows: TokenRows

    def __call__(self, passes: Sequence[dict[str, Any]]) -> dict[str, Any]:
        flatten: Any = DataCollatorWithFlattening(return_tensors="pt")
        return dict(flatten([_features(self.rows, row) for each in passes for row in each["rows"]]))


@dataclass(frozen=True)
class Padded:
    """Rows padded on the right to the longest of them. Tensors are [rows, tokens].

    What stands behind a row is never seen from it, and its own labels are ignored. The mask says which tokens are some.
    """

    rows: TokenRows
    pad: int

    def __call__(self, passes: Sequence[dict[str, Any]]) -> dict[str, Any]:
        features = [_features(self.rows, row) for each in passes for row in each["rows"]]
        longest = max(len(row["input_ids"]) for row in features)
        ids = torch.full((len(features), longest), self.pad)
        mask = torch.zeros_like(ids)
        labels = torch.full((len(features), longest), IGNORED)
        for index, row in enumerate(features):
            length = len(row["input_ids"])
            ids[index, :length] = torch.tensor(row["input_ids"])
            mask[index, :length] = 1
            labels[index, :length] = torch.tensor(row["labels"])
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}


@torch.inference_mode()
def keeps_apart(model: Any) -> bool:
    """Whether a model answers rows in one sequence as it answers each alone.

    Models with attention do; those that carry a state from token to token (Mamba and its like) mostly do not.
    """
    vocabulary = model.get_input_embeddings().num_embeddings
    draw = torch.Generator().manual_seed(0)
    rows = [torch.randint(vocabulary, (1, length), generator=draw).to(model.device) for length in PROBE]
    positions = torch.cat([torch.arange(length) for length in PROBE])[None].to(model.device)
    was_training = model.training
    model.eval()
    alone = torch.cat([model(input_ids=row, use_cache=False).logits for row in rows], dim=1).float()
    together = model(input_ids=torch.cat(rows, dim=1), position_ids=positions, use_cache=False).logits.float()
    model.train(was_training)
    exact = all(weight.dtype == torch.float32 for weight in model.parameters())
    tolerance = TOLERANCE if exact else TOLERANCE_16
    return bool((together - alone).abs().max() <= tolerance * alone.abs().max())


def _features(rows: TokenRows, row: int) -> dict[str, list[int]]:
    ids: list[int] = rows.tokens(row).tolist()
    prompt = rows.prompt_tokens(row)
    return {"input_ids": ids, "labels": [IGNORED] * prompt + ids[prompt:]}
