"""The tables of the README and of data/evidence/README.md, from data/evidence/*.json.

Every table stands between <!-- NAME --> and <!-- /NAME -->; this script writes what belongs there anew, and the tests
hold that nothing else stands there.

    python scripts/evidence/tables.py
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bakeoff import MADE_HERE

from lorarank.sweep import read as read_sweep
from lorarank.sweep.outcome import Outcome

ROOT = Path(__file__).resolve().parents[2]
EVIDENCE = ROOT / "data" / "evidence"
DOCUMENTS = (ROOT / "README.md", EVIDENCE / "README.md")

SHOWN = 12
"""Predictors at the head of the bake-off that the README shows, before those that people ask for by name."""

FACTS = ("8", "32", "128", "256")
"""How many facts are recalled, where capacity is to bind."""

LEVELS = ("high", "medium", "low")
"""Of confidence."""

LINEAR_EDGE = 1.2
"""Times the detectable edge from which a planted direction counts as above it: less, and chance still has a say."""

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
    "companion at 1, power 1, and truncation 2%, the mean",
    "companion at 1, power 1, and truncation 2%, the mean, heeding prompts and recall",
    "truncation curve, 2% of the gain",
    "companion at 2, power 1",
    "table, middle",
    "always 2",
    "always 4",
    "always 8",
    "always 16",
    "always 32",
)


COMMANDS = {
    "bench-callback.json": "python scripts/bench_callback.py --output bench-callback.json",
    "bench-estimate.json": "python scripts/bench_estimate.py --output bench-estimate.json",
    "bench-probe.json": "python scripts/bench_probe.py MODEL --data TRAIN --val VAL --output bench-probe.json",
    "fuzz.json": "python scripts/fuzz.py",
    "take-it-there.json": "python scripts/evidence/take_it_there.py RUN --model MODEL --data TRAIN",
}
"""Of the files that do not hold theirs."""

MINUTE, HOUR = 60.0, 3600.0


def read(name: str) -> Any:
    """A file of the evidence."""
    return json.loads((EVIDENCE / name).read_text(encoding="utf-8"))


def table(heads: str, rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table; ``heads`` separated by bars."""
    lines = [f"| {heads} |", "|" + "---|" * (heads.count("|") + 1)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def sufficient(outcome: Outcome) -> str:
    """What a sweep says suffices, and how sure that is."""
    found = span(outcome.low, outcome.r_sufficient, outcome.high)
    return ("≥ " if outcome.censored else "") + found + (" flat" if outcome.flat else "")


def span(low: int, r: int, high: int) -> str:
    """A rank and its interval."""
    return f"{r}" if low == high else f"{r} ({low}–{high})"


def pairs() -> str:
    """Every pair: what the sweep found, and what the tool said."""
    answers = read("answers.json")["answers"]
    rows = []
    for path in sorted((EVIDENCE / "pairs").glob("*/record.json")):
        name = path.parent.name
        found = read_sweep(path.parent)
        outcome = found.outcome
        shares = {one.rank: one.share for one in outcome.ranks}
        said = answers.get(name)
        told = "" if said is None else "refused" if said["r"] is None else f"{said['r']}, {said['confidence']}"
        rows.append(
            [
                name,
                f"{found.tokens:,}",
                f"{outcome.gain.mean:.3f} ± {outcome.gain.se:.3f}",
                *(f"{shares[rank]:.3f}" if rank in shares else "" for rank in (1, 2, 4, 8, 16)),
                sufficient(outcome),
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
    chosen = [found["left_out"], found["families_left_out"], *every[:SHOWN], *named]
    return table(
        "predictor | within a doubling | mean regret | worst regret | mean r | mean parameters | pretrained: within | "
        "regret",
        [
            [
                one["name"] if one.get("pairs", pairs) == pairs else f"{one['name']} ({one['pairs']} pairs)",
                f"{one['within_octave']:.0%}",
                f"{one['mean_regret']:.2%}",
                f"{one['worst_regret']:.2%}",
                f"{one['mean_rank']:.1f}",
                f"{one['mean_parameters']:,.0f}",
                *([f"{real['within_octave']:.0%}", f"{real['mean_regret']:.2%}"] if real else ["", ""]),
            ]
            for one in chosen
            for real in [one["pretrained"]]
        ],
    )


def allowances() -> str:
    """How right the answer is where another share may be lost, beside the best rank that one could always say."""
    return table(
        "may lose | answered | within a doubling | too low by more | mean regret | mean r | the sweeps: mean r | "
        "always the same: within a doubling",
        [
            [
                f"{100 * one['allowed']:g}%",
                one["answered"],
                f"{one['within_octave']:.0%}",
                one["too_low"],
                f"{one['mean_regret']:.2%}",
                f"{one['mean_rank']:.1f}",
                f"{one['sweep_mean_rank']:.1f}",
                f"r = {one['best_constant']}: {one['best_constant_within_octave']:.0%}",
            ]
            for one in read("allowances.json")["allowances"]
        ],
    )


def confidence() -> str:
    """How often an answer of each confidence was right, and its interval held the truth."""
    found = read("answers.json")
    rows = []
    for level, one in [*((level, found["by_confidence"][level]) for level in LEVELS), ("all", found["all"])]:
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


ADDED = {
    "heal": "`heal.py` (of pretrained pairs those of PubMedQA alone)",
    "activations": "`activations.py`",
    "companions": "`companions.py`",
    "replicated": "`replicates.py`",
}
"""What was added to the records → the script that did, which keeps the seconds that it took there."""


def origins() -> str:
    """Every file with its command, machine, date, and the time that it took where that is known."""
    swept, probed, dates, machines = 0.0, 0.0, set(), set()
    added = dict.fromkeys(ADDED, 0.0)
    for path in (EVIDENCE / "pairs").glob("*/record.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        found = json.loads((path.parent / "sweep.json").read_text(encoding="utf-8"))
        swept, probed = swept + found["seconds"], probed + record["probe"]["seconds"]
        added = {key: seconds + record.get("took", {}).get(key, 0.0) for key, seconds in added.items()}
        dates.add(found["created"][:10])
        machines.add(record["machine"].rpartition(",")[0])
    command = "python scripts/evidence/pairs.py --work WORK --model NAME=FOLDER --data FOLDER"
    rows = [
        [
            "`pairs/`",
            f"`{command}`",
            "; ".join(sorted(machines)),
            " to ".join(sorted({min(dates), max(dates)})),
            ", ".join(
                [
                    f"{swept / HOUR:.1f} h of sweeps",
                    f"{probed / HOUR:.1f} h of probes",
                    *(f"{hours(added[key])} of {script}" for key, script in ADDED.items()),
                ]
            ),
        ]
    ]
    for path in sorted(EVIDENCE.glob("*.json")):
        found = read(path.name)
        told = found.get("command") or COMMANDS[path.name]
        rows.append([f"`{path.name}`", f"`{told}`", found.get("machine", ""), found["date"], cost(found)])
    return table("file | command | machine | date | took", rows)


def cost(found: Mapping[str, Any]) -> str:
    """Hours that a file says it took, in all or result by result."""
    seconds = found.get("seconds")
    if seconds is None and isinstance(found.get("results"), dict):
        seconds = sum(one.get("seconds", 0.0) for one in found["results"].values())
    if not isinstance(seconds, float) or not seconds:
        return ""
    return hours(seconds)


def hours(seconds: float) -> str:
    """A time as a person says it.

    >>> hours(90), hours(5400)
    ('2 min', '1.5 h')
    """
    return f"{seconds / HOUR:.1f} h" if seconds >= HOUR else f"{math.ceil(seconds / MINUTE)} min"


def grown(runs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those of which one of twice the tokens asked for more."""
    return [one for one in runs if one["r"][1] > one["r"][0]]


def warned(runs: Sequence[Mapping[str, Any]]) -> int:
    """How many of them showed it."""
    return sum(one["says"] == "up" for one in runs)


def longer_runs() -> str:
    """How answers lie to those of longer runs, and what of it the companion's training shows."""
    found = read("longer-runs.json")["summary"]
    does = {"up": "falls behind further", "stays": "keeps its distance", "down": "catches up"}
    counts = {f"{times} times": one for times, one in found["times"].items()} | {
        f"2 times, where the low rank {does[moves]}": one for moves, one in found["moves"].items()
    }
    keys = ("answers", "more", "same", "less", "within_a_doubling", "in_the_interval")
    return table(
        "tokens | answers | higher | the same | lower | within a doubling | in the shorter run's interval",
        [(name, *(str(one[key]) for key in keys)) for name, one in counts.items()],
    )


def longer_sweeps() -> str:
    """The answer of a probe beside a sweep four times as long."""
    rows = (
        (
            one["task"],
            span(one["interval"][0], one["r"], one["interval"][1]),
            span(one["of"][0], one["r_sufficient"], one["of"][1]),
            f"{max(0.0, one['loses']):.2%}",
        )
        for one in read("longer-sweeps.json")["summary"]
    )
    return table("task | the probe says | suffices in four times the tokens | the probe's answer loses there", rows)


def aims() -> str:
    """What the answer was to reach, beside what it did."""
    answers, found = read("answers.json"), read("bakeoff.json")
    every, later, pairs = answers["all"], answers["later"], found["pairs"]
    count = len(pairs)
    (sixteen,) = (one for one in found["predictors"] if one["name"] == "always 16")
    shares = [one["probe_share_of_sweep"] for one in pairs.values()]
    flat = sum(one["flat"] for one in pairs.values())
    moved = read("invariance.json")["summary"]
    probes = read("refusals.json")["summary"]
    bad = [probes[name] for name in ("20 steps", "rate /30", "rate x30", "random tokens", "own text")]
    caught, tried = sum(one["refused_or_low"] for one in bad), sum(one["probes"] for one in bad)
    good = probes["good"]
    cells = read("planted-linear.json")["cells"]
    noise = [one for one in cells if one["rank"] == 0 or one["strength"] == 0]
    above = [one for one in cells if one["rank"] > 0 and one["strength"] >= LINEAR_EDGE]
    planted = [name for name in pairs if name.startswith("planted-")]
    hit = sum(answers["answers"][name]["octaves"] <= 1 for name in planted)
    grew, later_grew = (grown(one["outlooks"]) for one in (moved, read("longer-runs.json")["summary"]))
    facts = [(pairs[f"recall-{n}"]["r_sufficient"], answers["answers"][f"recall-{n}"]["r"]) for n in FACTS]
    real = [one for name, one in answers["answers"].items() if not name.startswith(MADE_HERE)]
    real_regret = sum(one["regret"] for one in real) / len(real)
    real_right = sum(one["octaves"] <= 1 for one in real)
    rows = [
        (
            "within a doubling of the sweep on 90% of pairs",
            f"{every['within_octave']:.0%} of {count}",
            every["within_octave"] >= 0.9,
        ),
        (
            "chosen without each pair in turn, too",
            f"{found['left_out']['within_octave']:.0%}",
            found["left_out"]["within_octave"] >= 0.9,
        ),
        (
            "chosen without all pairs like it, too",
            f"{found['families_left_out']['within_octave']:.0%}",
            found["families_left_out"]["within_octave"] >= 0.9,
        ),
        (
            "on tasks added after the rule was fixed, too",
            f"{later['within_octave']:.0%} of {later['answered']}, mean regret {later['mean_regret']:.2%}",
            later["within_octave"] >= 0.9,
        ),
        ("mean regret at most 1% of the gain", f"{every['mean_regret']:.2%}", every["mean_regret"] <= 0.01),
        (
            "on pretrained models alone, too",
            f"{real_regret:.2%} of {len(real)}; {real_right} of them within a doubling",
            real_regret <= 0.01,
        ),
        ("worst regret at most 3%", f"{every['worst_regret']:.2%}", every["worst_regret"] <= 0.03),
        (
            "fewer parameters than always 16 at no more regret",
            f"mean r {every['mean_r']:.1f}; regret {every['mean_regret']:.2%} against {sixteen['mean_regret']:.2%}",
            every["mean_r"] < 16 and every["mean_regret"] <= sixteen["mean_regret"],
        ),
        (
            "probe at most 1/8 of all that its sweep computes",
            f"{min(shares):.3f} to {max(shares):.3f}; at most 1/8 on {sum(s <= 0.125 for s in shares)} of {count}",
            max(shares) <= 0.125,
        ),
        (
            "ranks differ by more than their errors on half of the pairs",
            f"on {count - flat} of {count}",
            2 * (count - flat) >= count,
        ),
        (
            "the interval holds the sufficient rank 95 times of 100",
            f"{every['covered']:.1%} of {every['answered']}",
            every["covered"] >= 0.95,
        ),
        (
            "planted teachers within a doubling of their sweeps, 90%",
            f"{hit} of {len(planted)}",
            hit >= 0.9 * len(planted),
        ),
        (
            "the replicated rank of a linear regression exact in 90% above the edge",
            f"{min(one['replicated_rank_exact'] for one in above):.0%} or more from {LINEAR_EDGE:g} times the edge on",
            all(one["replicated_rank_exact"] >= 0.9 for one in above),
        ),
        (
            "and 0 on 95% of pure noise",
            f"{min(one['replicated_rank_exact'] for one in noise):.0%}",
            all(one["replicated_rank_exact"] >= 0.95 for one in noise),
        ),
        (
            "memorising more facts asks for a higher rank, and the answer follows",
            ", ".join(f"{truth} (says {said})" for truth, said in facts) + f" for {', '.join(FACTS)} facts",
            all(one < other for (one, _), (other, _) in itertools.pairwise(facts))
            and all(abs(math.log2(said / truth)) <= 1 for truth, said in facts),
        ),
        (
            "the answer within a doubling in 90% whatever of the probe is changed",
            f"{moved['within_an_octave']} of {moved['answers']} answers; {moved['refused']} refused besides",
            moved["within_an_octave"] >= 0.9 * (moved["answers"] + moved["refused"]),
        ),
        (
            "where twice the tokens ask for more, the shorter run says so",
            f"{warned(grew)} of {len(grew)}; on tasks tried later {warned(later_grew)} of {len(later_grew)}",
            warned(grew) == len(grew) and warned(later_grew) == len(later_grew),
        ),
        ("95% of bad probes refused or of low confidence", f"{caught} of {tried}", caught >= 0.95 * tried),
        (
            "90% of good ones neither",
            f"{good['probes'] - good['refused_or_low']} of {good['probes']}",
            good["refused_or_low"] <= 0.1 * good["probes"],
        ),
        (
            "shuffled labels: no larger an answer, and said",
            f"{probes['shuffled']['no_larger']} and {probes['shuffled']['said']} of {probes['shuffled']['probes']}",
            probes["shuffled"]["no_larger"] == probes["shuffled"]["said"] == probes["shuffled"]["probes"],
        ),
    ]
    return table("aim | reached | ", [(aim, reached, "met" if met else "**missed**") for aim, reached, met in rows])


TABLES: dict[str, Callable[[], str]] = {
    "origins": origins,
    "aims": aims,
    "pairs": pairs,
    "bakeoff": bakeoff,
    "allowances": allowances,
    "confidence": confidence,
    "refusals": refusals,
    "invariance": invariance,
    "longer-runs": longer_runs,
    "longer-sweeps": longer_sweeps,
}


def filled(text: str) -> str:
    """A document with every table in it written anew."""
    for name, render in TABLES.items():
        if f"<!-- {name} -->" in text:  # the tables of files that are not there yet stand nowhere
            block = f"<!-- {name} -->\n{render()}\n<!-- /{name} -->"
            before, after = re.split(rf"<!-- {name} -->.*?<!-- /{name} -->", text, maxsplit=1, flags=re.DOTALL)
            text = before + block + after
    return text


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for path in DOCUMENTS:
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
