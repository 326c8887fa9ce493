"""Is the loss that a resize states the loss of what it writes? A run cut to every rank of its curve, loaded, measured.

Each cut is written by lorarank.resize, loaded by PEFT on the run's base, and evaluated on the same held-out rows as the
probe's own truncation curve, which was taken inside the model and never written. The first run here is the demo's:

    lorarank demo -o RUN
    python scripts/evidence_keep_loss.py RUN --output data/evidence/keep-loss.json
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel

from lorarank import runs
from lorarank.cli.demo import RANK, TOKENS, demo_folder
from lorarank.numerics.paired import paired_difference
from lorarank.probe import model as models
from lorarank.probe.heldout import DocumentLosses, evaluate
from lorarank.probe.material import gather
from lorarank.probe.options import ProbeOptions
from lorarank.resize import ResizeOptions, resize

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("run", type=Path)
parser.add_argument("--output", type=Path, required=True)
given = parser.parse_args()

torch.set_num_threads(1)
here = demo_folder()
model, data, val = (str(here / name) for name in ("model", "train.jsonl", "val.jsonl"))
options = ProbeOptions(model, data, Path("unused"), val=val, rank=RANK, tokens=TOKENS)
run = runs.read(given.run)
material = gather(options)
heldout = material.heldout(run.manifest.data.packed)
device = models.choose_device("cpu")
dtype = models.choose_precision(device)


def measured(adapter: Path) -> DocumentLosses:
    """Loss by document of an adapter folder, loaded by PEFT."""
    loaded = PeftModel.from_pretrained(models.load_base(material.folder, options, device, dtype), adapter)
    return evaluate(loaded, heldout.rows, documents=heldout.pieces, rows_at_once=4, dtype=dtype)


whole = measured(run.adapters[0])
gain = run.manifest.heldout.gains[0].mean
points = []
for point in run.truncation.points:
    with tempfile.TemporaryDirectory() as folder:
        done = resize(given.run, Path(folder) / "cut", ResizeOptions(rank=point.k))
        losses = measured(Path(folder) / "cut")
    excess, _ = paired_difference(losses.sums, whole.sums, whole.counts)
    stated = done.loss
    points.append(
        {
            "k": point.k,
            "stated_share_of_gain": stated.excess if stated is not None else None,
            "stated_standard_error": stated.excess_se if stated is not None else None,
            "measured_share_of_gain": excess / gain,
            "energy_dropped": done.dropped,
            "parameters": done.parameters,
        }
    )
worst = max(abs(point["stated_share_of_gain"] - point["measured_share_of_gain"]) for point in points)
runs.write_json(
    given.output,
    {
        "command": "lorarank demo -o RUN && python scripts/evidence_keep_loss.py RUN --output keep-loss.json",
        "model": "the demo's, 1.6M parameters",
        "R": run.manifest.training.rank,
        "gain_nats_per_token": gain,
        "heldout_documents": len(heldout.keys),
        "heldout_tokens": int(np.sum(whole.counts)),
        "precision": str(dtype).removeprefix("torch."),
        "versions": {"python": sys.version.split()[0], "torch": torch.__version__},
        "points": points,
        "largest_difference_in_share_of_gain": worst,
    },
)
