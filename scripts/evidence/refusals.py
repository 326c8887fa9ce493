"""Which probes are refused or doubted: those that ought to be, and good ones; writes data/evidence/refusals.json.

Bad: 20 steps, learning rate ×30 and ÷30 of the good probe's, uniformly random tokens, the base model's own text. Good:
the same tasks with the learning rate searched. Shuffled: completions dealt out anew among the rows of training.

    python scripts/evidence/refusals.py --work WORK
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import tasks
import teachers
from conditions import Kept, answered

from lorarank.probe import ProbeOptions

HERE = Path(__file__).resolve().parents[2]
MODEL = HERE / "data" / "demo" / "model"
TASKS, SEEDS = ("reverse", "lexicon", "notes", "counting", "facts-128"), (0, 1, 2)
NULLS = range(10)  # seeds of the two that no task goes with
TOKENS, RANK = 65_536, 32


def shuffled(train: Path, folder: Path) -> Path:
    """The same prompts with one another's completions."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in train.read_text(encoding="utf-8").splitlines()]
    completions = [row["completion"] for row in rows]
    random.Random(0).shuffle(completions)
    path = folder / "train.jsonl"
    dealt = ({**row, "completion": other} for row, other in zip(rows, completions, strict=True))
    path.write_text("".join(json.dumps(row) + "\n" for row in dealt))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=HERE / "data" / "evidence" / "refusals.json")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    kept = Kept(given.output, {"command": "python scripts/evidence/refusals.py --work WORK", "model": "the demo model"})

    def condition(name: str, train: Path, val: Path, **more: Any) -> dict[str, object]:
        if name not in kept.results:
            options: dict[str, Any] = {"rank": RANK, "tokens": TOKENS, "val": str(val), **more}
            output = given.work / "refusals" / name.replace("/", "-")
            kept.keep(name, answered(ProbeOptions(str(MODEL), str(train), output, **options)), summary=summary(kept))
            print(name, kept.results[name].get("r"), kept.results[name].get("confidence"), flush=True)
        found: dict[str, object] = kept.results[name]
        return found

    for seed in SEEDS:
        for task in TASKS:
            train, val = tasks.write(task, given.work / "data" / task)
            good = condition(f"good/{task}/{seed}", train, val, seed=seed)
            rate = float(str(good["learning_rate"]))
            condition(f"20 steps/{task}/{seed}", train, val, seed=seed, tokens=20 * 512, batch_tokens=512)
            condition(f"rate x30/{task}/{seed}", train, val, seed=seed, lr=min(1.0, 30 * rate))
            condition(f"rate /30/{task}/{seed}", train, val, seed=seed, lr=rate / 30)
            labels = shuffled(train, given.work / "data" / f"{task}-shuffled")
            condition(f"shuffled/{task}/{seed}", labels, val, seed=seed)
    for seed in NULLS:
        for name, rank in (("random tokens", -1), ("own text", 0)):
            text = teachers.write(MODEL, given.work / "data" / f"{name.replace(' ', '-')}-{seed}", rank, seed)
            condition(f"{name}/-/{seed}", *text, seed=seed)
    kept.write(summary=summary(kept))


def summary(kept: Kept) -> dict[str, Any]:
    """Per condition: how many, how many refused, and how many refused or of low confidence."""
    groups: dict[str, list[dict[str, object]]] = {}
    for name, result in kept.results.items():
        groups.setdefault(name.split("/")[0] if not name.startswith("rate") else name.rsplit("/", 2)[0], []).append(
            result
        )
    found = {
        name: {
            "probes": len(results),
            "refused": sum(bool(one.get("refusals") or one.get("error")) for one in results),
            "refused_or_low": sum(
                bool(one.get("refusals") or one.get("error")) or one.get("confidence") == "low" for one in results
            ),
        }
        for name, results in groups.items()
    }
    return found | {"shuffled": found["shuffled"] | shuffled_beside_true(kept)} if "shuffled" in found else found


def shuffled_beside_true(kept: Kept) -> dict[str, int]:
    """How often shuffled labels were said to teach nothing, and how often the answer was no larger than with the true
    ones of the same seed."""
    pairs = [
        (result, kept.results[true])
        for name, result in kept.results.items()
        if name.startswith("shuffled/") and (true := name.replace("shuffled", "good")) in kept.results
    ]
    return {
        "said": sum(any("as from shuffled labels" in doubt for doubt in shuffled["doubts"]) for shuffled, _ in pairs),
        "no_larger": sum((shuffled["r"] or 0) <= (good["r"] or 0) for shuffled, good in pairs),
    }


if __name__ == "__main__":
    main()
