"""Every predictor on every pair, scored against the sweeps; writes data/evidence/bakeoff.json and prints the table.

python scripts/evidence/bakeoff.py
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
from predictors import Record, on_ladder, predictors

from lorarank.json_files import write_json
from lorarank.numerics.ladder import octaves
from lorarank.sweep import Sweep, read
from lorarank.sweep.outcome import Outcome

EVIDENCE = Path(__file__).resolve().parents[2] / "data" / "evidence"


@dataclass(frozen=True)
class Verdict:
    """One prediction: the rank, doublings from ``r_sufficient``, and the share of the best gain that it loses."""

    rank: int
    octaves: float
    regret: float


@dataclass(frozen=True)
class Score:
    """One predictor over pairs; ``missing`` pairs lack what it needs."""

    name: str
    within_octave: float
    mean_regret: float
    worst_regret: float
    mean_rank: float
    pairs: int
    ranks: dict[str, int]

    @property
    def order(self) -> tuple[float, float, float]:
        """The best first: most within an octave, least regret, fewest parameters."""
        return (-self.within_octave, self.mean_regret, self.mean_rank)


def regret(answer: Outcome, rank: int) -> float:
    """Share of the best gain lost at ``rank``: of the sweep's nearest rank that is not above it, else its lowest."""
    at = max((one.rank for one in answer.ranks if one.rank <= rank), default=answer.ranks[0].rank)
    return next(1 - one.share for one in answer.ranks if one.rank == at)


def verdict(answer: Outcome, rank: int) -> Verdict:
    rank = min(rank, answer.ranks[-1].rank)
    return Verdict(rank, octaves(rank, answer.r_sufficient), regret(answer, rank))


def score(name: str, verdicts: dict[str, Verdict]) -> Score:
    found = list(verdicts.values())
    return Score(
        name,
        float(np.mean([one.octaves <= 1 for one in found])),
        float(np.mean([one.regret for one in found])),
        max(one.regret for one in found),
        float(np.mean([one.rank for one in found])),
        len(found),
        {pair: one.rank for pair, one in verdicts.items()},
    )


def left_out(table: dict[str, dict[str, Verdict]], pairs: Sequence[str]) -> Score:
    """The best predictor of all the other pairs, on each pair in turn: what choosing by this table is worth."""
    verdicts = {}
    for pair in pairs:
        others = {
            name: {p: v for p, v in found.items() if p != pair}
            for name, found in table.items()
            if len(found) == len(pairs)
        }
        chosen = min((score(name, found) for name, found in others.items()), key=lambda one: one.order)
        verdicts[pair] = table[chosen.name][pair]
    return score("the best of the other pairs", verdicts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, default=EVIDENCE / "pairs")
    parser.add_argument("--output", type=Path, default=EVIDENCE / "bakeoff.json")
    given = parser.parse_args()
    records: dict[str, Record] = {}
    answers: dict[str, Sweep] = {}
    for path in sorted(given.pairs.glob("*/record.json")):
        records[path.parent.name] = json.loads(path.read_text(encoding="utf-8"))
        answers[path.parent.name] = read(path.parent)
    table: dict[str, dict[str, Verdict]] = {}
    for name, rule in predictors():
        for pair, record in records.items():
            try:
                rank = on_ladder(rule(record))
            except (KeyError, TypeError):
                continue  # an older record, made before this was measured
            table.setdefault(name, {})[pair] = verdict(answers[pair].outcome, rank)
    scores = sorted((score(name, found) for name, found in table.items()), key=lambda one: (-one.pairs, *one.order))
    loo = left_out(table, list(records))
    truth = {
        pair: {
            "r_sufficient": one.outcome.r_sufficient,
            "low": one.outcome.low,
            "high": one.outcome.high,
            "best": one.outcome.best,
            "flat": one.outcome.flat,
            "probe_share_of_sweep": records[pair]["share_of_sweep_tokens"],
        }
        for pair, one in answers.items()
    }
    write_json(
        given.output,
        {
            "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
            "command": "python scripts/evidence/bakeoff.py",
            "pairs": truth,
            "left_out": asdict(loo),
            "predictors": [asdict(one) for one in scores],
        },
    )
    print(
        f"{len(records)} pairs; r_sufficient "
        + ", ".join(f"{pair} {one['r_sufficient']}" for pair, one in truth.items())
    )
    for one in [loo, *scores]:
        losses = f"{one.mean_regret:7.2%} {one.worst_regret:7.2%}"
        print(f"{one.name:<48} {one.within_octave:6.0%} {losses} {one.mean_rank:6.1f} {one.pairs:3}")


if __name__ == "__main__":
    main()
