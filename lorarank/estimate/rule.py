"""The rule: how many directions the energy takes, in a module, in the median module, and in all together (floor 2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lorarank.estimate.constants import LOWER_STEP, QUANTILE, UPPER_FRACTION
from lorarank.numerics import criteria
from lorarank.numerics.allocation import weighted_quantile
from lorarank.numerics.ladder import round_up

Spectra = Sequence[NDArray[np.float64]]
"""Singular values of every module, descending, float64."""


def energies(spectra: Spectra) -> NDArray[np.float64]:
    """(modules,) share of each module in the energy of all; zeros where there is none at all.

    >>> energies([np.array([2.0]), np.array([1.0, 1.0])]).round(3).tolist()
    [0.667, 0.333]
    """
    peak = max((float(values[0]) for values in spectra if values.size), default=0.0)
    if peak == 0:
        return np.zeros(len(spectra))
    # relative to the largest value, so that no square overflows
    energy = np.array([float(np.square(values / peak).sum()) for values in spectra])
    return energy / float(energy.sum())


def module_ranks(spectra: Spectra, share: float) -> tuple[int, ...]:
    """The energy rank of every module: the fewest σ that hold ``share`` of its Σσ²; 0 for a zero update.

    >>> module_ranks([np.array([3.0, 1.0]), np.array([1.0, 1.0]), np.zeros(2)], 0.9)
    (1, 2, 0)
    """
    return tuple(criteria.energy(values, share) for values in spectra)


def median_rank(spectra: Spectra, share: float) -> float:
    """The energy-weighted median of the modules' energy ranks, before it is rounded up to the ladder.

    >>> median_rank([np.array([3.0, 1.0]), np.array([1.0, 1.0])], 0.9)
    1.0
    """
    return median_of(module_ranks(spectra, share), energies(spectra))


def median_of(ranks: ArrayLike, weights: NDArray[np.float64]) -> float:
    """The weighted median of some modules' ranks; 0 where none of them has any weight.

    >>> median_of([1, 2, 9], np.array([0.2, 0.5, 0.3]))
    2.0
    """
    return weighted_quantile(ranks, weights, QUANTILE) if weights.any() else 0.0


def answer(spectra: Spectra, share: float) -> int:
    """The rule's answer: :func:`median_rank`, rounded up to the ladder.

    >>> answer([np.ones(5), np.ones(6)], 1.0)
    8
    """
    return round_up(median_rank(spectra, share))


def mean_rank(spectra: Spectra, share: float) -> float:
    """The energy-weighted mean of the modules' energy ranks: moves smoothly where the median jumps.

    >>> round(mean_rank([np.array([3.0, 1.0]), np.array([1.0, 1.0])], 0.9), 3)
    1.167
    """
    return float(np.dot(energies(spectra), module_ranks(spectra, share)))


def _pooled_energy(spectra: Spectra) -> NDArray[np.float64]:
    """(largest r,) energy of every module's i-th direction, summed over modules, relative to the largest σ²."""
    peak = max((float(values[0]) for values in spectra if values.size), default=0.0)
    total = np.zeros(max((values.size for values in spectra), default=0))
    if peak > 0:
        for values in spectra:
            total[: values.size] += np.square(values / peak)
    return total


def pooled_rank(spectra: Spectra, share: float) -> int:
    """The smallest r that, the same in every module, keeps ``share`` of the energy of all modules together.

    >>> pooled_rank([np.array([3.0, 1.0]), np.array([1.0, 1.0])], 0.9)
    2
    """
    return criteria.energy(np.sqrt(_pooled_energy(spectra)), share)


def share_kept(spectra: Spectra, r: int) -> float:
    """Share of the energy of all modules that the first ``r`` directions of each hold.

    >>> round(share_kept([np.array([3.0, 1.0]), np.array([1.0, 1.0])], 1), 3)
    0.833
    """
    total = _pooled_energy(spectra)
    return float(total[:r].sum() / total.sum()) if total.any() else 0.0


def bracket(share: float) -> tuple[float, float]:
    """The shares at which the interval is read, below and above ``share``.

    >>> [round(value, 3) for value in bracket(0.90)]
    [0.85, 0.95]
    """
    return max(share - LOWER_STEP, share / 2), share + UPPER_FRACTION * (1 - share)
