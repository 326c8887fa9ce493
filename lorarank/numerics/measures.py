"""Real-valued dimensions of a spectrum: how many directions it is spread over, by five conventions.

Every measure takes singular values σ ≥ 0 (n,), in any order, and is 0 for the zero spectrum, 1 for a single nonzero
value, k for k equal ones, and unchanged when all σ are scaled (1e±300 included). In general
stable rank ≤ participation ratio ≤ energy entropy rank ≤ effective rank ≤ number of nonzero σ.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from lorarank.errors import NumericsError, OptionError
from lorarank.numerics.core import Floats


def spectrum_of(sv: ArrayLike) -> Floats:
    """``sv`` as float64 (n,), descending, scaled by a power of two so that the largest is in [½, 1).

    Raises NumericsError for anything but a vector of finite values ≥ 0.

    >>> spectrum_of([2.0, 6.0])
    array([0.75, 0.25])
    """
    values = np.asarray(sv, dtype=np.float64)
    if (
        values.ndim == 1
        and values.size
        and (values[:-1] >= values[1:]).all()
        and values[-1] >= 0
        and values[0] < np.inf
    ):
        # descending already, as ours are: with NaN among them a comparison would have failed
        return np.asarray(np.ldexp(values, -np.frexp(values[0])[1]))
    if values.ndim != 1 or not np.isfinite(values).all() or (values < 0).any():
        raise NumericsError("singular values", "are not a vector of finite numbers ≥ 0", do="check the factors")
    values = np.sort(values)[::-1]
    if values.size == 0 or values[0] == 0:
        return values
    return np.asarray(np.ldexp(values, -np.frexp(values[0])[1]))


def effective_rank(sv: ArrayLike) -> float:
    """exp of the entropy of σ/Σσ: the effective rank of Roy & Vetterli (2007), EUSIPCO.

    >>> round(effective_rank([1.0, 1.0, 0.0]), 12)
    2.0
    """
    return _exp_entropy(spectrum_of(sv))


def energy_entropy_rank(sv: ArrayLike) -> float:
    """exp of the entropy of the energies σ²/Σσ²: the same idea on the energies, which is how shares are counted here.

    >>> round(energy_entropy_rank([2.0, 2.0]), 12)
    2.0
    """
    return _exp_entropy(spectrum_of(sv) ** 2)


def stable_rank(sv: ArrayLike) -> float:
    """Σσ²/σ₁²; Rudelson & Vershynin (2007), J. ACM 54(4) (there: numerical rank).

    >>> stable_rank([2.0, 1.0])
    1.25
    """
    energy = spectrum_of(sv) ** 2
    return float(energy.sum() / energy[0]) if energy.any() else 0.0


def participation_ratio(sv: ArrayLike) -> float:
    """(Σσ²)²/Σσ⁴; Gao et al. (2017), "A theory of multineuronal dimensionality, dynamics and measurement".

    >>> round(participation_ratio([1.0, 1.0, 1.0]), 12)
    3.0
    """
    energy = spectrum_of(sv) ** 2
    return float(energy.sum() ** 2 / np.square(energy).sum()) if energy.any() else 0.0


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


def _exp_entropy(weights: Floats) -> float:
    if not weights.any():
        return 0.0
    shares = weights[weights > 0] / weights.sum()
    shares = shares[shares > 0]
    return float(np.exp(-np.sum(shares * np.log(shares))))
