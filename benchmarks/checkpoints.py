"""Time that a training stands still for one checkpoint: copied and written beside it, against written on the spot.

    python benchmarks/checkpoints.py [--rounds 5]

All sides save the same random Llama of 53 million parameters and its AdamW, in turn. `ours` is what the product does:
the state is copied in memory, and written, made durable and named by a manifest beside the training. `waited for` is
the same with the training waiting for the end. The peer is what transformers' Trainer does: save_pretrained and
torch.save, neither made durable nor checked.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

GOAL = 2.0


def state() -> tuple[Any, Any]:
    """A model and an optimizer that has taken a step."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    layers = {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 13, "num_attention_heads": 8}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=16_384, tie_word_embeddings=True, **layers))
    optimizer = torch.optim.AdamW(model.parameters())
    for weight in model.parameters():
        weight.grad = torch.full_like(weight, 1e-3)
    optimizer.step()
    return model, optimizer


def sides(folder: Path) -> dict[str, Callable[[int], float]]:
    """For each side, a function that saves once and tells the seconds it held the training up."""
    import torch

    from reinstruct.store import LocalStore
    from reinstruct.train.checkpoints import Checkpoints
    from reinstruct.train.model import quiet
    from reinstruct.train.saving import Saving, write_optimizer, write_weights

    quiet()
    model, optimizer = state()
    print(f"{model.num_parameters():,} parameters, {3 * 4 * model.num_parameters() / 1e6:.0f} MB a checkpoint")
    saving = Saving(Checkpoints(LocalStore(folder / "ours")), 0)

    def written(step: int, *, wait: bool) -> float:
        began = time.perf_counter()
        with saving.checkpoint(step, None):
            write_weights(model, saving.checkpoints.folder(step), saving)
            write_optimizer(optimizer, saving.checkpoints.folder(step), saving)
        if wait:
            saving.wait()
        seconds = time.perf_counter() - began
        saving.wait()
        return seconds

    def peer(step: int) -> float:
        place = folder / "peer" / str(step)
        began = time.perf_counter()
        model.save_pretrained(place)
        torch.save(optimizer.state_dict(), place / "optimizer.pt")
        return time.perf_counter() - began

    return {
        "ours": lambda step: written(2 * step, wait=False),
        "waited for": lambda step: written(2 * step + 1, wait=True),
        "transformers": peer,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        save = sides(Path(folder))
        found: dict[str, list[float]] = {name: [] for name in save}
        for step in range(options.rounds + 1):
            for name, once in save.items():
                found[name].append(once(step))
    lost = {name: statistics.median(seconds[1:]) for name, seconds in found.items()}  # the first round warms up
    for name, seconds in lost.items():
        print(f"{name:<14}{seconds:>8.3f} s")
    ratio = lost["transformers"] / lost["ours"]
    told = {"lost_s": {name: round(seconds, 3) for name, seconds in lost.items()}}
    print(
        json.dumps({"benchmark": "checkpoints", "ratio": round(ratio, 2), "goal": GOAL, "holds": ratio >= GOAL, **told})
    )


if __name__ == "__main__":
    main()
