"""What `estimate` says of the probe of every pair, for a training as long as the sweep's; writes answers.json.

From it: how often the interval holds the rank that suffices, and how often an answer of high, medium and low
confidence is within an octave of it; and the same of the pairs thought of after the rule stood. What is said of a probe
that no longer lies in --work is worked out from its record by the same functions, and marked so.

    python scripts/evidence/answers.py --work WORK --model demo=data/demo/model
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import pairs
import tasks
from bakeoff import EVIDENCE, verdict
from conditions import worked_out
from predictors import Record, recalled

from lorarank import runs
from lorarank.estimate import EstimateOptions, recommend
from lorarank.json_files import write_json
from lorarank.runs import Loss
from lorarank.sweep import read

OUTPUT = EVIDENCE / "answers.json"

LATER = tuple(f"demo-{task}" for task in tasks.LATER)
"""Pairs that nobody had thought of when the rule was chosen, nor its constants."""


def said(pair: pairs.Pair, folder: Path) -> dict[str, Any]:
    """What the tool says of a probe."""
    found = recommend(folder, EstimateOptions(task=pair.task, tokens=pair.tokens))
    return {
        "r": found.r,
        "confidence": found.confidence,
        "refusals": list(found.refusals),
        "doubts": list(found.doubts),
        "keep": None if found.keep is None else found.keep.r,
        "interval": None if found.interval is None else [found.interval.low, found.interval.high],
    }


def said_anew(record: Record, before: dict[str, Any]) -> dict[str, Any]:
    """What the tool says now of a probe whose run is gone: rank and interval by its own functions, from the record."""
    lost = record.get("other_prompts")
    return {
        **worked_out(
            before,
            companion=record["companion"],
            truncation=record["truncation"],
            probe_rank=record["probe"]["rank"],
            gain=record["probe"]["gain"][0],
            other_prompts=lost and Loss(*lost),
            recall=recalled(record),
        ),
        "worked_out": True,
    }


def judged(pair: pairs.Pair, answer: dict[str, Any]) -> dict[str, Any]:
    """The answer beside the sweep as it is now, and what it was worth."""
    truth = read(pairs.KEPT / pair.name).outcome
    found = {**answer, "r_sufficient": [truth.low, truth.r_sufficient, truth.high]}
    if answer["r"] is not None and answer["interval"] is not None:
        low, high = answer["interval"]
        worth = verdict(truth, answer["r"])
        found |= {
            "covered": low <= truth.r_sufficient <= high,
            "octaves": worth.octaves,
            "regret": worth.regret,
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
    given, begun = pairs.asked(__doc__), time.monotonic()
    answers: dict[str, dict[str, Any]] = (
        json.loads(OUTPUT.read_text(encoding="utf-8"))["answers"] if OUTPUT.is_file() else {}
    )
    for pair in pairs.PAIRS:
        folder, record = given.work / pair.name, pairs.record_of(pair)
        if record.is_file():
            if (folder / runs.MANIFEST).is_file():
                answers[pair.name] = said(pair, folder)
            elif pair.name in answers:
                answers[pair.name] = said_anew(json.loads(record.read_text(encoding="utf-8")), answers[pair.name])
            if pair.name in answers:
                answers[pair.name] = judged(pair, answers[pair.name])
    levels = {
        level: [one for one in answers.values() if one["confidence"] == level] for level in ("high", "medium", "low")
    }
    content = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": "python scripts/evidence/answers.py --work WORK --model NAME=FOLDER",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "seconds": round(time.monotonic() - begun, 1),
        "all": rates(list(answers.values())),
        "by_confidence": {level: rates(found) for level, found in levels.items()},
        "later": rates([answers[name] for name in LATER if name in answers]),
        "answers": answers,
    }
    write_json(OUTPUT, content)
    print(content["all"], content["by_confidence"], sep="\n")
