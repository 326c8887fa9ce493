"""Whether a probe's answer holds for a training four times as long; writes data/evidence/longer-sweeps.json.

A sweep of the demo model at four times the usual tokens, one seed a rank, beside what a probe of the usual tokens says
(longer-runs.json, invariance.json), an answer that was there before the sweep.

    python scripts/evidence/longer_sweeps.py --work WORK [--jobs N]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import invariance
import pairs
import tasks
from conditions import Kept

from lorarank.numerics.ladder import octaves
from lorarank.sweep import SweepOptions, sweep

HERE = Path(__file__).resolve().parents[2]
EVIDENCE = HERE / "data" / "evidence"
TIMES = 4
TASKS = ("reverse", "sort", "lexicon", "tongues")
"""Quick ones of those whose sweeps of the usual tokens tell the ranks apart."""


def options(task: str, work: Path) -> SweepOptions:
    """Of the task's sweep."""
    train, val = tasks.write(task, work / "data" / task)
    return SweepOptions(
        str(invariance.MODEL),
        str(train),
        work / "longer-sweeps" / task,
        val=str(val),
        ranks=pairs.DEMO_RANKS,
        tokens=TIMES * invariance.TOKENS,
    )


def swept(asked: SweepOptions) -> dict[str, Any]:
    """What suffices, and what each rank keeps of the best gain."""
    begun = time.monotonic()
    found = sweep(asked).outcome
    return {
        "tokens": asked.tokens,
        "r_sufficient": found.r_sufficient,
        "interval": [found.low, found.high],
        "best": found.best,
        "flat": found.flat,
        "gain": [found.gain.mean, found.gain.se],
        "loses": {str(one.rank): 1 - one.share for one in found.ranks},
        "seconds": round(time.monotonic() - begun, 1),
    }


def said() -> dict[str, dict[str, Any]]:
    """Task → what the probe of the usual tokens said."""
    known, later = (
        json.loads((EVIDENCE / name).read_bytes())["results"] for name in ("invariance.json", "longer-runs.json")
    )
    return {task: known.get(f"{task}/plain") or later[f"{task}/x1"] for task in TASKS}


def summary(kept: Kept) -> list[dict[str, Any]]:
    """Each answer beside its sweep."""
    probes = said()
    return [
        {
            "task": task,
            "r": probes[task]["r"],
            "interval": probes[task]["interval"],
            "r_sufficient": found["r_sufficient"],
            "of": found["interval"],
            "octaves": octaves(probes[task]["r"], found["r_sufficient"]),
            "loses": found["loses"][str(probes[task]["r"])],
        }
        for task, found in kept.results.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=EVIDENCE / "longer-sweeps.json")
    parser.add_argument("--jobs", type=int, default=1, help="sweeps at once")
    given = parser.parse_args()
    kept = Kept(
        given.output,
        {"command": "python scripts/evidence/longer_sweeps.py --work WORK", "model": "the demo model"},
    )
    kept.keep_all(swept, {task: options(task, given.work) for task in TASKS}, given.jobs)
    kept.write(summary=summary(kept))


if __name__ == "__main__":
    main()
