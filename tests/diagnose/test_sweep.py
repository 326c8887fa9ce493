"""A rank beside others that were trained on the same data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lorarank.diagnose import DiagnoseOptions, diagnose
from lorarank.diagnose.beside import other_lengths, other_ranks
from lorarank.diagnose.result import CANNOT_TELL, FINE, TOO_HIGH, TOO_LOW
from lorarank.diagnose.stage import signs_of
from lorarank.diagnose.training import Training
from lorarank.diagnose.verdict import verdict_of
from lorarank.errors import RunError
from lorarank.sweep import read
from lorarank.sweep.outcome import Outcome, Trained, outcome

ROOT = Path(__file__).resolve().parents[2]


def swept(losses: dict[int, float], **how: float) -> Outcome:
    """A sweep whose documents differ by the same at every rank, so that only seeds make an error."""
    points = [Trained(rank, 1e-3, 0, tuple(loss + d for d in (0, 0.1, 0.2)), 1.0, 1.0) for rank, loss in losses.items()]
    return outcome((2.0, 2.1, 2.2), (1, 1, 1), points, 100, **how)


U = swept({1: 1.4, 2: 1.2, 4: 1.0, 8: 1.004, 16: 1.1, 32: 1.3})
"""Best at 4; 1 and 2 too small, 16 and 32 worse again."""


@pytest.mark.parametrize(
    ("rank", "speaks_for", "outcome"),
    [
        (1, "too low", "seen"),
        (2, "too low", "seen"),
        (3, "too low", "seen"),
        (4, "too high", "not seen"),
        (8, "too high", "not seen"),
        (16, "too high", "seen"),
        (24, "too high", "seen"),
        (64, "too high", "seen"),
    ],
)
def test_the_rank_is_judged_by_those_that_were_trained(rank: int, speaks_for: str, outcome: str) -> None:
    found = other_ranks(U, rank)
    assert (found.speaks_for, found.outcome) == (speaks_for, outcome)


def test_of_a_rank_below_all_that_were_trained_nothing_is_said_where_the_lowest_may_suffice() -> None:
    level = swept({4: 1.2, 16: 1.2})
    found = other_ranks(level, 2)
    assert (found.speaks_for, found.outcome) == ("too low", "cannot be tested")
    assert found.sentence == "The sweep starts at r = 4, so it says nothing of r = 2; r = 4 suffices."
    falling = other_ranks(swept({4: 1.5, 16: 1.2}), 2)  # where 4 is too low, 2 is so too
    assert (falling.speaks_for, falling.outcome) == ("too low", "seen")
    assert "it takes r = 16 at least" in falling.sentence
    ends = other_ranks(swept({4: 1.201, 16: 1.2}), 64)
    assert ends.sentence == "The sweep goes up to r = 16, so it says nothing of r = 64; r = 4 suffices."


def test_of_a_rank_above_all_that_were_trained_nothing_is_said(planted: Callable[..., Training]) -> None:
    rising = swept({1: 1.4, 2: 1.2})
    found = other_ranks(rising, 16)
    assert found.outcome == "cannot be tested"
    assert found.sentence == "The sweep goes up to r = 2, so it says nothing of r = 16; it takes at least r = 2."
    verdict = verdict_of((*signs_of(planted("flat")), found), 16)
    assert verdict.verdict != FINE
    assert "r = 2 " not in " ".join(verdict.next)


def test_a_rank_that_is_enough_at_least_is_not_said_to_do_as_well(planted: Callable[..., Training]) -> None:
    censored = swept({1: 1.4, 2: 1.001, 4: 1.0})
    assert (censored.censored, censored.r_sufficient) == (True, 2)
    found = verdict_of((*signs_of(planted("flat")), other_ranks(censored, 4)), 4)
    assert (found.verdict, found.next) == (FINE, ("Nothing: keep this rank.",))


def test_a_rank_between_those_that_were_trained_is_not_said_to_have_been() -> None:
    assert other_ranks(swept({1: 1.4, 4: 1.0, 16: 1.001}), 8).sentence == (
        "The sweep has not trained r = 8; r = 4 suffices, and up to r = 16 no higher rank is worse."
    )
    assert "up to r = 16 no higher" in other_ranks(swept({1: 1.4, 4: 1.0, 16: 1.001, 32: 1.3}), 8).sentence


def test_where_one_rank_alone_has_a_loss_nothing_is_compared() -> None:
    found = other_ranks(swept({2: math.nan, 4: 1.0}), 4)
    assert (found.outcome, found.sentence) == (
        "cannot be tested",
        "Only r = 4 of the sweep has a finite loss, so it is compared with none.",
    )


@pytest.mark.parametrize(("steps", "notes"), [(0, 0), (40, 0), (60, 0), (13, 1), (300, 1)])
def test_trainings_of_another_length_are_a_note(steps: int, notes: int) -> None:
    folder = next(iter(sorted((ROOT / "data" / "evidence" / "pairs").glob("*/sweep.json")))).parent
    found = replace(read(folder), steps=30)
    assert len(other_lengths(found, steps)) == notes


def test_without_a_rank_or_a_gain_the_sweep_says_nothing() -> None:
    assert other_ranks(U, None).outcome == "cannot be tested"
    assert other_ranks(swept({1: 2.5, 2: 2.6}), 1).outcome == "cannot be tested"


@pytest.mark.parametrize(("rank", "verdict"), [(None, "cannot tell"), (256, "fine")])
def test_a_real_sweep_and_the_curves_together(make_state: Callable[..., Path], rank: int | None, verdict: str) -> None:
    path = make_state("steep")
    folder = next(iter(sorted((ROOT / "data" / "evidence" / "pairs").glob("*/sweep.json")))).parent
    found = diagnose(path, DiagnoseOptions(sweep=folder, rank=rank))
    assert found.signs[-1].name == "other ranks"
    if rank is None:
        assert found.verdict == verdict


def test_a_folder_without_a_sweep_is_a_line(make_state: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no sweep\.json"):
        diagnose(make_state("healthy"), DiagnoseOptions(sweep=tmp_path))


@pytest.mark.parametrize(
    ("kind", "rank", "verdict", "confidence", "advice"),
    [
        ("flat", 4, FINE, "high", "Nothing: keep this rank."),
        ("flat", 8, FINE, "high", "r = 4 suffices in the sweep"),
        ("flat", 2, TOO_LOW, "high", "Train at r = 4."),
        ("overfitting", 8, TOO_HIGH, "medium", "Train at r = 4, which suffices in the sweep"),
        ("overfitting", 4, TOO_HIGH, "medium", "Keep the rank"),
        ("overfitting", 32, TOO_HIGH, "high", "Train at r = 4."),
        ("unlearned", 8, CANNOT_TELL, None, "Raise the learning rate"),
    ],
)
def test_trained_ranks_weigh_more_than_curves(
    planted: Callable[..., Training], kind: str, rank: int, verdict: str, confidence: str | None, advice: str
) -> None:
    """Nor is a sweep asked for where one is given."""
    found = verdict_of((*signs_of(planted(kind)), other_ranks(U, rank)), rank)
    assert (found.verdict, found.confidence) == (verdict, confidence)
    assert advice in " ".join(found.next)
    assert "lorarank sweep" not in " ".join(found.next)


def test_a_sweep_that_allowed_another_loss_says_so(planted: Callable[..., Training]) -> None:
    """At r = 2 a fifth of the gain is lost: that suffices where 30 % may be, and does not do as well."""
    found = swept({1: 1.4, 2: 1.2, 4: 1.0, 8: 1.004, 16: 1.1, 32: 1.3}, allowed=0.3)
    for rank in (2, 3, 8, 64):
        assert "r = 2 suffices where 30% of the gain may be lost" in other_ranks(found, rank).sentence
    assert "r = 2 at least where 30% of the gain may be lost" in other_ranks(found, 1).sentence
    lower = other_ranks(found, 2)
    assert "is worse than the best by 20.0% of the gain" in lower.sentence
    assert "as well" not in lower.sentence
    told = verdict_of((*signs_of(planted("flat")), other_ranks(found, 8)), 8)
    assert told.next == ("Nothing: keep this rank. r = 2 suffices in the sweep, with fewer parameters.",)
    assert "may be lost" not in "".join(other_ranks(U, rank).sentence for rank in (1, 2, 3, 4, 8, 16, 64))


def test_where_a_sweep_leaves_it_open_its_rank_is_tried_next(planted: Callable[..., Training]) -> None:
    open_ = replace(U, r_sufficient=8)
    found = verdict_of((*signs_of(planted("flat")), other_ranks(open_, 4)), 4)
    assert found.next[0].startswith("Train at r = 8: ")
