"""Every sign on curves that have it, and on curves that have another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from lorarank.diagnose.curves import NOTHING, curve
from lorarank.diagnose.result import CANNOT_TELL, FINE, NOT_SEEN, SEEN, TOO_HIGH, TOO_LOW, UNTESTED, Sign
from lorarank.diagnose.stage import signs_of
from lorarank.diagnose.training import Training
from lorarank.diagnose.verdict import verdict_of

Make = Callable[..., Training]
STEPS = 1000


def by_name(run: Training) -> dict[str, Sign]:
    return {sign.name: sign for sign in signs_of(run)}


@pytest.mark.parametrize(
    ("kind", "seen", "verdict"),
    [
        ("healthy", set(), FINE),
        ("exponential", set(), FINE),
        ("flat", {"early plateau"}, TOO_LOW),
        ("unlearned", {"stuck"}, CANNOT_TELL),
        ("steep", {"unfinished"}, CANNOT_TELL),
        ("overfitting", {"overfitting", "gap"}, TOO_HIGH),
    ],
)
def test_each_kind_of_run_shows_its_signs(planted: Make, kind: str, seen: set[str], verdict: str) -> None:
    found = signs_of(planted(kind))
    assert {sign.name for sign in found if sign.seen} == seen
    assert verdict_of(found, None).verdict == verdict


def test_the_numbers_are_those_of_the_truth(planted: Make) -> None:
    found = by_name(planted("overfitting"))["overfitting"].numbers
    assert found["lowest_step"] == pytest.approx(450, abs=100)
    assert found["end"] == pytest.approx(1.05 + 1.5 * np.exp(-1 / 0.12) + 0.5 * 0.6**1.5, abs=0.04)
    assert found["rise"] > 10 * found["rise_standard_error"] > 0
    gap = by_name(planted("overfitting"))["gap"].numbers
    assert gap["after"] - gap["before"] == pytest.approx(0.4 + 0.5 * 0.6**1.5, abs=0.15)
    late = by_name(planted("flat"))["early plateau"].numbers
    assert abs(late["validation_share"]) < 0.01
    assert abs(late["train_share"]) < 0.03


def test_a_validation_loss_that_rises_with_the_training_loss_is_no_overfitting(planted: Make) -> None:
    run = planted("overfitting")
    up = curve(run.train.steps, run.train.losses + 1.5 * np.maximum(0, run.train.steps / STEPS - 0.4))
    found = signs_of(replace(run, train=up))
    assert "instability" in {sign.name for sign in found if sign.seen}
    assert verdict_of(found, None).verdict == CANNOT_TELL


def test_a_training_loss_that_goes_on_falling_is_no_plateau(planted: Make) -> None:
    run = planted("flat")
    falling = curve(run.train.steps, run.train.losses - 0.5 * run.train.steps / STEPS)
    assert by_name(replace(run, train=falling))["early plateau"].outcome == NOT_SEEN


def test_a_plateau_that_the_schedule_explains_is_not_held_against_the_rank(planted: Make) -> None:
    run = planted("flat")
    rate = curve(run.train.steps, np.where(run.train.steps < 0.2 * STEPS, 1e-3, 1e-5))
    assert by_name(replace(run, rate=rate))["early plateau"].outcome == UNTESTED


@pytest.mark.parametrize("evaluations", [1, 2, 3, 5])
def test_few_evaluations_are_no_evidence(planted: Make, evaluations: int) -> None:
    found = by_name(planted("overfitting", evaluations=evaluations))
    assert found["overfitting"].outcome == UNTESTED
    assert verdict_of(tuple(found.values()), None).verdict == CANNOT_TELL


def test_without_validation_losses_nothing_can_be_told(planted: Make) -> None:
    found = signs_of(replace(planted("flat"), validation=NOTHING))
    assert verdict_of(found, None).verdict == CANNOT_TELL


def test_a_loss_that_is_no_number_ends_the_diagnosis(planted: Make) -> None:
    run = planted("healthy")
    losses = run.train.losses.copy()
    losses[50:] = np.nan
    (found,) = signs_of(replace(run, train=curve(run.train.steps, losses)))
    assert (found.name, found.outcome, found.numbers) == ("diverged", SEEN, {"step": 510.0})
    assert verdict_of((found,), 8).verdict == CANNOT_TELL


def test_one_point_is_no_error() -> None:
    one = curve([1], [2.0])
    for run in (Training("log", one, NOTHING), Training("log", one, one), Training("log", NOTHING, NOTHING)):
        assert verdict_of(signs_of(run), None).verdict == CANNOT_TELL


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_the_unit_of_the_loss_plays_no_part(planted: Make, factor: float) -> None:
    for kind in ("healthy", "flat", "overfitting", "unlearned"):
        run = planted(kind)
        scaled = Training(
            "log",
            curve(run.train.steps, factor * run.train.losses),
            curve(run.validation.steps, factor * run.validation.losses),
        )
        assert [s.outcome for s in signs_of(scaled)] == [s.outcome for s in signs_of(run)]


def test_a_handful_of_training_losses_is_not_called_unlearned(planted: Make) -> None:
    """The run of data/evidence/take-it-there.json: four losses of batches of two rows."""
    run = replace(planted("healthy"), train=curve([1, 2, 3, 4], [1.4454, 1.5464, 0.9547, 1.1221]), validation=NOTHING)
    assert by_name(run)["stuck"].outcome == UNTESTED
    assert verdict_of(signs_of(run), 8).reason == "the curves do not carry a test of every sign"


def test_a_loss_that_rises_is_said_to_rise(planted: Make) -> None:
    run = planted("overfitting")
    found = by_name(run)
    assert found["early plateau"].numbers["validation_share"] < 0 < found["early plateau"].numbers["train_share"]
    assert "the loss rose by 6.1% ± " in found["early plateau"].sentence
    assert "(validation) and fell by " in found["early plateau"].sentence
    assert found["unfinished"].sentence.startswith("In the last third of the steps the validation loss rose by 8.2% ± ")
    assert "rose" not in "".join(by_name(planted("steep"))[name].sentence for name in ("stuck", "unfinished"))
    up = replace(run, validation=curve(run.validation.steps, 1 + run.validation.steps / STEPS))
    for sign in [*found.values(), *by_name(up).values()]:
        assert not any(f"{verb} -" in sign.sentence for verb in ("fell by", "rose by", "brought")), sign
