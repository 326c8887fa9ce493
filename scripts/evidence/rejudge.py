"""Judge the sweeps of all pairs again from their kept points, as `lorarank sweep` judges now; trains nothing.

Every data/evidence/pairs/NAME/sweep.json keeps all but its outcome. Of the points beside it those count that the sweep
itself would take: at its ranks, and at the learning rates between the best of its two ends. Others lie there too, of
trials on the way and of settled_rate.py. Prints what moved, and where the answer now stands at ranks that lack seeds:
pairs.py would train those.

    python scripts/evidence/rejudge.py
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import pairs

from lorarank.json_files import write_json
from lorarank.sweep import SWEEP, Sweep, read
from lorarank.sweep.outcome import Outcome, Trained, outcome
from lorarank.sweep.points import StoredPoint


def judged(found: Sweep, base: StoredPoint, trained: Sequence[Trained]) -> Sweep:
    """A sweep with the outcome of these points."""
    first = found.outcome.ranks[0]
    answer = outcome(base.sums, base.counts, trained, first.parameters // first.rank)
    return dataclasses.replace(found, outcome=answer)


def told(answer: Outcome) -> str:
    """What a person asks of a sweep, in a few characters."""
    spread = f"spread {answer.seed_spread:.4f}" if answer.measured_spread else "spread assumed"
    marks = [word for word in ("flat", "censored") if getattr(answer, word)]
    marks += [f"overfits from {answer.overfits_from}"] if answer.overfits_from else []
    span = f"{answer.r_sufficient} ({answer.low}-{answer.high})"
    return ", ".join([span, f"best {answer.best}", spread, *marks])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, default=pairs.KEPT)
    given = parser.parse_args()
    for path in sorted(given.pairs.glob(f"*/{SWEEP}")):
        before = read(path.parent)
        base, trained = pairs.points_of(path.parent, before)
        now = judged(before, base, trained)
        write_json(path, now)
        moved = "" if told(before.outcome) == told(now.outcome) else f"   was {told(before.outcome)}"
        lacks = "" if pairs.seeded(base, trained, now.outcome, now.seeds) else "   lacks seeds"
        print(f"{path.parent.name}: {told(now.outcome)}{moved}{lacks}")


if __name__ == "__main__":
    main()
