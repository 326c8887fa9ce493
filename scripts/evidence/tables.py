"""The tables of the README and of data/evidence/README.md, from data/evidence/*.json.

Every table stands between <!-- NAME --> and <!-- /NAME -->; this script writes what belongs there anew, and the tests
hold that nothing else stands there.

    python scripts/evidence/tables.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
EVIDENCE = ROOT / "data" / "evidence"
DOCUMENTS = (ROOT / "README.md", EVIDENCE / "README.md")

SHOWN = 12
"""Predictors at the head of the bake-off that the README shows, before those that people ask for by name."""

ASKED_FOR = (
    "the best of the other pairs",
    "energy 0.9, q50 by energy, weight",
    "gradience, median",
    "gradience, p90",
    "replicated rank, q50 by energy",
    "EVA, 0.9 of the activations' variance",
    "Gavish-Donoho, q50 by energy, weight",
    "cut and healed, 1% of the gain",
    "truncation curve, 1% of the gain",
    "capacity floor",
    "companion at 1, power 1",
    "companion at 2, power 1",
    "table, middle",
    "always 2",
    "always 4",
    "always 8",
    "always 16",
    "always 32",
)


def read(name: str) -> Any:
    """A file of the evidence."""
    return json.loads((EVIDENCE / name).read_text(encoding="utf-8"))


def table(heads: str, rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table; ``heads`` separated by bars."""
    lines = [f"| {heads} |", "|" + "---|" * (heads.count("|") + 1)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def span(low: int, r: int, high: int) -> str:
    """A rank and its interval."""
    return f"{r}" if low == high else f"{r} ({low}–{high})"


def pairs() -> str:
    """Every pair: what the sweep found, and what the tool said."""
    answers = read("answers.json")["answers"]
    rows = []
    for path in sorted((EVIDENCE / "pairs").glob("*/record.json")):
        name = path.parent.name
        found = json.loads((path.parent / "sweep.json").read_text(encoding="utf-8"))
        outcome = found["outcome"]
        shares = {one["rank"]: one["share"] for one in outcome["ranks"]}
        said = answers.get(name)
        told = "" if said is None else "refused" if said["r"] is None else f"{said['r']}, {said['confidence']}"
        rows.append(
            [
                name,
                f"{found['tokens']:,}",
                f"{outcome['gain']['mean']:.3f} ± {outcome['gain']['se']:.3f}",
                *(f"{shares[rank]:.3f}" if rank in shares else "" for rank in (1, 2, 4, 8, 16)),
                span(outcome["low"], outcome["r_sufficient"], outcome["high"]) + (" flat" if outcome["flat"] else ""),
                told,
            ]
        )
    return table("pair | tokens | gain, nats | r = 1 | 2 | 4 | 8 | 16 | sufficient | the tool says", rows)


def bakeoff() -> str:
    """The best predictors, and those that people ask for, sorted as the file is."""
    found = read("bakeoff.json")
    pairs = len(found["pairs"])
    every = [one for one in found["predictors"] if one["pairs"] == pairs]
    named = [one for one in found["predictors"] if one["name"] in ASKED_FOR and one not in every[:SHOWN]]
    named.sort(key=lambda one: one["within_octave"], reverse=True)  # in the file, those of fewer pairs stand last
    chosen = [found["left_out"], *every[:SHOWN], *named]
    return table(
        "predictor | within a doubling | mean regret | worst regret | mean r",
        [
            [
                one["name"] if one.get("pairs", pairs) == pairs else f"{one['name']} ({one['pairs']} pairs)",
                f"{one['within_octave']:.0%}",
                f"{one['mean_regret']:.2%}",
                f"{one['worst_regret']:.2%}",
                f"{one['mean_rank']:.1f}",
            ]
            for one in chosen
        ],
    )


def confidence() -> str:
    """How often an answer of each confidence was right, and its interval held the truth."""
    found = read("answers.json")
    rows = []
    for level, one in [*found["by_confidence"].items(), ("all", found["all"])]:
        if one.get("answered"):
            rows.append(
                [
                    level,
                    one["answered"],
                    f"{one['within_octave']:.0%}",
                    f"{one['covered']:.0%}",
                    f"{one['mean_regret']:.2%}",
                    f"{one['worst_regret']:.2%}",
                ]
            )
    return table("confidence | answers | within a doubling | interval holds it | mean regret | worst regret", rows)


def refusals() -> str:
    """Which probes were refused or doubted."""
    summary: Mapping[str, Any] = read("refusals.json")["summary"]
    return table(
        "probe | probes | refused | refused or low confidence",
        [[name, one["probes"], one["refused"], one["refused_or_low"]] for name, one in summary.items()],
    )


def invariance() -> str:
    """How the answer moves with what should not matter."""
    summary = read("invariance.json")["summary"]
    tasks = sorted({task for found in summary["by_change"].values() for task in found})
    return table(
        "change | " + " | ".join(tasks),
        [
            [
                change,
                *("→".join(str(r or "none") for r in reversed(found[task])) if task in found else "" for task in tasks),
            ]
            for change, found in summary["by_change"].items()
        ],
    )


TABLES: dict[str, Callable[[], str]] = {
    "pairs": pairs,
    "bakeoff": bakeoff,
    "confidence": confidence,
    "refusals": refusals,
    "invariance": invariance,
}


def filled(text: str) -> str:
    """A document with every table in it written anew."""
    for name, render in TABLES.items():
        if f"<!-- {name} -->" in text:  # the tables of files that are not there yet stand nowhere
            block = f"<!-- {name} -->\n{render()}\n<!-- /{name} -->"
            text = re.sub(rf"<!-- {name} -->.*?<!-- /{name} -->", lambda _, block=block: block, text, flags=re.DOTALL)
    return text


if __name__ == "__main__":
    for path in DOCUMENTS:
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
