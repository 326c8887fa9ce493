"""The adapter on the model cut to a lower rank, for as long as a block lasts (floor 2, torch)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from peft import PeftModel

from lorarank.numerics.linalg import truncated_factors
from lorarank.probe.model import ADAPTER, lora_layers


@contextlib.contextmanager
def truncated(model: PeftModel, rank: int) -> Iterator[None]:
    """Within the block, every module's ΔW is its best approximation of ``rank`` (Eckart and Young, 1936).

    The factors keep their shapes, zero-padded to the probe's rank, so that nothing else about the model changes.
    """
    layers = lora_layers(model)
    pairs = {name: (layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight) for name, layer in layers.items()}
    before = {name: (lora_A.data, lora_B.data) for name, (lora_A, lora_B) in pairs.items()}
    try:
        for lora_A, lora_B in pairs.values():
            whole_A, whole_B = lora_A.data, lora_B.data
            small_A, small_B = truncated_factors(whole_A.float().cpu().numpy(), whole_B.float().cpu().numpy(), rank)
            lora_A.data, lora_B.data = torch.zeros_like(whole_A), torch.zeros_like(whole_B)
            lora_A.data[: len(small_A)].copy_(torch.from_numpy(small_A))
            lora_B.data[:, : len(small_A)].copy_(torch.from_numpy(small_B))
        yield
    finally:
        for name, (lora_A, lora_B) in pairs.items():
            lora_A.data, lora_B.data = before[name]
