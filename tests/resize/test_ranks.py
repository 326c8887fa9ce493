"""Which rank every module gets: budgets are kept, and more is never less."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorarank.errors import OptionError
from lorarank.resize import ResizeOptions
from lorarank.resize.ranks import Group, choose

values = st.lists(st.floats(0, 10, allow_subnormal=False), min_size=1, max_size=8)
groups = st.lists(
    st.builds(
        lambda spectra, cost, pinned: Group(
            tuple(np.sort(np.array(s))[::-1] for s in spectra), max(map(len, spectra)), cost, pinned
        ),
        st.lists(values, min_size=1, max_size=3),
        st.integers(1, 100),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
).filter(lambda found: any(v.any() for group in found for v in group.spectra))


def never(share: float) -> int:
    raise AssertionError(share)


def ranks(found: list[Group], **how: Any) -> tuple[int, ...]:
    return choose(found, ResizeOptions(**how), never)


def cost(found: list[Group], chosen: tuple[int, ...]) -> int:
    return sum(group.cost * rank for group, rank in zip(found, chosen, strict=True))


@given(groups, st.integers(1, 3000), st.integers(0, 500), st.booleans())
def test_a_budget_is_kept_and_more_of_it_takes_nothing_away(
    found: list[Group], budget: int, more: int, per_module: bool
) -> None:
    try:
        small = ranks(found, params=budget, per_module=per_module)
    except OptionError:
        return
    large = ranks(found, params=budget + more, per_module=per_module)
    assert cost(found, small) <= budget
    assert all(one <= two for one, two in zip(small, large, strict=True))
    assert all(rank <= group.r for group, rank in zip(found, large, strict=True))


@given(groups, st.floats(0.01, 1), st.floats(0.01, 1), st.booleans())
def test_more_energy_takes_no_rank_away_and_is_kept(
    found: list[Group], first: float, second: float, per_module: bool
) -> None:
    low, high = sorted((first, second))
    small, large = (ranks(found, energy=share, per_module=per_module) for share in (low, high))
    assert all(one <= two for one, two in zip(small, large, strict=True))
    total = sum(float(np.sum(group.pooled**2)) for group in found)
    kept = sum(float(np.sum(group.pooled[:rank] ** 2)) for group, rank in zip(found, large, strict=True))
    assert kept >= high * total * (1 - 1e-12)


@given(groups, st.floats(0, 0.99), st.floats(0, 0.99), st.floats(1e-3, 1e3))
def test_a_threshold_is_relative_and_monotone(found: list[Group], first: float, second: float, size: float) -> None:
    low, high = sorted((first, second))
    small, large = ranks(found, threshold_global=high), ranks(found, threshold_global=low)
    assert all(one <= two for one, two in zip(small, large, strict=True))
    scaled = [Group(tuple(v * 2.0**7 for v in g.spectra), g.r, g.cost, g.pinned) for g in found]
    assert ranks(scaled, threshold_global=high) == small


@given(groups, st.integers(1, 10))
def test_one_rank_for_all_is_what_each_can_have(found: list[Group], k: int) -> None:
    if k <= max(group.r for group in found):
        assert ranks(found, rank=k) == tuple(min(k, group.r) for group in found)
    assert ranks(found, rank=k, pad=True) == (k,) * len(found)


def test_what_cannot_work_is_refused() -> None:
    one = Group((np.array([2.0, 1.0]),), 2, 10, False)
    pinned = Group((np.array([0.0, 0.0]),), 2, 10, True)
    for how, words in (
        ({"rank": 3}, "above the r = 2"),
        ({"params": 9}, "a rank of 1 everywhere takes 10"),
        ({"params": 9, "per_module": True}, "would leave nothing"),
    ):
        with pytest.raises(OptionError, match=words):
            ranks([one], **how)
    with pytest.raises(OptionError, match="have to stay take 10"):
        ranks([one, pinned], params=9, per_module=True)
    with pytest.raises(OptionError, match="zero everywhere"):
        ranks([Group((np.zeros(2),), 2, 10, False)], energy=0.9)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({}, "none is given"),
        ({"rank": 4, "energy": 0.9}, "given together"),
        ({"rank": 0}, "at least 1"),
        ({"energy": 90.0}, "a share"),
        ({"energy": float("nan")}, "a share"),
        ({"params": -3}, "at least 1"),
        ({"threshold_global": 1.0}, "below 1"),
        ({"keep_loss": 0.0}, "between 0 and 1"),
        ({"rank": 4, "metric": "l2"}, "no such metric"),
        ({"rank": 4, "per_module": True}, "every module the same"),
        ({"keep_loss": 0.01, "per_module": True}, "uniform cuts only"),
        ({"threshold_global": 0.1, "per_module": False}, "each its own rank"),
        ({"energy": 0.9, "pad": True}, "never asks for more"),
        ({"rank": 4, "to": "gguf"}, "none that is written"),
        ({"rank": 4, "dtype": "int8"}, "none that is written"),
    ],
)
def test_options_that_contradict_each_other(how: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        ResizeOptions(**how)
