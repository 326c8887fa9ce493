"""How a longer run would answer: by whether the companion still falls behind as training ends."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorarank import json_files, runs
from lorarank.estimate import constants, reasons, recommend
from lorarank.estimate.readings import outlook

Make = Callable[..., Path]
EVIDENCE = Path(__file__).resolve().parents[2] / "data" / "evidence"


def companion(*parts: tuple[float, float]) -> runs.Companion:
    """With these distances in training, the last ones last."""
    training = tuple(runs.Loss(*part) for part in parts)
    return runs.Companion(json_files.SCHEMA, 1, runs.Loss(1.6, 0.04), runs.Loss(0.05, 0.003), training)


@pytest.mark.parametrize(
    ("before", "end", "moves"),
    [
        ((0.07, 0.005), (0.13, 0.005), "up"),
        ((0.26, 0.006), (0.21, 0.005), "down"),
        ((0.10, 0.010), (0.11, 0.010), "stays"),
        ((0.10, 0.003), (0.11, 0.004), "up"),  # two standard errors
        ((0.10, 0.0), (0.10, 0.0), "stays"),
        ((-0.044, 0.005), (-0.016, 0.005), "stays"),  # ahead of the probe, if by less
        ((0.05, 0.005), (-0.02, 0.005), "stays"),
        ((-0.02, 0.005), (0.03, 0.005), "up"),
    ],
)
def test_the_last_two_quarters_decide(before: tuple[float, float], end: tuple[float, float], moves: str) -> None:
    found = outlook(companion((9.0, 1.0), before, end))
    assert found is not None
    assert (found.before, found.end, found.moves) == (before[0], end[0], moves)


def test_it_is_unknown_without_quarters() -> None:
    assert outlook(None) is None
    assert outlook(companion()) is None
    assert outlook(companion((0.1, 0.01))) is None
    assert outlook(companion((0.1, 0.01), (math.nan, 0.01))) is None


@pytest.mark.parametrize(
    ("end", "words"), [(0.13, "falls behind further"), (0.03, "will hardly ask for more"), (0.07, "keeps its distance")]
)
def test_it_is_said_in_the_answer(make_run: Make, end: float, words: str) -> None:
    run = make_run(r=32, companion=(0.05, 0.003))
    parts = companion((0.2, 0.01), (0.1, 0.01), (0.07, 0.005), (end, 0.005))
    json_files.write_json(run / runs.COMPANION, dataclasses.replace(parts, loss=runs.Loss(1.55, 0.04)))
    answer = recommend(run)
    assert answer.outlook is not None
    (said,) = [reason for reason in answer.reasons if "a longer run" in reason]
    assert words in said
    assert f"{end:.3f} in the last" in said
    assert recommend(make_run(name="alone")).outlook is None


def test_a_low_rank_that_is_ahead_is_not_said_to_fall_behind() -> None:
    (said,) = reasons.about_outlook(outlook(companion((-0.044, 0.005), (-0.016, 0.005))))
    assert said.startswith("The low rank is not behind as training ends (-0.044 nats behind in the third quarter")
    assert "a longer run may ask for more" in said


def longer_runs() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((EVIDENCE / "longer-runs.json").read_text(encoding="utf-8"))["summary"]
    return found


@pytest.mark.parametrize(("moves", "end"), [("up", 0.2), ("stays", 0.1), ("down", 0.01)])
def test_what_it_says_of_such_runs_is_what_was_measured(moves: str, end: float) -> None:
    """Each run beside the one of twice the tokens, counted here from the answers themselves."""
    such = [one for one in longer_runs()["outlooks"] if one["says"] == moves]
    more = sum(one["r"][1] > one["r"][0] for one in such)
    assert constants.ASKED_FOR_MORE[moves] == (more, len(such))
    (said,) = reasons.about_outlook(outlook(companion((0.1, 0.0), (end, 0.0))))
    assert f"With twice the tokens {more} of {len(such)} measured runs like this did" in said


def test_catching_up_is_what_is_told_apart() -> None:
    """Falling behind further is not: it asks for more hardly more often than keeping the distance does."""
    share = {moves: one["more"] / one["answers"] for moves, one in longer_runs()["moves"].items()}
    assert share["down"] < 0.1 < 0.3 <= share["stays"] <= share["up"] < 0.33


def test_how_far_answers_hold_is_what_was_measured() -> None:
    measured = {int(times): one for times, one in longer_runs()["times"].items()}
    assert {times: (one["within_a_doubling"], one["answers"]) for times, one in measured.items()} == constants.AT_TIMES
    (said,) = reasons.about_length(10**6, None, 4, None)
    assert all(f"{times} times as many {some} of {runs}" in said for times, (some, runs) in constants.AT_TIMES.items())
