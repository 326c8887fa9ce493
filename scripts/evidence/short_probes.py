"""What a learning rate is worth to a short probe that was searched for; writes data/evidence/short-probes.json.

Probes of 60 to 99 steps, beside the sweeps: with the rate searched; at the rate where the search begins, at which short
probes trained untested at first; and at the one half a notch lower, at which they do now where they are too short for a
search. On long rows, which the last two alone can be told of, a run that :mod:`pairs` left in --work is not made again.

    python scripts/evidence/short_probes.py --work WORK --model demo=data/demo/model --model smollm2=DIR \
        --model gemma3=DIR --data DIR
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import pairs
from bakeoff import EVIDENCE, verdict
from conditions import Kept, answered, said

from lorarank import runs
from lorarank.probe.grid import FIRST_RATE, UNTESTED_RATE
from lorarank.sweep import read

TOKENS = 32_768
NAMES = ("demo-reverse", "demo-lexicon", "demo-facts-128", "demo-chain", "demo-several", "smollm2-shakespeare")
LONG_ROWS = ("smollm2-pubmedqa", "gemma3-pubmedqa")
"""Pairs whose probes take 32 steps, too few for a search."""
WAYS = {"searched": None, "untested": FIRST_RATE, "lower": UNTESTED_RATE}


def summary(kept: Kept) -> dict[str, Any]:
    """Per way, on how many pairs that can be searched the answer is within a doubling, and what it loses on average."""
    found = {}
    for way in WAYS:
        answers = {name: kept.results.get(f"{name}/{way}", {}) for name in NAMES}
        worth = [verdict(read(pairs.KEPT / name).outcome, one["r"]) for name, one in answers.items() if one.get("r")]
        found[way] = {
            "answers": len(worth),
            "within_octave": sum(one.octaves <= 1 for one in worth),
            "mean_regret": sum(one.regret for one in worth) / max(1, len(worth)),
        }
    return found


def measured(given: pairs.Asked, pair: pairs.Pair, way: str) -> dict[str, Any]:
    """What `estimate` says of a pair's probe in one of the ways."""
    output, rate = given.work / "short" / f"{pair.name}-{way}", WAYS[way]
    if pair.name in NAMES:
        return answered(given.options(pair, tokens=TOKENS, lr=rate, output=output))
    made = given.work / pair.name
    if runs.folder_of(made) and runs.read(made).manifest.training.learning_rate == rate:
        return said(runs.read(made))
    return answered(given.options(pair, lr=rate, output=output))


if __name__ == "__main__":
    given = pairs.asked(__doc__)
    kept = Kept(
        EVIDENCE / "short-probes.json",
        {
            "command": "python scripts/evidence/short_probes.py --work WORK --model demo=data/demo/model "
            "--model smollm2=FOLDER --model gemma3=FOLDER --data FOLDER"
        },
    )
    for pair in given:
        for way in WAYS:
            name = f"{pair.name}/{way}"
            asked = pair.name in NAMES or (pair.name in LONG_ROWS and way != "searched")
            if asked and name not in kept.results:
                kept.keep(name, measured(given, pair, way))
                print(name, kept.results[name].get("r"), kept.results[name].get("confidence"), flush=True)
    kept.write(summary=summary(kept))
    print(summary(kept))
