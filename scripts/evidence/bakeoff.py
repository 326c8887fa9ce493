"""Every predictor on every pair, scored against the sweeps; writes data/evidence/bakeoff.json and prints the table.

python scripts/evidence/bakeoff.py
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
from pairs import share_of_sweep
from predictors import Record, on_ladder, predictors

from lorarank.json_files import write_json
from lorarank.numerics.ladder import octaves
from lorarank.sweep import Sweep, read
from lorarank.sweep.outcome import Outcome

EVIDENCE = Path(__file__).resolve().parents[2] / "data" / "evidence"

MADE_HERE = ("demo-", "long-", "planted-", "recall-")
"""How pairs of the embedded model are called; all others are of pretrained models."""


@dataclass(frozen=True)
class Verdict:
    """One prediction: the rank, doublings from ``r_sufficient``, the share of the best gain that it loses, and what it
    trains."""

    rank: int
    octaves: float
    regret: float
    parameters: int


@dataclass(frozen=True)
class Score:
    """One predictor over the pairs that have what it needs; ``pretrained`` is the same over those of real models."""

    name: str
    within_octave: float
    mean_regret: float
    worst_regret: float
    mean_rank: float
    mean_parameters: float
    pairs: int
    ranks: dict[str, int]
    pretrained: dict[str, float] | None = None

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
    first = answer.ranks[0]
    parameters = rank * (first.parameters // first.rank)
    return Verdict(rank, octaves(rank, answer.r_sufficient), regret(answer, rank), parameters)


def score(name: str, verdicts: dict[str, Verdict]) -> Score:
    found = list(verdicts.values())
    return Score(
        name,
        float(np.mean([one.octaves <= 1 for one in found])),
        float(np.mean([one.regret for one in found])),
        max(one.regret for one in found),
        float(np.mean([one.rank for one in found])),
        float(np.mean([one.parameters for one in found])),
        len(found),
        {pair: one.rank for pair, one in verdicts.items()},
    )


def on_pretrained(found: Score, verdicts: dict[str, Verdict]) -> Score:
    """The score with that over the pairs of pretrained models beside it."""
    real = {pair: one for pair, one in verdicts.items() if not pair.startswith(MADE_HERE)}
    if not real:
        return found
    part = score(found.name, real)
    beside = ("within_octave", "mean_regret", "worst_regret", "mean_rank", "mean_parameters", "pairs")
    return replace(found, pretrained={name: getattr(part, name) for name in beside})


def family(pair: str) -> str:
    """Pairs that are much alike: all planted teachers, all sets of facts, one text under two models.

    >>> family("planted-r01-s0"), family("long-facts-32"), family("smollm2-gsm8k") == family("gemma3-gsm8k")
    ('planted', 'facts', True)
    >>> family("recall-32")
    'facts'
    """
    first, _, rest = pair.partition("-")
    return {"planted": "planted", "recall": "facts"}.get(first) or rest.partition("-")[0]


def left_out(
    table: dict[str, dict[str, Verdict]], pairs: Sequence[str], name: str, alike: Callable[[str], str]
) -> Score:
    """The best predictor of the other pairs, on each pair in turn: what choosing by this table is worth.

    The others are those that are not ``alike``.
    """
    verdicts = {}
    for pair in pairs:
        others = {
            predictor: {p: v for p, v in found.items() if alike(p) != alike(pair)}
            for predictor, found in table.items()
            if len(found) == len(pairs)
        }
        chosen = min((score(predictor, found) for predictor, found in others.items()), key=lambda one: one.order)
        verdicts[pair] = table[chosen.name][pair]
    return on_pretrained(score(name, verdicts), verdicts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, default=EVIDENCE / "pairs")
    parser.add_argument("--output", type=Path, default=EVIDENCE / "bakeoff.json")
    given = parser.parse_args()
    begun = time.monotonic()
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
    scores = sorted(
        (on_pretrained(score(name, found), found) for name, found in table.items()),
        key=lambda one: (-one.pairs, *one.order),
    )
    loo = left_out(table, list(records), "the best of the other pairs", str)
    families = left_out(table, list(records), "the best of the pairs unlike it", family)
    truth = {
        pair: {
            "r_sufficient": one.outcome.r_sufficient,
            "low": one.outcome.low,
            "high": one.outcome.high,
            "best": one.outcome.best,
            "flat": one.outcome.flat,
            "probe_share_of_sweep": share_of_sweep(records[pair]["cost"], one),
        }
        for pair, one in answers.items()
    }
    write_json(
        given.output,
        {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "command": "python scripts/evidence/bakeoff.py",
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "seconds": round(time.monotonic() - begun, 1),
            "pairs": truth,
            "left_out": asdict(loo),
            "families_left_out": asdict(families),
            "predictors": [asdict(one) for one in scores],
        },
    )
    print(
        f"{len(records)} pairs; r_sufficient "
        + ", ".join(f"{pair} {one['r_sufficient']}" for pair, one in truth.items())
    )
    for one in [loo, families, *scores]:
        losses = f"{one.mean_regret:7.2%} {one.worst_regret:7.2%}"
        print(f"{one.name:<48} {one.within_octave:6.0%} {losses} {one.mean_rank:6.1f} {one.pairs:3}")


if __name__ == "__main__":
    main()
