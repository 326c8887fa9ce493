"""What `estimate` says of the probe of every pair, beside the sweep; writes data/evidence/answers.json.

From it: how often the interval holds the rank that suffices, and how often an answer of high, medium and low
confidence is within an octave of it.

    python scripts/evidence/answers.py --work WORK --model demo=data/demo/model
"""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import pairs
from bakeoff import EVIDENCE, verdict

from lorarank.estimate import EstimateOptions, recommend
from lorarank.json_files import write_json
from lorarank.sweep import read

OUTPUT = EVIDENCE / "answers.json"


def answer(pair: pairs.Pair, folder: Path) -> dict[str, Any]:
    """One pair's answer and what it was worth."""
    truth = read(pairs.KEPT / pair.name).outcome
    said = recommend(folder, EstimateOptions(task=pair.task))
    found: dict[str, Any] = {
        "r_sufficient": [truth.low, truth.r_sufficient, truth.high],
        "r": said.r,
        "confidence": said.confidence,
        "refusals": list(said.refusals),
        "doubts": list(said.doubts),
        "keep": None if said.keep is None else said.keep.r,
    }
    if said.r is not None and said.interval is not None:
        judged = verdict(truth, said.r)
        found |= {
            "interval": [said.interval.low, said.interval.high],
            "covered": said.interval.low <= truth.r_sufficient <= said.interval.high,
            "octaves": judged.octaves,
            "regret": judged.regret,
        }
    return found


def rates(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of some answers, how many are right, and by how much they miss."""
    given = [one for one in found if one["r"] is not None]
    if not given:
        return {"pairs": len(found), "answered": 0}
    return {
        "pairs": len(found),
        "answered": len(given),
        "within_octave": sum(one["octaves"] <= 1 for one in given) / len(given),
        "covered": sum(one["covered"] for one in given) / len(given),
        "mean_regret": sum(one["regret"] for one in given) / len(given),
        "worst_regret": max(one["regret"] for one in given),
        "mean_r": sum(one["r"] for one in given) / len(given),
    }


if __name__ == "__main__":
    given = pairs.asked(__doc__)
    answers: dict[str, dict[str, Any]] = (
        json.loads(OUTPUT.read_text(encoding="utf-8"))["answers"] if OUTPUT.is_file() else {}
    )
    for pair in given:
        folder = given.work / pair.name
        if (pairs.KEPT / pair.name / "record.json").is_file() and folder.is_dir():
            answers[pair.name] = answer(pair, folder)
    levels = {
        level: [one for one in answers.values() if one["confidence"] == level] for level in ("high", "medium", "low")
    }
    content = {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "command": "python scripts/evidence/answers.py",
        "all": rates(list(answers.values())),
        "by_confidence": {level: rates(found) for level, found in levels.items()},
        "answers": answers,
    }
    write_json(OUTPUT, content)
    print(content["all"], content["by_confidence"], sep="\n")
