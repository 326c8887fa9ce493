"""How often signs are seen where they are not, and missed where they are, over seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache

import pytest

from lorarank.diagnose.result import TOO_HIGH, TOO_LOW
from lorarank.diagnose.stage import signs_of
from lorarank.diagnose.training import Training
from lorarank.diagnose.verdict import verdict_of

SEEDS = 150
EVALUATIONS = (6, 10, 20, 50)
Rates = Callable[[str, int, float], tuple[Counter[str], Counter[str]]]


@pytest.fixture(scope="module")
def rates(planted: Callable[..., Training]) -> Rates:
    """Number of seeds that show each sign, and that get each verdict."""

    @cache
    def count(kind: str, evaluations: int, correlation: float) -> tuple[Counter[str], Counter[str]]:
        signs: Counter[str] = Counter()
        verdicts: Counter[str] = Counter()
        for seed in range(SEEDS):
            found = signs_of(planted(kind, seed, evaluations=evaluations, correlation=correlation))
            signs.update(sign.name for sign in found if sign.seen)
            verdicts[verdict_of(found, None).verdict] += 1
        return signs, verdicts

    return count


@pytest.mark.parametrize("correlation", [0.0, 0.5])
@pytest.mark.parametrize("evaluations", EVALUATIONS)
def test_a_healthy_run_is_blamed_in_no_more_than_one_of_fifty(
    rates: Rates, evaluations: int, correlation: float
) -> None:
    for kind in ("healthy", "exponential"):
        _, verdicts = rates(kind, evaluations, correlation)
        assert verdicts[TOO_HIGH] + verdicts[TOO_LOW] <= SEEDS / 50


@pytest.mark.parametrize("correlation", [0.0, 0.5])
@pytest.mark.parametrize("evaluations", EVALUATIONS)
@pytest.mark.parametrize("kind", ["healthy", "exponential", "flat", "unlearned"])
def test_overfitting_is_seen_without_it_in_no_more_than_one_of_forty(
    rates: Rates, kind: str, evaluations: int, correlation: float
) -> None:
    assert rates(kind, evaluations, correlation)[0]["overfitting"] <= SEEDS / 40


@pytest.mark.parametrize("evaluations", EVALUATIONS)
@pytest.mark.parametrize("kind", ["healthy", "exponential", "unlearned", "overfitting"])
def test_a_plateau_is_seen_without_it_in_no_more_than_one_of_fifty(rates: Rates, kind: str, evaluations: int) -> None:
    assert rates(kind, evaluations, 0.0)[0]["early plateau"] <= SEEDS / 50


@pytest.mark.parametrize("evaluations", EVALUATIONS)
def test_what_is_there_is_seen_nine_times_of_ten(rates: Rates, evaluations: int) -> None:
    assert rates("overfitting", evaluations, 0.0)[1][TOO_HIGH] >= 0.9 * SEEDS
    assert rates("flat", evaluations, 0.0)[1][TOO_LOW] >= 0.9 * SEEDS
    assert rates("unlearned", evaluations, 0.0)[0]["stuck"] >= 0.9 * SEEDS
