"""Real-valued dimensions of a spectrum: how many directions it is spread over, by five conventions.

Every measure takes singular values σ ≥ 0 (n,), in any order, and is 0 for the zero spectrum, 1 for a single nonzero
value, k for k equal ones, and unchanged when all σ are scaled (1e±300 included). In general
stable rank ≤ participation ratio ≤ energy entropy rank ≤ effective rank ≤ number of nonzero σ.

What has a plural is made for many spectra at once: (m, n), one a row, to (m,). An adapter has hundreds of them, and one
by one they take longer than the singular values themselves.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from lorarank.errors import NumericsError, OptionError
from lorarank.numerics.core import Floats

NOISE_RATIO = 0.90
"""Participation ratio as a share of :func:`gaussian_product_participation`, from which a spectrum counts as noise."""


def spectra_of(sv: ArrayLike) -> Floats:
    """``sv`` as float64 (m, n), each row descending and scaled by a power of two so that its largest is in [½, 1).

    Raises NumericsError for anything but finite values ≥ 0.

    >>> spectra_of([[2.0, 6.0], [0.0, 0.0]])
    array([[0.75, 0.25],
           [0.  , 0.  ]])
    """
    values = np.asarray(sv, dtype=np.float64)
    if values.size == 0:
        return values
    # descending already, as ours are; with NaN among them a comparison fails
    if not ((values[:, :-1] >= values[:, 1:]).all() and (values[:, -1] >= 0).all() and (values[:, 0] < np.inf).all()):
        if not np.isfinite(values).all() or (values < 0).any():
            raise _no_spectrum()
        values = np.sort(values)[:, ::-1]
    return np.asarray(np.ldexp(values, -np.frexp(values[:, :1])[1]))


def one_row(sv: ArrayLike) -> Floats:
    """A vector as the only row of many: (n,) to (1, n) float64. Raises NumericsError for what is no vector.

    >>> one_row([2.0, 1.0])
    array([[2., 1.]])
    """
    values = np.asarray(sv, dtype=np.float64)
    if values.ndim != 1:
        raise _no_spectrum()
    return values[np.newaxis]


def effective_rank(sv: ArrayLike) -> float:
    """exp of the entropy of σ/Σσ: the effective rank of Roy & Vetterli (2007), EUSIPCO.

    >>> round(effective_rank([1.0, 1.0, 0.0]), 12)
    2.0
    """
    return float(effective_ranks(one_row(sv))[0])


def effective_ranks(sv: ArrayLike) -> Floats:
    """:func:`effective_rank` of every row.

    >>> effective_ranks([[1.0, 1.0], [0.0, 0.0]]).round(12)
    array([2., 0.])
    """
    return _exp_entropies(spectra_of(sv))


def energy_entropy_rank(sv: ArrayLike) -> float:
    """exp of the entropy of the energies σ²/Σσ²: the same idea on the energies, which is how shares are counted here.

    >>> round(energy_entropy_rank([2.0, 2.0]), 12)
    2.0
    """
    return float(energy_entropy_ranks(one_row(sv))[0])


def energy_entropy_ranks(sv: ArrayLike) -> Floats:
    """:func:`energy_entropy_rank` of every row.

    >>> energy_entropy_ranks([[3.0, 0.0]])
    array([1.])
    """
    return _exp_entropies(spectra_of(sv) ** 2)


def stable_rank(sv: ArrayLike) -> float:
    """Σσ²/σ₁²; Rudelson & Vershynin (2007), J. ACM 54(4) (there: numerical rank).

    >>> stable_rank([2.0, 1.0])
    1.25
    """
    return float(stable_ranks(one_row(sv))[0])


def stable_ranks(sv: ArrayLike) -> Floats:
    """:func:`stable_rank` of every row.

    >>> stable_ranks([[2.0, 1.0], [0.0, 0.0]])
    array([1.25, 0.  ])
    """
    energy = spectra_of(sv) ** 2
    return _ratio(energy.sum(axis=1), energy.max(axis=1, initial=0.0))


def participation_ratio(sv: ArrayLike) -> float:
    """(Σσ²)²/Σσ⁴; Gao et al. (2017), "A theory of multineuronal dimensionality, dynamics and measurement".

    >>> round(participation_ratio([1.0, 1.0, 1.0]), 12)
    3.0
    """
    return float(participation_ratios(one_row(sv))[0])


def participation_ratios(sv: ArrayLike) -> Floats:
    """:func:`participation_ratio` of every row.

    >>> participation_ratios([[1.0, 1.0], [0.0, 0.0]])
    array([2., 0.])
    """
    energy = spectra_of(sv) ** 2
    return _ratio(energy.sum(axis=1) ** 2, np.square(energy).sum(axis=1))


def gaussian_product_participation(R: int, m: int, n: int) -> float:
    """R/(1 + R/m + R/n): the participation ratio to expect of B·A with independent Gaussian B (m, R) and A (R, n).

    The null of "this spectrum is indistinguishable from noise". Large-dimension limit: for W = B·A with unit-variance
    entries E tr(WWᵀ) = mnR and E tr((WWᵀ)²) ≈ mnR·(mn + mR + nR), to leading order.
    Raises OptionError unless all three are positive.

    >>> gaussian_product_participation(64, 64, 64)
    21.333333333333332
    """
    if min(R, m, n) < 1:
        raise OptionError("R, m, n", f"are {R}, {m}, {n}", do="give positive dimensions")
    return R / (1 + R / m + R / n)


def _exp_entropies(weights: Floats) -> Floats:
    total = weights.sum(axis=1)
    shares = _ratio(weights, total[:, np.newaxis])
    logarithms = np.log(shares, where=shares > 0, out=np.zeros_like(shares))
    return np.where(total > 0, np.exp(-(shares * logarithms).sum(axis=1)), 0.0)


def _ratio(above: Floats, below: Floats) -> Floats:
    """Their ratio, 0 where both are."""
    return np.asarray(np.divide(above, below, where=below > 0, out=np.zeros_like(above)))


def _no_spectrum() -> NumericsError:
    return NumericsError("singular values", "are not a vector of finite numbers ≥ 0", do="check the factors")
