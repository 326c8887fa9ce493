"""How many rows fit into one forward and backward pass (floor 2, torch)."""

from __future__ import annotations

import time

import torch
from accelerate.utils import find_executable_batch_size
from peft import PeftModel

from lorarank.corpus import Rows
from lorarank.errors import ResourceError, first_line
from lorarank.probe.heldout import batch_of, token_losses
from lorarank.probe.material import Material
from lorarank.probe.target_tokens import can_narrow


def largest_batch(model: PeftModel, material: Material, rows: Rows, most: int, dtype: torch.dtype) -> dict[str, float]:
    """``rows``: the largest divisor of ``most`` that memory allows; ``seconds`` that ``most`` rows take at that size.

    Raises
    ------
    ResourceError
        Not even one row fits.
    """
    tried: list[int] = []

    def attempt(batch_size: int) -> float:
        tried.append(batch_size)
        return _seconds(model, batch_of(rows, slice(0, batch_size), next(model.parameters()).device), dtype)

    smaller = (n for n in range(most - 1, 0, -1) if most % n == 0 and n <= tried[-1] // 2)
    fitting = find_executable_batch_size(
        attempt, starting_batch_size=most, reduce_batch_size_fn=lambda: next(smaller, 0)
    )
    try:
        seconds = fitting()
    except RuntimeError as error:
        if "No executable batch size" in str(error):
            raise out_of_memory(material) from None
        raise
    return {"rows": tried[-1], "seconds": seconds * most / tried[-1]}


def _seconds(model: PeftModel, batch: dict[str, torch.Tensor], dtype: torch.dtype) -> float:
    """Seconds of one forward and backward pass, the second of two: the first one warms up.

    What Adam will keep is in memory meanwhile: with large adapters that is gigabytes.
    """
    narrow = can_narrow(model)
    model.train()
    took = 0.0
    kept = [torch.zeros_like(p) for p in model.parameters() if p.requires_grad for _moment in range(2)]
    for _ in range(2):
        begun = time.perf_counter()
        losses, _where = token_losses(model, batch, dtype, narrow=narrow)
        losses.sum().backward()
        float(losses.detach().sum())  # waits for a GPU
        took = time.perf_counter() - begun
        model.zero_grad(set_to_none=True)
    del kept
    return took


def out_of_memory(material: Material, error: BaseException | None = None) -> ResourceError:
    """The line for a step that does not fit, however small."""
    detail = "" if error is None else f" ({first_line(error, 80)})"
    return ResourceError(
        "training",
        f"out of memory even with one row of {material.row_length} tokens at a time{detail}",
        do="shorten the rows with --row-length, or give --gradient-checkpointing or --load-in-4bit",
    )
