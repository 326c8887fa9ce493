"""The search for a learning rate: a few short trials from the same start (floor 2, torch)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from peft import PeftModel

from lorarank.corpus import Rows
from lorarank.probe import model as models
from lorarank.probe.grid import FACTOR, SETTLED, UNTESTED_RATE, bracket, rate_of
from lorarank.probe.heldout import evaluate
from lorarank.probe.options import SEARCH_SHARE, SHORT_SEARCH_SHARE, ProbeOptions
from lorarank.probe.stages import agreed
from lorarank.probe.training import TrainingRun, train
from lorarank.runs import LearningRateTrial

TRIALS = 4
"""Trials the budget is divided among: the start, both neighbours, and one step further."""

CHECK_STEPS = 3
"""Steps' worth of rows that a trial is judged on; a forward pass, a third of the price of training on them."""

AROUND = (0.1, 1.0, 10.0)
"""What a given rate is tried at, beside itself: closer by, short trials say nothing sure."""

LEAST_STEPS = 4
"""Fewer training steps than this tell rates apart by their size alone: the loss simply falls with the rate."""


def trial_steps(steps: int) -> int:
    """Training steps of each trial when the whole probe has ``steps``; 0 when the budget is too small for a search.

    >>> trial_steps(128), trial_steps(60), trial_steps(59)
    (5, 4, 0)
    """
    check = CHECK_STEPS / 3
    affordable = int(SEARCH_SHARE * steps / TRIALS - check)
    if affordable >= LEAST_STEPS:
        return affordable
    return LEAST_STEPS if TRIALS * (LEAST_STEPS + check) <= SHORT_SEARCH_SHARE * steps else 0


def search(
    model: PeftModel,
    run: TrainingRun,
    options: ProbeOptions,
    scratch: Path,
    tick: Callable[[int, LearningRateTrial], None],
) -> tuple[float, tuple[LearningRateTrial, ...]]:
    """The rate to train with, and the trials it was chosen from, by ascending rate.

    Every trial starts from the adapter as it is on ``model``, trains on the first rows of ``run``'s schedule and is
    judged on the rows that follow; the adapter is put back afterwards. The rate is a little below the best trial's, see
    :data:`~lorarank.probe.grid.SETTLED`. ``tick`` is called after each trial. A probe too short for a search trains at
    :data:`~lorarank.probe.grid.UNTESTED_RATE`, and its one trial has 0 steps.
    """
    if trial_steps(run.schedule.steps) < 1:
        return UNTESTED_RATE, (LearningRateTrial(UNTESTED_RATE, 0, math.nan),)
    found: dict[int, LearningRateTrial] = {}
    tried = _judge(model, run, options, scratch)

    def judge(notch: int) -> float:
        if notch not in found:
            found[notch] = tried(rate_of(notch))
            tick(len(found), found[notch])
        return found[notch].loss

    best = bracket(judge, TRIALS)
    return rate_of(best - SETTLED), tuple(found[notch] for notch in sorted(found))


def around(
    model: PeftModel,
    run: TrainingRun,
    options: ProbeOptions,
    scratch: Path,
    tick: Callable[[int, LearningRateTrial], None],
) -> tuple[LearningRateTrial, ...]:
    """Trials of the search at the rate that was given, a decade below and a decade above it, by ascending rate.

    A search that settles at the given rate has its best trial :data:`~lorarank.probe.grid.SETTLED` notches above it,
    and these are around that. None where the probe is too short for trials.
    """
    if options.lr is None or trial_steps(run.schedule.steps) < 1:
        return ()
    found: list[LearningRateTrial] = []
    tried = _judge(model, run, options, scratch)
    for factor in AROUND:
        found.append(tried(float(f"{options.lr * FACTOR**SETTLED * factor:.3g}")))
        tick(len(found), found[-1])
    return tuple(found)


def _judge(
    model: PeftModel, run: TrainingRun, options: ProbeOptions, scratch: Path
) -> Callable[[float], LearningRateTrial]:
    """A function that tries a rate, from the adapter as it is on ``model`` now; the adapter is put back afterwards."""
    steps = trial_steps(run.schedule.steps)
    start = models.adapter_weights(model)
    begin = steps * run.schedule.rows_per_step
    check = _take(run.rows, run.schedule.order[begin : begin + CHECK_STEPS * run.schedule.rows_per_step])

    def judge(rate: float) -> LearningRateTrial:
        trial = dataclasses.replace(run, schedule=run.schedule.first(steps), learning_rate=rate, constant_rate=True)
        train(model, trial, options, scratch)
        losses = evaluate(
            model, check, documents=int(check.document.max()) + 1, rows_at_once=run.micro_rows, dtype=run.dtype
        )
        models.restore_weights(model, start)
        mean = agreed(float(losses.sums.sum() / max(1, losses.counts.sum())))
        return LearningRateTrial(rate, steps, mean if math.isfinite(mean) else math.inf)

    return judge


def _take(rows: Rows, order: NDArray[np.int64]) -> Rows:
    """Some rows, each once."""
    index = np.unique(order)
    return Rows(rows.input_ids[index], rows.loss_mask[index], rows.position_ids[index], rows.document[index])
