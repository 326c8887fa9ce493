"""The order of the rows, the search for a rate, and the shape of the batch: plain arithmetic."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import create_autospec

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel

import lorarank
from lorarank.corpus import Rows
from lorarank.errors import OptionError
from lorarank.probe.grid import FACTOR, FIRST_RATE, SETTLED, bracket
from lorarank.probe.options import SEARCH_SHARE, SHORT_SEARCH_SHARE, ProbeOptions, batch_tokens_for
from lorarank.probe.rate import CHECK_STEPS, TRIALS, search, trial_steps
from lorarank.probe.training import TrainingRun, schedule_for


def rows_of(lengths: list[int], width: int) -> Rows:
    document = np.full((len(lengths), width), -1, np.int32)
    for at, length in enumerate(lengths):
        document[at, :length] = at
    return Rows(np.zeros_like(document), document >= 0, np.zeros_like(document), document)


@given(
    lengths=st.lists(st.integers(1, 16), min_size=1, max_size=40),
    rows_per_step=st.integers(1, 6),
    tokens=st.integers(1, 2000),
)
def test_a_schedule_reaches_its_tokens_in_the_fewest_steps_and_uses_all_rows_evenly(
    lengths: list[int], rows_per_step: int, tokens: int
) -> None:
    rows = rows_of(lengths, 16)
    schedule = schedule_for(rows, rows_per_step=rows_per_step, tokens=tokens, seed=0)
    assert len(schedule.order) == schedule.steps * rows_per_step
    assert schedule.tokens(rows) >= tokens
    if schedule.steps > 1:
        assert schedule.first(schedule.steps - 1).tokens(rows) < tokens
    seen = np.bincount(schedule.order, minlength=len(lengths))
    assert seen.max() - seen.min() <= 1
    again = schedule_for(rows, rows_per_step=rows_per_step, tokens=tokens, seed=0)
    assert np.array_equal(schedule.order, again.order)


@pytest.mark.parametrize(
    ("steps", "share"),
    [(1, 0), (20, 0), (59, 0), (60, SHORT_SEARCH_SHARE), (99, SHORT_SEARCH_SHARE)]
    + [(steps, SEARCH_SHARE) for steps in (100, 128, 500, 5000)],
)
def test_the_search_spends_at_most_a_fifth_and_a_third_of_a_short_probe(steps: int, share: float) -> None:
    forward = 1 / 3  # of the price of a training step
    trial = trial_steps(steps)
    assert (trial > 0) == (share > 0)
    assert TRIALS * (trial + (CHECK_STEPS * forward if trial else 0)) <= share * steps


def test_a_probe_too_short_for_a_search_trains_half_a_notch_below_where_one_begins(tmp_path: Path) -> None:
    rows = rows_of([16] * 8, 16)
    schedule = schedule_for(rows, rows_per_step=1, tokens=59 * 16, seed=0)
    run, model = TrainingRun(rows, schedule, FIRST_RATE, 1, torch.float32), create_autospec(PeftModel)
    options = ProbeOptions("model", "data", tmp_path)
    rate, (trial,) = search(model, run, options, tmp_path, lambda done, one: pytest.fail(f"{done} {one}"))
    assert rate == trial.learning_rate == pytest.approx(FIRST_RATE / FACTOR**0.5, rel=1e-3)
    assert (trial.steps, model.mock_calls) == (0, [])


@given(best=st.integers(-3, 3))
def test_the_bracket_finds_the_lowest_within_its_reach(best: int) -> None:
    asked = []

    def judge(notch: int) -> float:
        asked.append(notch)
        return abs(notch - best)

    assert bracket(judge, TRIALS) == max(-2, min(2, best))
    assert len(asked) == len(set(asked)) <= TRIALS


def test_a_diverging_neighbour_is_not_chosen() -> None:
    assert bracket(lambda notch: float("inf") if notch > 0 else -notch, TRIALS) == 0


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"tokens": 10, "minutes": 1.0}, "--tokens and --minutes"),
        ({"rank": 0}, "--rank 0"),
        ({"tokens": 0}, "--tokens 0"),
        ({"minutes": -1.0}, "--minutes"),
        ({"minutes": float("nan")}, "--minutes"),
        ({"lr": 0.0}, "--lr"),
        ({"lr": 3.0}, "--lr"),
        ({"replicates": 0}, "--replicates"),
        ({"batch_tokens": 1}, "--batch-tokens"),
    ],
)
def test_options_that_cannot_work_are_refused(given: dict[str, float], part: str) -> None:
    with pytest.raises(OptionError, match=part):
        ProbeOptions("m", "d", "o", **given)  # type: ignore[arg-type]


def test_the_batch_grows_with_the_budget_once_there_are_enough_steps() -> None:
    sizes = [batch_tokens_for(budget) for budget in (1, 60_000, 100_000, 131_072, 10**6, 10**8)]
    assert sizes == [512, 512, 1024, 1024, 8192, 16384]


def test_the_rate_settles_where_it_was_measured_to_lose_least() -> None:
    found = json.loads((Path(__file__).parents[2] / "data" / "evidence" / "settled-rate.json").read_text())
    lost = dict(zip(found["below"], found["mean_lost"], strict=True))
    worst = dict(zip(found["below"], found["worst_lost"], strict=True))
    assert min(lost, key=lambda below: lost[below]) == SETTLED
    source = (Path(lorarank.__file__).parent / "probe" / "grid.py").read_text(encoding="utf-8")
    said = " ".join(source.split())
    for below, words in (
        (0.0, "own rate lost {:.1f} % of the gain ({:.1f} % at worst)"),
        (0.5, "below it {:.1f} % ({:.1f} %)"),
    ):
        assert words.format(100 * lost[below], 100 * worst[below]) in said
