"""A gain that token frequencies explain is refused; shuffled labels and a rate far off are said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorarank import runs
from lorarank.estimate import Recommendation, recommend
from lorarank.json_files import SCHEMA, write_json

Make = Callable[..., Path]


def answer(
    run: Path, *, frequencies: Any = (2.0, 0.02), prompts: Any = (1.0, 0.02), losses: Any = ()
) -> Recommendation:
    rates = tuple(runs.LearningRateTrial(rate, 8, loss) for rate, loss in zip((1e-4, 1e-3, 1e-2), losses, strict=False))
    other = None if prompts is None else runs.Loss(*prompts)
    write_json(run / runs.CONTROLS, runs.Controls(SCHEMA, rates, runs.Loss(*frequencies), other))
    return recommend(run)


def test_a_good_run_is_not_doubted(make_run: Make) -> None:
    found = answer(make_run(), losses=(2.2, 2.0, 2.4))
    assert (found.r, found.doubts, found.confidence) == (2, (), "high")
    assert found.evidence is not None
    assert found.evidence.controls is not None
    assert found.evidence.controls.over_frequencies == runs.Loss(2.0, 0.02)
    assert answer(make_run(name="text"), prompts=None).confidence == "high"


@pytest.mark.parametrize("frequencies", [(-0.1, 0.01), (0.04, 0.001), (0.3, 0.2)])
def test_nothing_learned_but_frequencies_is_refused(make_run: Make, frequencies: tuple[float, float]) -> None:
    found = answer(make_run(), frequencies=frequencies)
    assert found.r is None
    (sentence,) = found.refusals
    assert f"than their frequencies in training do ({frequencies[0]:.3f} ± {frequencies[1]:.3f} nats)" in sentence


@pytest.mark.parametrize("prompts", [(-0.4, 0.01), (0.001, 0.01)])
def test_labels_that_do_not_follow_from_prompts_are_said(make_run: Make, prompts: tuple[float, float]) -> None:
    found = answer(make_run(), prompts=prompts)
    assert (found.r, found.confidence) == (2, "medium")
    (sentence,) = found.doubts
    assert f"(loss {prompts[0]:+.3f} ± {prompts[1]:.3f} nats)" in sentence
    assert "shuffled labels" in sentence


@pytest.mark.parametrize(
    ("losses", "words"),
    [((1.9, 2.0, 2.4), "a tenth of it does better"), ((2.2, 2.3, 2.1), "ten times it does better")],
)
def test_a_rate_far_off_is_low_confidence(make_run: Make, losses: tuple[float, ...], words: str) -> None:
    found = answer(make_run(), losses=losses)
    assert (found.r, found.confidence) == (2, "low")
    (sentence,) = found.doubts
    assert words in sentence
