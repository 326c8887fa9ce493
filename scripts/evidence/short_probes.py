"""What the search for a learning rate is worth to a short probe; writes data/evidence/short-probes.json.

Probes of 60 to 99 steps, with the rate searched and at the rate that a probe trains at untested, beside the sweeps.

    python scripts/evidence/short_probes.py --work WORK --model demo=data/demo/model --model smollm2=DIR --data DIR
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import pairs
from bakeoff import EVIDENCE, verdict
from conditions import Kept, answered

from lorarank.probe.grid import FIRST_RATE
from lorarank.sweep import read

TOKENS = 32_768
NAMES = ("demo-reverse", "demo-lexicon", "demo-facts-128", "demo-chain", "demo-several", "smollm2-shakespeare")
WAYS = {"searched": None, "untested": FIRST_RATE}


def summary(kept: Kept) -> dict[str, Any]:
    """Per way, on how many pairs the answer is within a doubling of the sweep's, and what it loses on average."""
    found = {}
    for way in WAYS:
        answers = {name: one for name, one in kept.results.items() if name.endswith(f"/{way}") and one.get("r")}
        worth = [verdict(read(pairs.KEPT / name.partition("/")[0]).outcome, one["r"]) for name, one in answers.items()]
        found[way] = {
            "answers": len(worth),
            "within_octave": sum(one.octaves <= 1 for one in worth),
            "mean_regret": sum(one.regret for one in worth) / max(1, len(worth)),
        }
    return found


if __name__ == "__main__":
    given = pairs.asked(__doc__)
    kept = Kept(
        EVIDENCE / "short-probes.json",
        {
            "command": "python scripts/evidence/short_probes.py --work WORK --model demo=data/demo/model "
            "--model smollm2=FOLDER --data FOLDER"
        },
    )
    for pair in given:
        for way, rate in WAYS.items() if pair.name in NAMES else ():
            name = f"{pair.name}/{way}"
            if name not in kept.results:
                output = given.work / "short" / name.replace("/", "-")
                kept.keep(name, answered(given.options(pair, tokens=TOKENS, lr=rate, output=output)))
                print(name, kept.results[name].get("r"), kept.results[name].get("confidence"), flush=True)
    kept.write(summary=summary(kept))
    print(summary(kept))
