"""Whether answers move with the length of training as the shorter run says; writes data/evidence/longer-runs.json.

Every task of the demo model that invariance.py does not try, probed for half, once, twice and four times the usual
tokens, nothing else changed. What a run says of a longer one was settled on invariance.py's tasks before these were
run.

    python scripts/evidence/longer_runs.py --work WORK [--jobs N]
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import invariance
import tasks
from conditions import Kept, answered, longer

from lorarank.numerics.ladder import octaves
from lorarank.probe import ProbeOptions

HERE = Path(__file__).resolve().parents[2]
TASKS = tuple(task for task in tasks.TASKS if task not in invariance.TASKS)
FACTORS = (0.5, 1, 2, 4)


def plan(work: Path) -> Iterator[tuple[str, ProbeOptions]]:
    """Name and options of every probe."""
    for task, factor in itertools.product(TASKS, FACTORS):
        train, val = tasks.write(task, work / "data" / task)
        yield (
            f"{task}/x{factor:g}",
            ProbeOptions(
                str(invariance.MODEL),
                str(train),
                work / "longer-runs" / f"{task}-x{factor:g}",
                val=str(val),
                rank=invariance.RANK,
                alpha=invariance.ALPHA,
                tokens=round(factor * invariance.TOKENS),
            ),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=HERE / "data" / "evidence" / "longer-runs.json")
    parser.add_argument("--jobs", type=int, default=1, help="probes at once")
    given = parser.parse_args()
    kept = Kept(
        given.output,
        {"command": "python scripts/evidence/longer_runs.py --work WORK", "model": "the demo model"},
    )
    kept.keep_all(answered, dict(plan(given.work)), given.jobs)
    kept.write(summary=summary(kept))


def summary(kept: Kept) -> dict[str, Any]:
    """What came of what runs said of twice the tokens, and how far answers move with two, four and eight times."""

    def beside(times: float) -> list[dict[str, Any]]:
        return [
            one
            for task, factor in itertools.product(TASKS, FACTORS)
            for one in longer(task, *(kept.results.get(f"{task}/x{length:g}") for length in (factor, times * factor)))
        ]

    twice = beside(2)
    return {
        "outlooks": twice,
        "moves": {said: counted([one for one in twice if one["says"] == said]) for said in ("up", "stays", "down")},
        "times": {str(times): counted(beside(times)) for times in (2, 4, 8)},
    }


def counted(found: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How the longer runs' answers lie to the shorter ones'; within a doubling where those are told the length."""
    ranks = [one["r"] for one in found]
    return {
        "answers": len(found),
        "within_a_doubling": sum(octaves(one["told"], one["r"][1]) <= 1 for one in found),
        "in_the_interval": sum(one["interval"][0] <= one["r"][1] <= one["interval"][1] for one in found),
        "more": sum(long > short for short, long in ranks),
        "same": sum(long == short for short, long in ranks),
        "less": sum(long < short for short, long in ranks),
    }


if __name__ == "__main__":
    main()
