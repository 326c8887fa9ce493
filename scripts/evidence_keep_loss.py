"""Is the loss that a resize states the loss of what it writes, and which cut loses least? On the demo's run.

Each cut is written by lorarank.resize, loaded by PEFT on the run's base, and evaluated on the same held-out rows as the
probe's own truncation curve, which was taken inside the model and never written. Beside the uniform cut stand those in
the run's other metrics, and ranks for each module within the same parameters. The moments behind the metrics were taken
on these same rows, so that everything is measured again on text of the training data, which they have not seen.

    lorarank demo -o RUN
    python scripts/evidence_keep_loss.py RUN --output data/evidence/keep-loss.json
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel

from lorarank import corpus, runs
from lorarank.choices import METRICS
from lorarank.cli.demo import RANK, TOKENS, demo_folder
from lorarank.json_files import write_json
from lorarank.numerics.paired import paired_difference
from lorarank.probe import model as models
from lorarank.probe.heldout import DocumentLosses, evaluate
from lorarank.probe.material import gather
from lorarank.probe.options import CUTS_SHARE, ProbeOptions
from lorarank.resize import Resized, ResizeOptions, resize

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("run", type=Path)
parser.add_argument("--output", type=Path, required=True)
given = parser.parse_args()

torch.set_num_threads(1)
here = demo_folder()
model, data, val = (str(here / name) for name in ("model", "train.jsonl", "val.jsonl"))
options = ProbeOptions(model, data, Path("unused"), val=val, rank=RANK, tokens=TOKENS)
run = runs.read(given.run)
packed = run.manifest.data.packed
material = gather(options)
heldout = material.heldout(packed, material.heldout_part(CUTS_SHARE))  # what cuts are measured on
seen = material.parts[0][: heldout.pieces]
texts = {
    "heldout": (heldout.rows, heldout.pieces),
    "training": (corpus.pack(seen, row_length=material.row_length, seed=0, packed=packed), len(seen)),
}
device = models.choose_device("cpu")
dtype = models.choose_precision(device)
gain = run.manifest.heldout.gains[0].mean


def measured(adapter: Path) -> dict[str, DocumentLosses]:
    """Losses by document of an adapter folder, loaded by PEFT, on both texts."""
    loaded = PeftModel.from_pretrained(models.load_base(material.folder, options, device, dtype), adapter)
    return {
        name: evaluate(loaded, rows, documents=documents, rows_at_once=4, dtype=dtype)
        for name, (rows, documents) in texts.items()
    }


def lost(how: ResizeOptions) -> tuple[dict[str, float], Resized]:
    """Loss of a cut above that of the whole probe, as a share of the gain, on both texts; what the resize said."""
    with tempfile.TemporaryDirectory() as folder:
        done = resize(given.run, Path(folder) / "cut", how)
        losses = measured(Path(folder) / "cut")
    found = {
        name: paired_difference(losses[name].sums, whole[name].sums, whole[name].counts)[0] / gain for name in texts
    }
    return found, done


whole = measured(run.adapters[0])
points: list[dict[str, Any]] = []
for point in run.truncation.points:
    uniform, done = lost(ResizeOptions(rank=point.k))
    stated = done.loss
    points.append(
        {
            "k": point.k,
            "parameters": done.parameters,
            "energy_dropped": done.dropped,
            "stated_share_of_gain": stated.excess if stated is not None else None,
            "stated_standard_error": stated.excess_se if stated is not None else None,
            "uniform": {"weight": uniform}
            | {metric: lost(ResizeOptions(rank=point.k, metric=metric))[0] for metric in METRICS[1:]},
            "same_parameters_per_module": {
                metric: lost(ResizeOptions(params=done.parameters, per_module=True, metric=metric))[0]
                for metric in METRICS
            },
        }
    )
write_json(
    given.output,
    {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "command": "lorarank demo -o RUN && python scripts/evidence_keep_loss.py RUN --output keep-loss.json",
        "model": "the demo's, 1.6M parameters",
        "R": run.manifest.training.rank,
        "gain_nats_per_token": gain,
        "documents": {"heldout": len(heldout.keys), "training": len(seen)},
        "target_tokens": {name: int(np.sum(losses.counts)) for name, losses in whole.items()},
        "shares": "of the gain on the held-out text, by which the loss of a cut is above that of the whole probe",
        "precision": str(dtype).removeprefix("torch."),
        "versions": {"python": sys.version.split()[0], "torch": torch.__version__},
        "points": points,
        "largest_difference_in_share_of_gain": max(
            abs(point["stated_share_of_gain"] - point["uniform"]["weight"]["heldout"]) for point in points
        ),
    },
)
