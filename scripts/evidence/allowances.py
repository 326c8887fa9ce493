"""What `estimate --keep-loss` says of every pair, for several shares that may be lost; writes allowances.json.

Held against the smallest rank of the sweep that loses at most as much. Rank and refusal are worked out from the
records by the tool's own functions; nothing is trained.

    python scripts/evidence/allowances.py
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
from bakeoff import EVIDENCE, regret
from predictors import Record, prompts_used, recalled

from lorarank.estimate import readings
from lorarank.estimate.constants import RANK_CEILING
from lorarank.json_files import write_json
from lorarank.numerics.ladder import octaves
from lorarank.runs import Companion, Loss, Truncation, TruncationPoint
from lorarank.sweep import read
from lorarank.sweep.outcome import Outcome

ALLOWED = (0.0025, 0.005, 0.0075, 0.01, 0.02, 0.03, 0.05, 0.10)
"""Shares of the gain that may be lost."""

CONSTANTS = (1, 2, 4, 8, 16, 32)
"""Ranks that one could always say instead."""


def said(record: Record, allowed: float) -> int | None:
    """The answer for a training as long as the sweep's; ``None`` where it is refused for being above half of the
    probe's rank."""
    nothing, probe = Loss(0.0, 0.0), record["probe"]
    points = tuple(TruncationPoint(int(k), nothing, Loss(mean, se)) for k, mean, se in record["truncation"])
    cuts = Truncation(1, "loss", probe["rank"], 1, points, ())
    rank, mean, se = record["companion"]
    beside = Companion(int(rank), 1, nothing, Loss(mean, se))
    found = readings.low_rank(beside, cuts, probe["gain"][0], prompts_used=prompts_used(record), allowed=allowed)
    if found is None or max(found.needed, found.r) > RANK_CEILING * probe["rank"]:
        return None
    return readings.with_recall(found, recalled(record))


def sufficient(outcome: Outcome, allowed: float) -> int:
    """The smallest rank of a sweep that loses at most a share of the gain."""
    return next(one.rank for one in outcome.ranks if one.rank == outcome.best or 1 - one.share <= allowed)


def scored(records: dict[str, Record], answers: dict[str, Outcome], allowed: float) -> dict[str, Any]:
    """All answers where so much may be lost, beside the sweeps."""
    given = {pair: r for pair, record in records.items() if (r := said(record, allowed)) is not None}
    truth = {pair: sufficient(answers[pair], allowed) for pair in records}
    ranks = {pair: min(r, answers[pair].ranks[-1].rank) for pair, r in given.items()}
    lost = [regret(answers[pair], r) for pair, r in ranks.items()]
    right = {r: float(np.mean([octaves(r, one) <= 1 for one in truth.values()])) for r in CONSTANTS}
    constant = max(CONSTANTS, key=lambda r: right[r])
    return {
        "allowed": allowed,
        "pairs": len(records),
        "answered": len(given),
        "within_octave": float(np.mean([octaves(r, truth[pair]) <= 1 for pair, r in ranks.items()])),
        "too_low": sum(math.log2(r / truth[pair]) < -1 for pair, r in ranks.items()),
        "mean_regret": float(np.mean(lost)),
        "worst_regret": max(lost),
        "mean_rank": float(np.mean(list(ranks.values()))),
        "best_constant": constant,
        "best_constant_within_octave": right[constant],
        "sweep_regret": float(np.mean([regret(answers[pair], r) for pair, r in truth.items()])),
        "sweep_mean_rank": float(np.mean(list(truth.values()))),
        "ranks": given,
        "sufficient": truth,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, default=EVIDENCE / "pairs")
    parser.add_argument("--output", type=Path, default=EVIDENCE / "allowances.json")
    given = parser.parse_args()
    paths = sorted(given.pairs.glob("*/record.json"))
    records = {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    answers = {path.parent.name: read(path.parent).outcome for path in paths}
    found = [scored(records, answers, allowed) for allowed in ALLOWED]
    write_json(
        given.output,
        {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "command": "python scripts/evidence/allowances.py",
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "allowances": found,
        },
    )
    for one in found:
        print({name: value for name, value in one.items() if name not in ("ranks", "sufficient")})


if __name__ == "__main__":
    main()
