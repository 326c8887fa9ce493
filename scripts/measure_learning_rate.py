"""How a short trial's best learning rate relates to a whole probe's: the evidence for lorarank.probe.rate's constants.

For every rate of a grid: the held-out loss after a whole probe (linear decay, 5 % warm-up), and the loss on the check
rows after short trials at a constant rate, all from the same start. Appends to the JSON file given with --output, a
point as soon as it is done.

    python scripts/measure_learning_rate.py MODEL --data TRAIN --val VAL --tokens 61440 --output rates.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from adapted import load_adapted
from numpy.typing import NDArray

from lorarank.corpus.rows import Rows
from lorarank.json_files import write_json
from lorarank.probe import model as models
from lorarank.probe.grid import FACTOR, FIRST_RATE
from lorarank.probe.heldout import evaluate
from lorarank.probe.material import gather
from lorarank.probe.options import ProbeOptions
from lorarank.probe.training import TrainingRun, schedule_for, train

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("model")
parser.add_argument("--data", required=True)
parser.add_argument("--val", required=True)
parser.add_argument("--name", required=True)
parser.add_argument("--rank", type=int, default=64)
parser.add_argument("--tokens", type=int, default=61_440)
parser.add_argument("--notches", default="-2,-1,0,1,2,3", help="half decades from 1e-3")
parser.add_argument("--trial-steps", default="5,10,20")
parser.add_argument("--output", type=Path, required=True)
given = parser.parse_args()

options = ProbeOptions(given.model, given.data, Path("unused"), val=given.val, rank=given.rank, tokens=given.tokens)
material = gather(options)
device = models.choose_device("auto")
dtype = models.choose_precision(device)
model = load_adapted(material.folder, options, device, dtype)
start = models.adapter_weights(model)
rows, heldout = material.rows(0, 0, True), material.heldout(True)
whole = schedule_for(rows, rows_per_step=material.rows_per_step, tokens=given.tokens, seed=0)
found = json.loads(given.output.read_text()) if given.output.is_file() else {}
points = found.setdefault(given.name, {"steps": whole.steps, "tokens": given.tokens, "rank": given.rank, "points": {}})


def loss(kept: Rows) -> float:
    losses = evaluate(model, kept, documents=int(kept.document.max()) + 1, rows_at_once=4, dtype=dtype)
    return float(losses.sums.sum() / losses.counts.sum())


def take(index: NDArray[np.int64]) -> Rows:
    index = np.unique(index)
    return Rows(rows.input_ids[index], rows.loss_mask[index], rows.position_ids[index], rows.document[index])


with tempfile.TemporaryDirectory() as scratch:
    for notch in (int(n) for n in given.notches.split(",")):
        rate = FIRST_RATE * FACTOR**notch
        for steps in (*(int(n) for n in given.trial_steps.split(",")), whole.steps):
            key = f"{rate:.3g}/{'whole' if steps == whole.steps else steps}"
            if key in points["points"]:
                continue
            begun = time.monotonic()
            models.restore_weights(model, start)
            short = steps < whole.steps
            run = TrainingRun(rows, whole.first(steps), rate, material.rows_per_step, dtype, constant_rate=short)
            train(model, run, options, Path(scratch))
            at = steps * whole.rows_per_step
            reached = loss(take(whole.order[at : at + 4 * whole.rows_per_step]) if short else heldout.rows)
            points["points"][key] = round(reached, 5)
            write_json(given.output, found)
            print(key, round(reached, 4), f"{time.monotonic() - begun:.0f}s", flush=True)
torch.manual_seed(0)
