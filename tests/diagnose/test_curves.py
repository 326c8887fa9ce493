"""Noise and levels of curves whose noise is known."""

from __future__ import annotations

import numpy as np
import pytest

from lorarank.diagnose.curves import Curve, curve, level, lowest, nearest, noise
from lorarank.errors import CurveError


@pytest.mark.parametrize("sd", [0.0, 0.01, 1.0])
def test_noise_is_found_on_any_spacing_and_whatever_the_slope(sd: float) -> None:
    random = np.random.default_rng(0)
    steps = np.cumsum(random.integers(1, 9, size=4000))
    found = noise(curve(steps, 5 - 1e-4 * steps + sd * random.standard_normal(len(steps))))
    assert found == pytest.approx(sd, rel=0.05, abs=1e-9)


def test_noise_of_two_points_is_unknown() -> None:
    assert np.isnan(noise(curve([1, 2], [1.0, 2.0])))


def test_the_standard_error_of_a_level_is_its_spread_over_seeds() -> None:
    means = []
    for seed in range(400):
        found = curve(range(20), np.random.default_rng(seed).standard_normal(20))
        at = level(found, 10, 19, 1.0)
        assert at is not None
        means.append(at.mean)
    assert np.std(means) == pytest.approx(at.se, rel=0.1)


def test_the_lowest_level_and_the_nearest_one() -> None:
    found = curve([0, 10, 20, 30, 40], [4.0, 2.0, 1.0, 2.0, 5.0])
    assert lowest(found, 1, 0.1)[0] == 20
    assert nearest(found, 41, 2, 0.1).mean == 5
    assert nearest(found, 33, 1, 0.1).mean == 2
    assert level(found, 50, 60, 0.1) is None


def test_steps_come_sorted_and_the_last_of_equals_counts() -> None:
    found = curve([3, 1, 3], [1.0, 2.0, 0.5])
    assert (found.steps.tolist(), found.losses.tolist()) == ([1, 3], [2.0, 0.5])


@pytest.mark.parametrize(("steps", "losses"), [([1, 2], [1.0]), ([[1]], [[1.0]]), ([np.nan], [1.0])])
def test_what_is_no_curve_is_refused(steps: list[float], losses: list[float]) -> None:
    with pytest.raises(CurveError):
        curve(steps, losses)


def test_a_part_of_a_curve_has_its_ends() -> None:
    part: Curve = curve([1, 2, 3], [3.0, 2.0, 1.0]).within(2, 3)
    assert (part.steps.tolist(), part.losses.tolist()) == ([2, 3], [2.0, 1.0])
