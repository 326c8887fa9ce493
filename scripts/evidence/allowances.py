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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
from bakeoff import EVIDENCE, regret, verdict
from conditions import kept_curves
from predictors import Record, on_ladder, prompts_used, recalled

from lorarank.estimate import readings
from lorarank.estimate.constants import CONSTANT
from lorarank.estimate.recommendation import LowRank
from lorarank.estimate.refusals import beyond_half
from lorarank.json_files import write_json
from lorarank.numerics.ladder import octaves
from lorarank.sweep import read
from lorarank.sweep.outcome import Outcome

ALLOWED = (0.0025, 0.005, 0.0075, 0.01, 0.02, 0.03, 0.05, 0.10)
"""Shares of the gain that may be lost."""

CONSTANTS = (1, 2, 4, 8, 16, 32)
"""Ranks that one could always say instead."""


def reading(record: Record, allowed: float) -> LowRank | None:
    """What companion and cuts say; ``None`` where it is refused for being above half of the probe's rank."""
    probe = record["probe"]
    beside, cuts = kept_curves(record["companion"], record["truncation"], probe["rank"])
    found = readings.low_rank(beside, cuts, probe["gain"][0], prompts_used=prompts_used(record), allowed=allowed)
    return None if found is None or beyond_half(found, probe["rank"]) else found


def sufficient(outcome: Outcome, allowed: float) -> int:
    """The smallest rank of a sweep that loses at most a share of the gain."""
    return next(one.rank for one in outcome.ranks if one.rank == outcome.best or 1 - one.share <= allowed)


def scored(records: dict[str, Record], answers: dict[str, Outcome], allowed: float) -> dict[str, Any]:
    """All answers where so much may be lost, for trainings as long as the sweeps, beside the sweeps."""
    found = {pair: one for pair, record in records.items() if (one := reading(record, allowed)) is not None}
    given = {pair: readings.with_recall(one, recalled(records[pair])) for pair, one in found.items()}
    ranks = {pair: verdict(answers[pair], r).rank for pair, r in given.items()}
    truth = {pair: sufficient(answers[pair], allowed) for pair in records}
    right = {r: float(np.mean([octaves(r, one) <= 1 for one in truth.values()])) for r in CONSTANTS}
    constant = max(CONSTANTS, key=lambda r: right[r])

    def lost(ranks: Mapping[str, int]) -> list[float]:
        return [regret(answers[pair], r) for pair, r in ranks.items()]

    def mean_lost(rank: Callable[[LowRank], float]) -> float:
        return float(np.mean(lost({pair: on_ladder(rank(one)) for pair, one in found.items()})))

    return {
        "allowed": allowed,
        "pairs": len(records),
        "answered": len(ranks),
        "within_octave": float(np.mean([octaves(r, truth[pair]) <= 1 for pair, r in ranks.items()])),
        "too_low": sum(math.log2(r / truth[pair]) < -1 for pair, r in ranks.items()),
        "mean_regret": float(np.mean(lost(ranks))),
        "worst_regret": max(lost(ranks)),
        "regret_of": {
            "companion": mean_lost(lambda one: one.needed),
            "cut": mean_lost(lambda one: one.cut),
            "halfway": mean_lost(lambda one: one.between),
            "always_16": mean_lost(lambda _: CONSTANT),
        },
        "mean_rank": float(np.mean(list(ranks.values()))),
        "best_constant": constant,
        "best_constant_within_octave": right[constant],
        "sweep_regret": float(np.mean(lost(truth))),
        "sweep_mean_rank": float(np.mean(list(truth.values()))),
        "ranks": ranks,
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
