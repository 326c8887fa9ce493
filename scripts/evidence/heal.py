"""Cut a probe to rank k, train it on for a few steps, and measure: the predictor "cut and healed".

Adds ``heal`` to every data/evidence/pairs/NAME/record.json whose probe is in --work: how it was trained on, and
``points``, [k, excess in nats per token over the uncut probe trained on alike, its standard error] for each k of the
ladder below R.

    python scripts/evidence/heal.py --work WORK --model demo=data/demo/model
"""

from __future__ import annotations

import dataclasses
import sys
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import pairs
import torch

from lorarank import adapters, runs
from lorarank.numerics.linalg import truncated_factors
from lorarank.numerics.paired import paired_difference
from lorarank.probe import ProbeOptions
from lorarank.probe import model as models
from lorarank.probe.modules import target_names
from lorarank.probe.planning import truncation_ranks
from lorarank.probe.point import Bench
from lorarank.probe.training import TrainingRun, schedule_for, train

STEPS = 12
RATE_SHARE = 0.1
"""Of the probe's learning rate: AdamW starts cold, and its first steps are as large as the rate, needed or not."""

WARMUP_SHARE = 1 / 3
"""Of the steps; the first of them has rate 0 and fills AdamW's moments alone."""


def cut_to(bench: Bench, run: runs.Run, k: int) -> ProbeOptions:
    """Put the probe's adapter on the bench, cut to rank k; at R it is whole. The options of what is on it now."""
    options = dataclasses.replace(bench.options, rank=k)
    names = target_names(bench.skeleton, bench.targets)
    bench.model = models.attach_adapter(bench.model.unload(), options, names)
    layers = models.lora_layers(bench.model)
    for module in adapters.open(run.adapters[0]).modules:
        layer = layers[module.name]
        lora_A, lora_B = truncated_factors(*module.factors(), k)
        lora_B *= module.scaling / layer.scaling[models.ADAPTER]
        with torch.no_grad():
            layer.lora_A[models.ADAPTER].weight.copy_(torch.from_numpy(lora_A))
            layer.lora_B[models.ADAPTER].weight.copy_(torch.from_numpy(lora_B))
    return options


def healed(run: runs.Run, options: ProbeOptions, scratch: Path) -> dict[str, Any]:
    """How the cuts were trained on, and the points; all see the same rows in an order that is new to them."""
    bench, seed = Bench(options), options.seed + 1
    rows = bench.material.rows(0, seed, bench.packed)
    order = schedule_for(rows, rows_per_step=bench.material.rows_per_step, tokens=options.token_budget, seed=seed)
    rate, micro = RATE_SHARE * run.manifest.training.learning_rate, bench.micro_rows
    how = TrainingRun(rows, order.first(STEPS), rate, micro, bench.dtype, warmup_share=WARMUP_SHARE)

    def trained_on(k: int) -> tuple[tuple[float, ...], tuple[int, ...]]:
        cut = cut_to(bench, run, k)
        train(bench.model, how, cut, scratch)
        return bench.measured()

    whole, counts = trained_on(options.rank)
    points = [[k, *paired_difference(trained_on(k)[0], whole, counts)] for k in truncation_ranks(options.rank)]
    return {"rate": rate, "steps": STEPS, "warmup_share": round(WARMUP_SHARE, 3), "points": points}


if __name__ == "__main__":
    given = pairs.asked(__doc__)
    for pair in given.lacking("heal"):
        options = given.options(pair)
        pairs.add(pair, "heal", partial(healed, runs.read(options.output), options, given.work / "scratch" / pair.name))
