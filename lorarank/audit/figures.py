"""Every number that is read off a spectrum, of a module or of a group of them (floor 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lorarank.numerics import criteria, measures
from lorarank.numerics.pooling import median_of


@dataclass(frozen=True)
class Figures:
    """Size and ranks of an update.

    Of a group of modules: ``norm`` and ``singular_values`` are those of all of them together (σ_i is the root of the
    modules' summed σ_i²), ``sigma_1`` is the largest, and every rank is the energy-weighted median of the modules'.

    Attributes
    ----------
    norm : ‖ΔW‖, Frobenius, scaling included.
    sigma_1 : the largest singular value.
    energy_ranks : fewest σ that hold each of the shares asked for, in their order.
    effective_rank, energy_entropy_rank, stable_rank, participation_ratio : see :mod:`lorarank.numerics.measures`.
    numerical_rank, gavish_donoho, marchenko_pastur : see :mod:`lorarank.numerics.criteria`; the noise level of the
        last two is that of the spectrum's median.
    singular_values : descending.
    """

    norm: float
    sigma_1: float
    energy_ranks: tuple[float, ...]
    effective_rank: float
    energy_entropy_rank: float
    stable_rank: float
    participation_ratio: float
    numerical_rank: float
    gavish_donoho: float
    marchenko_pastur: float
    singular_values: tuple[float, ...]


RANKS = (
    "effective_rank",
    "energy_entropy_rank",
    "stable_rank",
    "participation_ratio",
    "numerical_rank",
    "gavish_donoho",
    "marchenko_pastur",
)
"""Fields of :class:`Figures` that are ranks, beside ``energy_ranks``."""


def figures_of(sv: NDArray[np.float64], shape: tuple[int, int], shares: Sequence[float]) -> Figures:
    """The figures of one module.

    Parameters
    ----------
    sv : (n,) singular values, descending, scaling included.
    shape : (out, in) of ΔW.
    shares : of energy, each in (0, 1].

    >>> found = figures_of(np.array([3.0, 1.0]), (8, 6), (0.9, 0.99))
    >>> found.energy_ranks, found.numerical_rank, round(found.stable_rank, 3)
    ((1, 2), 2, 1.111)
    """
    return Figures(
        norm=norm_of(sv),
        sigma_1=float(sv[0]) if sv.size else 0.0,
        energy_ranks=tuple(criteria.energy(sv, share) for share in shares),
        effective_rank=measures.effective_rank(sv),
        energy_entropy_rank=measures.energy_entropy_rank(sv),
        stable_rank=measures.stable_rank(sv),
        participation_ratio=measures.participation_ratio(sv),
        numerical_rank=criteria.numerical(sv, shape),
        gavish_donoho=criteria.gavish_donoho(sv, shape),
        marchenko_pastur=criteria.marchenko_pastur(sv, shape),
        singular_values=tuple(sv.tolist()),
    )


def norm_of(sv: NDArray[np.float64]) -> float:
    """Root of Σσ²; the squares are taken relative to σ₁, so that none overflows.

    >>> f"{norm_of(np.array([4e200, 3e200])):.6g}"
    '5e+200'
    """
    peak = float(sv.max(initial=0.0))
    return peak * float(np.linalg.norm(sv / peak)) if peak > 0 else 0.0


def together(parts: Sequence[Figures]) -> Figures:
    """The figures of a group, at least one module.

    >>> one = figures_of(np.array([3.0]), (4, 4), (0.9,))
    >>> two = figures_of(np.array([4.0, 4.0]), (4, 4), (0.9,))
    >>> both = together([one, two])
    >>> both.singular_values, both.energy_ranks, both.sigma_1
    ((5.0, 4.0), (2.0,), 4.0)
    """
    norms = np.array([part.norm for part in parts])
    peak = float(norms.max())
    weights = np.square(norms / peak) if peak > 0 else np.zeros(len(parts))
    pooled = np.zeros(max(len(part.singular_values) for part in parts))
    if peak > 0:
        for part in parts:
            pooled[: len(part.singular_values)] += np.square(np.array(part.singular_values) / peak)
    return Figures(
        norm=norm_of(norms),
        sigma_1=max(part.sigma_1 for part in parts),
        energy_ranks=tuple(median_of(ranks, weights) for ranks in zip(*(p.energy_ranks for p in parts), strict=True)),
        singular_values=tuple((peak * np.sqrt(pooled)).tolist()),
        **{name: median_of([getattr(part, name) for part in parts], weights) for name in RANKS},
    )
