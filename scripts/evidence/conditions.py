"""A probe under a named condition and what `estimate` says of it, kept as soon as it is known."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import platform
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from lorarank.capacity import Recall
from lorarank.errors import LorarankError
from lorarank.estimate import EstimateOptions, readings, recommend
from lorarank.estimate.doubts import contradicted, level, prompts_used, unsettled, unused_prompts, wide
from lorarank.estimate.recommendation import Interval
from lorarank.json_files import write_json
from lorarank.numerics.ladder import round_up
from lorarank.probe import ProbeOptions, probe
from lorarank.runs import Companion, Loss, Run, Truncation, TruncationPoint

TOLD_ANEW = ("With the prompt of another row", "The answer turns on", "The interval is", "The keep rank")
"""How doubts begin that are worked out from what was kept."""


def kept_curves(
    companion: Sequence[float], truncation: Sequence[Sequence[float]], probe_rank: int
) -> tuple[Companion, Truncation]:
    """What a run measured of both, as far as a record keeps it: losses beyond the probe's."""
    nothing = Loss(0.0, 0.0)
    points = tuple(TruncationPoint(int(k), nothing, Loss(mean, se)) for k, mean, se in truncation)
    rank, mean, se = companion
    return Companion(int(rank), 1, nothing, Loss(mean, se)), Truncation(1, "loss", probe_rank, 1, points, ())


def worked_out(
    before: Mapping[str, Any],
    *,
    companion: Sequence[float],
    truncation: Sequence[Sequence[float]],
    probe_rank: int,
    gain: float,
    other_prompts: Loss | None,
    recall: Recall | None = None,
) -> dict[str, Any]:
    """What the tool says now of a probe whose run is gone: rank and interval by its own functions, from what was kept.

    Whatever rests on neither stays as it was said: refusals, the capacity floor's part of the interval, and doubts.
    """
    beside, curve = kept_curves(companion, truncation, probe_rank)
    found = readings.low_rank(beside, curve, gain, prompts_used=prompts_used(other_prompts))
    if found is None or before["r"] is None:
        return dict(before)
    r = readings.with_recall(found, recall)
    interval = Interval(min(found.low, found.r), max(*before["interval"], found.high, r), ())
    doubts = [
        *(doubt for doubt in before["doubts"] if not doubt.startswith(TOLD_ANEW)),
        *unused_prompts(other_prompts),
        *(unsettled(found) if r == found.r else ()),
        *wide(interval),
        *contradicted(readings.keep_rank(curve, gain), r),
    ]
    unsound = any("took only" in doubt or "is far off" in doubt for doubt in doubts)
    return {
        **before,
        "r": r,
        "interval": [interval.low, interval.high],
        "doubts": doubts,
        "confidence": level(doubts, unsound=unsound),
    }


class Kept:
    """Results by name in a JSON file; what is there is not done again, but answered by the rule as it now is.

    ``header`` stands beside them: what was asked, and by which command.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        self.header = {"machine": f"{platform.machine()}, {os.cpu_count()} cores", **header}
        kept: dict[str, dict[str, Any]] = json.loads(path.read_bytes())["results"] if path.is_file() else {}
        self.results = {name: self._anew(result) for name, result in kept.items()}

    @staticmethod
    def _anew(result: dict[str, Any]) -> dict[str, Any]:
        if result.get("companion") is None:
            return result
        lost, recall = (result.get("controls") or {}).get("other_prompts"), result.get("recall")
        return worked_out(
            result,
            companion=result["companion"],
            truncation=result["truncation"],
            probe_rank=2 * result["truncation"][-1][0],  # cuts are made to every power of two below it
            gain=result["gain"][0],
            other_prompts=lost and Loss(**lost),
            recall=recall and Recall(**recall),
        )

    def keep(self, name: str, result: Mapping[str, Any], **summary: Any) -> None:
        self.results[name] = dict(result)
        self.write(**summary)

    def keep_all(self, find: Callable[[Any], dict[str, Any]], wanted: Mapping[str, Any], jobs: int) -> None:
        """Find what is not kept yet from its options, so many at once, each in a process of its own."""
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, context, warnings.simplefilter, ("ignore",)) as pool:
            asked = {pool.submit(find, options): name for name, options in wanted.items() if name not in self.results}
            for done in as_completed(asked):
                self.keep(asked[done], done.result())
                print(asked[done], "done", flush=True)

    def write(self, **summary: Any) -> None:
        write_json(self.path, {**self.header, "date": time.strftime("%Y-%m-%d"), "results": self.results, **summary})


def longer(task: str, short: Mapping[str, Any] | None, long: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    """What a run says of a longer one, beside that one's answer; nothing where either has none.

    ``told`` is its answer where --tokens says the longer one's length.
    """
    if not short or not long or not short.get("r") or not long.get("r"):
        return
    times, told = long["tokens"] / short["tokens"], short["r"]
    if short.get("recall"):
        recall = Recall(**short["recall"])
        if dataclasses.replace(recall, exposures=times * recall.exposures).binds:
            told = max(told, round_up(recall.rank))
    said = readings.outlook(Companion(1, 1, Loss(0.0, 0.0), Loss(0.0, 0.0), tuple(Loss(*p) for p in short["behind"])))
    yield {
        "task": task,
        "tokens": [short["tokens"], long["tokens"]],
        "says": None if said is None else said.moves,
        "r": [short["r"], long["r"]],
        "told": told,
        "interval": short["interval"],
        "lost": [short["lost"][0], long["lost"][0]],
    }


def answered(options: ProbeOptions, task: str | None = None) -> dict[str, Any]:
    """Probe, estimate, and forget the adapter: the answer and what it stands on."""
    shutil.rmtree(options.output, ignore_errors=True)
    begun = time.monotonic()
    try:
        found = said(probe(options), task)
    except LorarankError as error:
        found = {"error": str(error)}
    finally:
        if (options.output / "manifest.json").is_file():
            shutil.rmtree(options.output / "adapter", ignore_errors=True)
    return {**found, "seconds": round(time.monotonic() - begun, 1)}


def said(run: Run, task: str | None = None) -> dict[str, Any]:
    """What `estimate` says of a run, and what it stands on."""
    answer, training = recommend(run.folder, EstimateOptions(task=task)), run.manifest.training
    return {
        "r": answer.r,
        "interval": None if answer.interval is None else [answer.interval.low, answer.interval.high],
        "confidence": answer.confidence,
        "refusals": list(answer.refusals),
        "doubts": list(answer.doubts),
        "keep": None if answer.keep is None else answer.keep.r,
        "recall": None if answer.evidence is None or answer.evidence.recall is None else vars(answer.evidence.recall),
        "median": None if answer.rule is None else answer.rule.median,
        "lost": None if answer.low_rank is None else [answer.low_rank.lost, answer.low_rank.lost_se],
        "companion": None
        if run.companion is None
        else [run.companion.rank, run.companion.excess.mean, run.companion.excess.se],
        "truncation": [[point.k, point.excess.mean, point.excess.se] for point in run.truncation.points],
        "behind": None if run.companion is None else [[part.mean, part.se] for part in run.companion.training],
        "controls": None if run.controls is None else dataclasses.asdict(run.controls),
        "gain": [run.manifest.heldout.gains[0].mean, run.manifest.heldout.gains[0].se],
        "base_loss": run.manifest.heldout.base.mean,
        "learning_rate": training.learning_rate,
        "steps": training.steps,
        "tokens": training.trained_tokens,
    }
