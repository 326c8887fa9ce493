"""What a probe takes by the clock beside its sweep, little else running; writes data/evidence/clock.json.

A pair's probe and answer anew, then the points at the lowest and the highest rank of its sweep at a rate that it tuned.
The whole sweep is as many points as the kept one has, each as long as the mean of the two.

    python scripts/evidence/clock.py --work WORK --model smollm2=DIR --data DIR --only smollm2-gsm8k
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import pairs
import torch
from bakeoff import EVIDENCE
from conditions import Kept

from lorarank.estimate import recommend
from lorarank.probe import ProbeOptions, probe
from lorarank.sweep import read, sweep


def timed(pair: pairs.Pair, options: ProbeOptions) -> dict[str, object]:
    """Seconds of the probe with its answer, of a point, and their share for the points of the kept sweep."""
    kept = read(pairs.KEPT / pair.name)
    swept = options.output.with_name(f"{options.output.name}-points")
    for folder in (options.output, swept):
        shutil.rmtree(folder, ignore_errors=True)
    begun = time.monotonic()
    answer = recommend(probe(options, report=pairs.say(pair.name)).folder)
    seconds = time.monotonic() - begun
    ends = (kept.outcome.ranks[0], kept.outcome.ranks[-1])
    found = sweep(
        pairs.sweep_options(pair, options, swept, ranks=tuple(one.rank for one in ends), lrs=(ends[0].learning_rate,)),
        report=pairs.say(pair.name),
    )
    of_a_point = found.seconds / found.points
    return {
        "r": answer.r,
        "probe_seconds": round(seconds, 1),
        "point_seconds": round(of_a_point, 1),
        "points": kept.points,
        "share": round(seconds / (kept.points * of_a_point), 4),
        "load_average": os.getloadavg()[0],
        "seconds": round(time.monotonic() - begun, 1),
    }


if __name__ == "__main__":
    given = pairs.asked(__doc__)
    kept = Kept(
        EVIDENCE / "clock.json",
        {
            "command": "python scripts/evidence/clock.py --work WORK --model smollm2=DIR --data DIR --only NAMES",
            "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        },
    )
    for pair in given:
        if pair.name not in kept.results:
            kept.keep(pair.name, timed(pair, given.options(pair, output=given.work / "clock" / pair.name)))
            print(pair.name, kept.results[pair.name], flush=True)
