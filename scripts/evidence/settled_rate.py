"""How far below the best short trial a whole probe does best; writes data/evidence/settled-rate.json.

For every pair of the demo's model that has its record: the highest rank trained with the rate of the probe's best
trial, half a notch (a quarter of a decade) below it, and a whole notch below it; the loss beyond the best rate known,
as a share of the gain.

    python scripts/evidence/settled_rate.py --work WORK --model demo=data/demo/model
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import pairs
from conditions import Kept
from kept_points import unpacked

from lorarank.probe.grid import FACTOR
from lorarank.probe.point import Bench
from lorarank.sweep import SweepOptions
from lorarank.sweep.points import Points, Spot

BELOW = (0.0, 0.5, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--output", type=Path, default=pairs.KEPT.parent / "settled-rate.json")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    folders = dict(one.split("=", 1) for one in given.model)
    kept = Kept(
        given.output,
        {
            "command": "python scripts/evidence/settled_rate.py --work WORK --model demo=data/demo/model",
            "notch": "half a decade",
        },
    )
    for pair in pairs.PAIRS:
        path = pairs.record_of(pair)
        if pair.model not in folders or not path.is_file() or pair.name in kept.results:
            continue
        trials = pairs.read_record(path)["probe"]["trials"]
        best_trial = min(trials, key=lambda trial: trial[2])[0]
        train, val = pairs.rows_of(pair, folders, None, given.work)
        rank = pair.ranks[-1]
        swept = given.work / f"{pair.name}-sweep"
        options = SweepOptions(
            folders[pair.model], str(train), swept, val=str(val), ranks=pair.ranks, tokens=pair.tokens
        )
        rates = [float(f"{best_trial / FACTOR**below:.3g}") for below in BELOW]
        spots = [Spot(rank, rate, 0) for rate in rates]
        with unpacked(path.parent, swept):
            points = Points(Bench(options.point(rank)), swept, lambda progress: None)
            took = sum(one.seconds for one in points.measure(spots))
            losses = [points.loss(spot) for spot in spots]
            base = points.base()
        best = min(losses)
        gain = sum(base.sums) / sum(base.counts) - best
        kept.keep(
            pair.name,
            {
                "trials": trials,
                "rates": rates,
                "lost": [round((loss - best) / gain, 5) for loss in losses],
                "seconds": round(took, 1),
            },
            below=BELOW,
            **summary(kept),
        )
        print(pair.name, kept.results[pair.name], flush=True)
    kept.write(below=BELOW, **summary(kept))


def summary(kept: Kept) -> dict[str, list[float]]:
    """Mean and worst share of the gain lost, for each of BELOW."""
    columns = list(zip(*(one["lost"] for one in kept.results.values()), strict=True))
    return {
        "mean_lost": [round(sum(column) / len(column), 5) for column in columns],
        "worst_lost": [max(column) for column in columns],
    }


if __name__ == "__main__":
    main()
