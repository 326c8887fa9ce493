"""The rule: how many directions the energy takes, in a module, in the median module, and in all together (floor 2)."""

from __future__ import annotations

import numpy as np

from lorarank.estimate.constants import LOWER_STEP, QUANTILE, UPPER_FRACTION
from lorarank.numerics import criteria
from lorarank.numerics.ladder import round_up
from lorarank.numerics.pooling import Spectra, energies, quantile_of


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
    return quantile_of(module_ranks(spectra, share), energies(spectra), QUANTILE)


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


def bracket(share: float) -> tuple[float, float]:
    """The shares at which the interval is read, below and above ``share``.

    >>> [round(value, 3) for value in bracket(0.90)]
    [0.85, 0.95]
    """
    return max(share - LOWER_STEP, share / 2), share + UPPER_FRACTION * (1 - share)
