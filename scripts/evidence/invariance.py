"""By how much the answer moves with what should not matter; writes data/evidence/invariance.json.

One thing is changed at a time against the plain probe (R = 32, 65,536 tokens, alpha 32, seed 0, learning rate
searched): R, tokens, seed, learning rate ×½ and ×2 of the plain one's, fp32 for bf16, alpha. The demo model's smallest
matrix has 64 rows; R = 128 is tried on pairs of SmolLM2 where its folder is given, against what answers.json says of
their probes at R = 64.

    python scripts/evidence/invariance.py --work WORK [--model smollm2=FOLDER --data FOLDER]
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import pairs
import tasks
import torch
from conditions import Kept, answered, longer

from lorarank.numerics.ladder import octaves
from lorarank.probe import ProbeOptions
from lorarank.probe import model as models

HERE = Path(__file__).resolve().parents[2]
MODEL = HERE / "data" / "demo" / "model"
TASKS = ("reverse", "lexicon", "notes", "facts-128")
TOKENS, RANK, ALPHA = 65_536, 32, 32
REAL = ("smollm2-banking77", "smollm2-gsm8k")
REAL_RANK = 128


def changes(rate: float) -> Iterator[tuple[str, dict[str, object]]]:
    """Name and options of every change."""
    for factor in (0.5, 2, 4):
        yield f"tokens x{factor:g}", {"tokens": round(factor * TOKENS)}
    for rank in (16, 64, 128):
        yield f"R {rank}", {"rank": rank}
    for seed in (1, 2):
        yield f"seed {seed}", {"seed": seed}
    for factor in (0.5, 2):
        yield f"rate x{factor:g}", {"lr": min(1.0, factor * rate)}
    for alpha in (16, 64):
        yield f"alpha {alpha}", {"alpha": alpha}
    yield "other precision", {"precision": "other"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=HERE / "data" / "evidence" / "invariance.json")
    parser.add_argument("--model", default="", metavar="smollm2=FOLDER", help="a real model, to try R = 128 on")
    parser.add_argument("--data", type=Path, help="folder of the real datasets")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    kept = Kept(
        given.output,
        {
            "command": "python scripts/evidence/invariance.py --work WORK --model smollm2=FOLDER --data FOLDER",
            "model": "the demo model, but where SmolLM2-135M is named",
        },
    )
    usual = models.choose_precision(models.choose_device("auto"))
    other = torch.float32 if usual == torch.bfloat16 else torch.bfloat16

    def condition(task: str, change: str, **more: Any) -> dict[str, Any]:
        name = f"{task}/{change}"
        if name not in kept.results:
            train, val = tasks.write(task, given.work / "data" / task)
            options: dict[str, Any] = {"rank": RANK, "tokens": TOKENS, "alpha": ALPHA, "val": str(val)}
            precision = more.pop("precision", None)
            models.choose_precision = lambda device: other if precision else usual
            output = given.work / "invariance" / name.replace("/", "-")
            found = answered(ProbeOptions(str(MODEL), str(train), output, **{**options, **more}))
            kept.keep(name, {**found, "precision": str(other if precision else usual)}, summary=summary(kept))
            print(name, found.get("r"), found.get("confidence"), flush=True)
        return kept.results[name]

    for task in TASKS:
        plain = condition(task, "plain")
        for change, options in changes(float(str(plain["learning_rate"]))):
            condition(task, change, **options)
    if given.model:
        answers = json.loads((HERE / "data" / "evidence" / "answers.json").read_text(encoding="utf-8"))["answers"]
        wanted = pairs.Asked(given.work, dict([given.model.split("=", 1)]), given.data, frozenset(REAL))
        for pair in wanted:
            kept.results.setdefault(f"{pair.name}/plain", answers[pair.name])
            name = f"{pair.name}/R {REAL_RANK}"
            if name not in kept.results:
                output = given.work / "invariance" / name.replace("/", "-")
                kept.keep(name, answered(wanted.options(pair, rank=REAL_RANK, output=output)), summary=summary(kept))
    kept.write(summary=summary(kept))


def summary(kept: Kept) -> dict[str, object]:
    """Per change the answers beside the plain ones, how many are within a doubling, and what came of the outlooks."""
    found: dict[str, dict[str, object]] = {}
    moved, refused, impossible = [], 0, 0
    for name, result in kept.results.items():
        task, change = name.split("/")
        plain = kept.results.get(f"{task}/plain")
        if plain is None or change == "plain" or not plain.get("r"):
            continue
        found.setdefault(change, {})[task] = [result.get("r"), plain["r"]]
        impossible += "error" in result
        refused += bool(result.get("refusals"))
        if result.get("r"):
            moved.append(octaves(result["r"], plain["r"]))
    return {
        "by_change": found,
        "answers": len(moved),
        "within_an_octave": sum(distance <= 1 for distance in moved),
        "refused": refused,
        "impossible": impossible,
        "outlooks": outlooks(kept),
    }


def outlooks(kept: Kept) -> list[dict[str, Any]]:
    """What each run says of a longer one, beside the run of twice the tokens."""
    lengths = ("tokens x0.5", "plain", "tokens x2", "tokens x4")
    return [
        one
        for task in TASKS
        for short, long in itertools.pairwise(lengths)
        for one in longer(task, kept.results.get(f"{task}/{short}"), kept.results.get(f"{task}/{long}"))
    ]


if __name__ == "__main__":
    main()
