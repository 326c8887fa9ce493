"""The spectrum of what enters each adapted module of the base model: what EVA starts from (arXiv 2410.07170).

Adds ``activations`` to every data/evidence/pairs/NAME/record.json: per module the leading eigenvalues of the covariance
of its inputs at the target tokens of the data, as shares of their sum (EVA's explained variance ratios). PEFT's EVA
gathers the same by an incremental PCA; a few thousand tokens allow the covariance itself.

    python scripts/evidence/activations.py --work WORK --model demo=data/demo/model
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import pairs
import torch

from lorarank.probe import ProbeOptions
from lorarank.probe import model as models
from lorarank.probe.heldout import batch_of
from lorarank.probe.point import Bench
from lorarank.probe.target_tokens import IGNORED

TOKENS = 8_192
"""Tokens read. EVA's own incremental PCA converges in a few batches."""


class Covariance:
    """Sums over the inputs of one module at the target tokens, float64."""

    def __init__(self, width: int) -> None:
        self.count, self.total = 0, torch.zeros(width, dtype=torch.float64)
        self.products = torch.zeros(width, width, dtype=torch.float64)

    def add(self, inputs: torch.Tensor) -> None:
        """Inputs (tokens, width)."""
        inputs = inputs.cpu().double()  # the sums lie there, wherever the model is
        self.count += len(inputs)
        self.total += inputs.sum(0)
        self.products += inputs.T @ inputs

    def shares(self, most: int) -> list[float]:
        """The leading eigenvalues as shares of their sum, descending."""
        mean = self.total / self.count
        values = torch.linalg.eigvalsh(self.products / self.count - mean.outer(mean)).flip(0).clamp(min=0)
        return [float(f"{value:.4g}") for value in values[:most] / values.sum()]


@torch.no_grad()
def spectra(options: ProbeOptions) -> dict[str, list[float]]:
    """Module → shares, as many as the probe's rank."""
    bench = Bench(options)
    rows = bench.material.rows(0, options.seed, bench.packed)
    layers = models.lora_layers(bench.model)
    found = {name: Covariance(layer.in_features) for name, layer in layers.items()}
    where = torch.zeros(0, dtype=torch.bool)

    def hook(name: str) -> Any:
        def seen(_module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            found[name].add(inputs[0].reshape(-1, inputs[0].shape[-1])[where])

        return seen

    handles = [layer.register_forward_pre_hook(hook(name)) for name, layer in layers.items()]
    with models.scaled(layers, 0.0):
        for row in range(min(len(rows.input_ids), max(1, TOKENS // bench.material.row_length))):
            batch = batch_of(rows, slice(row, row + 1), bench.device)
            where = (batch.pop("labels") != IGNORED).reshape(-1)
            with torch.autocast(bench.device.type, dtype=bench.dtype, enabled=bench.dtype != torch.float32):
                bench.model(**batch, use_cache=False)
    for handle in handles:
        handle.remove()
    return {name: one.shares(options.rank) for name, one in found.items()}


if __name__ == "__main__":
    given = pairs.asked(__doc__)
    for pair in given.lacking("activations", probed=False):
        pairs.add(pair, "activations", partial(spectra, given.options(pair)))
