"""Every number that is read off a spectrum, of a module or of a group of them (floor 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorarank.numerics import criteria, measures
from lorarank.numerics.pooling import medians_of


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


def figures_of(sv: NDArray[np.float64], shapes: Sequence[tuple[int, int]], shares: Sequence[float]) -> list[Figures]:
    """The figures of modules that have equally many singular values, in their order.

    Parameters
    ----------
    sv : (m, n) singular values, descending, scaling included; a row a module.
    shapes : (out, in) of ΔW, of each.
    shares : of energy, each in (0, 1].

    >>> (found,) = figures_of(np.array([[3.0, 1.0]]), [(8, 6)], (0.9, 0.99))
    >>> found.energy_ranks, found.numerical_rank, round(found.stable_rank, 3)
    ((1, 2), 2, 1.111)
    """
    columns = {
        "norm": norms_of(sv),
        "sigma_1": sv.max(axis=1, initial=0.0),
        "energy_ranks": np.stack([criteria.energies(sv, share) for share in shares], axis=1),
        "effective_rank": measures.effective_ranks(sv),
        "energy_entropy_rank": measures.energy_entropy_ranks(sv),
        "stable_rank": measures.stable_ranks(sv),
        "participation_ratio": measures.participation_ratios(sv),
        "numerical_rank": criteria.numericals(sv, shapes),
        "gavish_donoho": criteria.gavish_donohos(sv, shapes),
        "marchenko_pastur": criteria.marchenko_pasturs(sv, shapes),
        "singular_values": sv,
    }
    rows = zip(*(map(_fixed, column.tolist()) for column in columns.values()), strict=True)
    return [Figures(**dict(zip(columns, row, strict=True))) for row in rows]


def _fixed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def norms_of(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Root of the sum of squares of every row of (m, n); the squares are taken relative to a row's largest.

    >>> norms_of(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([5., 0.])
    """
    peaks = values.max(axis=1, initial=0.0, keepdims=True)
    relative = np.divide(values, peaks, where=peaks > 0, out=np.zeros_like(values))
    squares = np.matmul(relative[:, np.newaxis], relative[..., np.newaxis])
    with np.errstate(over="ignore"):
        return np.asarray((peaks * np.sqrt(squares[..., 0]))[:, 0])


def norm_of(sv: NDArray[np.float64]) -> float:
    """Root of Σσ²; the squares are taken relative to σ₁, so that none overflows.

    >>> f"{norm_of(np.array([4e200, 3e200])):.6g}"
    '5e+200'
    """
    return float(norms_of(sv[np.newaxis])[0])


def together(parts: Sequence[Figures]) -> Figures:
    """The figures of a group, at least one module.

    >>> one = figures_of(np.array([[3.0]]), [(4, 4)], (0.9,))
    >>> two = figures_of(np.array([[4.0, 4.0]]), [(4, 4)], (0.9,))
    >>> both = together(one + two)
    >>> both.singular_values, both.energy_ranks, both.sigma_1
    ((5.0, 4.0), (2.0,), 4.0)
    """
    norms = np.array([part.norm for part in parts])
    peak = float(norms.max()) or 1.0
    pooled = np.square(spectra_of(parts) / peak).sum(axis=0)
    ranks = np.array([(*part.energy_ranks, *(getattr(part, name) for name in RANKS)) for part in parts])
    medians = medians_of(ranks.T, np.square(norms / peak)).tolist()
    return Figures(
        norm=norm_of(norms),
        sigma_1=max(part.sigma_1 for part in parts),
        energy_ranks=tuple(medians[: -len(RANKS)]),
        singular_values=tuple((peak * np.sqrt(pooled)).tolist()),
        **dict(zip(RANKS, medians[-len(RANKS) :], strict=True)),
    )


def spectra_of(parts: Sequence[Figures]) -> NDArray[np.float64]:
    """(m, n) singular values of some modules, zeros behind those of shorter spectra.

    >>> spectra_of(figures_of(np.array([[3.0]]), [(4, 4)], (0.9,)))
    array([[3.]])
    """
    longest = max((len(part.singular_values) for part in parts), default=0)
    return np.array([part.singular_values + (0.0,) * (longest - len(part.singular_values)) for part in parts])
