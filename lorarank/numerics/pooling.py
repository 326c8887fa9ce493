"""Many spectra taken together: energy shares, medians by energy, what one rank for all keeps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lorarank.numerics import criteria
from lorarank.numerics.allocation import weighted_quantile, weighted_quantiles

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


def quantile_of(ranks: ArrayLike, weights: NDArray[np.float64], q: float) -> float:
    """The weighted quantile of some modules' ranks; 0 where none of them has any weight.

    >>> quantile_of([1, 2, 9], np.array([0.2, 0.5, 0.3]), 0.9)
    9.0
    """
    return weighted_quantile(ranks, weights, q) if weights.any() else 0.0


def median_of(ranks: ArrayLike, weights: NDArray[np.float64]) -> float:
    """The weighted median of some modules' ranks; 0 where none of them has any weight.

    >>> median_of([1, 2, 9], np.array([0.2, 0.5, 0.3]))
    2.0
    """
    return quantile_of(ranks, weights, 0.5)


def medians_of(ranks: ArrayLike, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """:func:`median_of` for every row of ``ranks`` (k, modules).

    >>> medians_of([[1, 2, 9], [3, 3, 4]], np.array([0.2, 0.5, 0.3]))
    array([2., 3.])
    """
    return weighted_quantiles(ranks, weights, 0.5) if weights.any() else np.zeros(len(np.asarray(ranks)))


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
