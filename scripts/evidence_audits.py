"""Audit every adapter in a folder; for a few, put our energies beside a dense SVD's and beside gradience's.

    python scripts/evidence_audits.py ADAPTERS --output data/evidence/audits.json \
        --dense NAME --dense NAME ... --gradience path/to/gradience

The dense side is numpy's SVD of the whole scaling·lora_B·lora_A. gradience is run as a command on the same folder.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from lorarank import __version__, adapters
from lorarank.audit import Audit, AuditOptions, audit
from lorarank.audit.expand import expand
from lorarank.audit.rows import Layout
from lorarank.audit.several import attempt
from lorarank.json_files import write_json
from lorarank.numerics import criteria

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("adapters", type=Path)
parser.add_argument("--dense", action="append", default=[], metavar="NAME", help="adapters to check; repeatable")
parser.add_argument("--gradience", type=Path, help="the command of gradience, where it is installed")
parser.add_argument("--output", type=Path, required=True)
given = parser.parse_args()
os.chdir(given.adapters)  # names in the result are relative to the folder

options = AuditOptions()
layout = Layout(options.energy)


def row_of(source: str) -> dict[str, Any]:
    """An adapter as the row that ``audit -o`` writes, without its time."""
    row = layout.row(attempt(source, options), 0.0, __version__)
    return {name: value for name, value in row.items() if name != "seconds" and value not in (None, "", 0)}


def dense_of(name: str) -> dict[str, Any]:
    """Ours against numpy's dense SVD of every module."""
    opened, found = adapters.open(name), audit(name)
    errors, differing = [], 0
    for module, measured in zip(opened.modules, found.modules, strict=True):
        assert measured.figures is not None
        lora_A, lora_B = module.factors()
        dense = np.linalg.svd(module.scaling * lora_B @ lora_A, compute_uv=False)[: module.r]
        ours = np.array(measured.figures.singular_values)
        errors.append(float(np.abs(ours - dense).max() / dense[0]) if dense[0] > 0 else float(ours.max()))
        ranks = tuple(criteria.energy(dense, share) for share in options.energy)
        differing += ranks != measured.figures.energy_ranks
    shown = found.modules[:3]
    return {
        "modules": len(found.modules),
        "largest_error_of_sigma_over_sigma_1": max(errors),
        "modules_whose_energy_ranks_differ": differing,
        "first_modules": [
            {"module": m.name, "energy_ranks": m.figures.energy_ranks, "norm": m.figures.norm}
            for m in shown
            if m.figures is not None
        ],
        "gradience": gradience_of(name, found) if given.gradience else None,
    }


def gradience_of(name: str, found: Audit) -> dict[str, Any]:
    """Ours against the rows that gradience prints, or why it prints none."""
    done = subprocess.run(
        [given.gradience, "audit", "--peft-dir", name, "--json", "--layers"], capture_output=True, text=True
    )
    if done.returncode or "{" not in done.stdout:
        return {"failed": (done.stderr.strip().splitlines() or ["no output"])[-1][:200]}
    rows = json.loads(done.stdout[done.stdout.index("{\n") :])["layer_data"]["layer_rows"]
    theirs = {row["name"].removeprefix("base_model.model."): row for row in rows}
    both = [(m, theirs[m.name]) for m in found.modules if m.name in theirs and m.figures is not None]
    same = sum(
        tuple(row[f"energy_rank_{percent}"] for percent in (90, 95, 99)) == m.figures.energy_ranks
        for m, row in both
        if m.figures is not None
    )
    norms = [
        abs(row["frob_norm_scaled"] / m.figures.norm - 1)
        for m, row in both
        if m.figures is not None and m.figures.norm > 0
    ]
    return {
        "modules": len(rows),
        "modules_of_the_same_name": len(both),
        "modules_with_the_same_energy_ranks": same,
        "largest_relative_difference_of_norms": max(norms, default=None),
    }


result: dict[str, Any] = {
    "command": "python scripts/evidence_audits.py ADAPTERS " + " ".join(f"--dense {name}" for name in given.dense),
    "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    "lorarank": __version__,
    "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    "energy": list(options.energy),
    "adapters": [row_of(source) for source in expand(["."])],
    "dense": {name: dense_of(name) for name in given.dense},
}
output = given.output if given.output.is_absolute() else Path(os.environ["PWD"]) / given.output
write_json(output, result)
for name, dense in result["dense"].items():
    print(name, {key: value for key, value in dense.items() if key != "first_modules"})
