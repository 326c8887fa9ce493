"""Companions of the probe at other low ranks than its own companion's: which rank predicts best?

Adds ``companions`` to every data/evidence/pairs/NAME/record.json: [rank, loss beyond the probe's in nats per token, its
standard error] for ranks 2 and 4, trained as the probe was: its rate, its rows in its order, its number of steps.

    python scripts/evidence/companions.py --work WORK --model demo=data/demo/model
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import pairs
from peft import set_peft_model_state_dict
from safetensors.torch import load_file

from lorarank import runs
from lorarank.numerics.paired import paired_difference
from lorarank.probe import ProbeOptions
from lorarank.probe.point import Bench

RANKS = (2, 4)


def companions(run: runs.Run, options: ProbeOptions, scratch: Path) -> list[list[float]]:
    """The points. Nothing of the sweep is used."""
    bench = Bench(options)
    set_peft_model_state_dict(bench.model, load_file(run.adapters[0] / "adapter_model.safetensors"))
    _ = bench.micro_rows
    whole, counts = bench.measured()
    points = []
    for rank in RANKS:
        rate = run.manifest.training.learning_rate
        trained = bench.point(rank, rate, options.seed, scratch / f"companion-{rank}", lambda log, steps: None)
        points.append([rank, *paired_difference(trained.sums, whole, counts)])
    return points


if __name__ == "__main__":
    given = pairs.asked(__doc__)
    for pair in given.lacking("companions"):
        options = given.options(pair)
        scratch = given.work / "scratch" / pair.name
        pairs.add(pair, "companions", partial(companions, runs.read(options.output), options, scratch))
