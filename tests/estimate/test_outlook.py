"""How a longer run would answer: by whether the companion still falls behind as training ends."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from lorarank import json_files, runs
from lorarank.estimate import reasons, recommend
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
    ("end", "words"), [(0.13, "would ask for more ("), (0.03, "no more (as in"), (0.07, "does not show")]
)
def test_it_is_said_in_the_answer(make_run: Make, end: float, words: str) -> None:
    run = make_run(r=32, companion=(0.05, 0.003))
    parts = companion((0.2, 0.01), (0.1, 0.01), (0.07, 0.005), (end, 0.005))
    json_files.write_json(run / runs.COMPANION, dataclasses.replace(parts, loss=runs.Loss(1.55, 0.04)))
    answer = recommend(run)
    assert answer.outlook is not None
    (said,) = [reason for reason in answer.reasons if "longer run would ask" in reason]
    assert words in said
    assert f"{end:.3f} in the last" in said
    assert recommend(make_run(name="alone")).outlook is None


def test_a_low_rank_that_is_ahead_is_not_said_to_fall_behind() -> None:
    (said,) = reasons.about_outlook(outlook(companion((-0.044, 0.005), (-0.016, 0.005))))
    assert said.startswith("The low rank is not behind the probe as training ends (by -0.044 nats in the third quarter")
    assert said.endswith("whether a longer run would ask for more does not show.")


def test_no_run_that_a_longer_one_followed_ended_with_the_low_rank_ahead() -> None:
    results = json.loads((EVIDENCE / "invariance.json").read_text(encoding="utf-8"))["results"]
    lengths = ("tokens x0.5", "plain", "tokens x2")
    ends = [one["behind"][-1][0] for name, one in results.items() if "behind" in one and name.endswith(lengths)]
    assert len(ends) >= 12
    assert min(ends) > 0


def test_what_it_says_of_such_runs_is_what_was_measured() -> None:
    """Each run beside the one of twice the tokens."""
    measured = json.loads((EVIDENCE / "invariance.json").read_text(encoding="utf-8"))["summary"]["outlooks"]
    up = [one for one in measured if one["says"] == "up"]
    down = [one for one in measured if one["says"] == "down"]
    times = [one["r"][1] / one["r"][0] for one in up]
    assert all(one["lost"][1] > one["lost"][0] for one in up)
    (rose,) = reasons.about_outlook(outlook(companion((0.1, 0.0), (0.2, 0.0))))
    assert f"in {sum(time >= 2 for time in times)} of {len(up)} such runs" in rose
    assert (min(time for time in times if time > 1), max(times), min(times)) == (2, 2, 1)
    assert "twice the tokens asked for twice the rank, in the fifth for the same" in rose
    (fell,) = reasons.about_outlook(outlook(companion((0.2, 0.0), (0.1, 0.0))))
    assert f"in {sum(one['r'][1] <= one['r'][0] for one in down)} of {len(down)} such runs" in fell
