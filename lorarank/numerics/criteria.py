"""Criteria: singular values to a *count*, how many of the leading ones to keep.

Every criterion is a pure function of singular values σ ≥ 0 (n,) in any order; it returns an int in [0, n], 0 for the
zero spectrum, and does not change when all σ are scaled by one number (except where the noise level is given).
Thresholds are strict, ``σ > τ``, so that nothing passes a threshold of zero by being zero.

What has a plural is made for many spectra at once, (m, n) to (m,), as :mod:`lorarank.numerics.measures` has it.

All raise NumericsError for values that are not finite numbers ≥ 0 and OptionError for a parameter outside its domain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import atan, isfinite, pi, sin, sqrt, tan

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lorarank.errors import OptionError
from lorarank.numerics.core import EPS, Floats
from lorarank.numerics.measures import one_row, spectra_of

SATURATED = 0.75
"""90 % energy rank over r from which an update uses all its rank. A product of two random matrices reaches 0.7 at
r = 16 (11 of 16), so that more is not noise alone. A judgement."""

LEAST_SATURABLE = 4
"""Smallest r at which how far the rank is used, or that a single direction holds it all, is worth a word."""

Counts = NDArray[np.intp]

Shapes = Sequence[tuple[int, int]]
"""(out, in) of the matrix that each spectrum is of."""


def energy(sv: ArrayLike, share: float) -> int:
    """Smallest k whose leading values hold at least ``share`` of Σσ², 0 < share ≤ 1.

    The comparison is made on what is lost, Σ_{i>k}σ² ≤ (1 − share)·Σσ², summed from the smallest value up, with
    n·eps·Σσ² of slack: a share that is met exactly in decimals is met here (9 and 1 hold 0.9), and noise of 1e-16·σ₁
    is never kept. For the same reason ``share=1.0`` keeps what a float64 sum of squares can tell from zero, σ above
    about 1e-8·σ₁; :func:`numerical` sees further.

    >>> energy([3.0, 1.0], 0.90), energy([3.0, 1.0], 0.91), energy([0.0, 0.0], 0.90)
    (1, 2, 0)
    """
    return int(energies(one_row(sv), share)[0])


def energies(sv: ArrayLike, share: float) -> Counts:
    """:func:`energy` of every row.

    >>> energies([[3.0, 1.0], [0.0, 0.0]], 0.91)
    array([2, 0])
    """
    if isinstance(share, bool) or not 0 < share <= 1:
        raise OptionError("energy", f"{share} is not a share", do="give a number above 0 and at most 1, such as 0.90")
    squares = spectra_of(sv) ** 2
    lost = np.cumsum(squares[:, ::-1], axis=1)[:, ::-1]  # lost[k]: energy outside the leading k; it falls with k
    allowed = (1 - share) + squares.shape[1] * EPS
    return _counts(lost > allowed * lost[:, :1])


def numerical(sv: ArrayLike, shape: tuple[int, int]) -> int:
    """#{σ > max(m, n)·eps·σ₁}, eps of float64 and ``shape`` = (m, n): the rule of numpy's ``matrix_rank``.

    >>> numerical([1.0, 1e-10, 1e-17], (100, 50))
    2
    """
    return int(numericals(one_row(sv), [shape])[0])


def numericals(sv: ArrayLike, shapes: Shapes) -> Counts:
    """:func:`numerical` of every row and its shape.

    >>> numericals([[1.0, 1e-10], [1.0, 1e-17]], [(100, 50), (100, 50)])
    array([2, 1])
    """
    values = spectra_of(sv)
    return _counts(values > _rounding(values, shapes))


def gavish_donoho(sv: ArrayLike, shape: tuple[int, int], noise: float | None = None) -> int:
    """#{σ > τ}, τ the asymptotically optimal hard threshold under white noise; Gavish & Donoho (2014), IEEE
    Trans. Inf. Theory 60(8), arXiv 1305.5870.

    With p ≤ q the sorted ``shape``, β = p/q and λ(β)² = 2(β+1) + 8β/((β+1) + √(β²+14β+1)):

    * ``noise`` given, the standard deviation of one entry of a white-noise matrix of that shape: τ = λ(β)·√q·noise.
    * unknown: τ = λ(β)·median(σ)/√μ_β, μ_β the median of the Marchenko–Pastur law. More than half of the values must
      be noise.

    The median must be that of all the noise. A thin update has r < min(out, in) values; the other singular values of
    the (out, in) matrix are zeros, not noise, and the noise in the r is that of a product of two random factors, not
    of a white matrix. Its energies spread like those of the white matrix with β = r/out + r/in: both have
    participation ratio r/(1+β), see :func:`~lorarank.numerics.measures.gaussian_product_participation`, and the edge
    of the bulk over its median agrees within 5 % (measured for r from 16 to 256, sides from 64 to 4096). So with
    fewer values than min(shape), and the noise unknown, β is that sum, at most 1. Above 1, r is too large for its
    matrix to tell noise from signal this way.

    >>> bulk = [1.1, 1.05, 1.0, 0.95, 0.9]
    >>> gavish_donoho([9.0, *bulk], (1000, 1000)), gavish_donoho(bulk, (1000, 1000))
    (1, 0)
    """
    if noise is not None:
        p, q = _sides(shape)
        return _above(sv, _optimal_threshold(p / q) * sqrt(q) * _checked_noise(noise))
    return int(gavish_donohos(one_row(sv), [shape])[0])


def gavish_donohos(sv: ArrayLike, shapes: Shapes) -> Counts:
    """:func:`gavish_donoho` of every row and its shape, the noise unknown.

    >>> bulk = [1.1, 1.05, 1.0, 0.95, 0.9]
    >>> gavish_donohos([[9.0, *bulk], [1.15, *bulk]], [(1000, 1000), (1000, 1000)])
    array([1, 0])
    """
    return _above_bulk(spectra_of(sv), shapes, _optimal_threshold)


def marchenko_pastur(sv: ArrayLike, shape: tuple[int, int], noise: float | None = None) -> int:
    """#{σ > noise·(√m + √n)}: what lies above the bulk of a white-noise matrix; Marchenko & Pastur (1967).

    Where ``noise``, the standard deviation of one entry, is not given, the edge is (1 + √β)·median(σ)/√μ_β, the noise
    level estimated as Gavish & Donoho (2014) do; ``shape`` and β, thin updates included, are those of
    :func:`gavish_donoho`. Its threshold is higher: it asks for components worth keeping, this one for components that
    can be told from noise. The edge is that of an infinite matrix. The largest noise values of a finite one fluctuate
    about it (Tracy–Widom law, Johnstone 2001), so that pure noise counts 0 or 1, seldom 2.

    >>> marchenko_pastur([9.0, 1.1, 1.05, 1.0, 0.95, 0.9], (1000, 1000))
    1
    """
    if noise is not None:
        p, q = _sides(shape)
        return _above(sv, (sqrt(p) + sqrt(q)) * _checked_noise(noise))
    return int(marchenko_pasturs(one_row(sv), [shape])[0])


def marchenko_pasturs(sv: ArrayLike, shapes: Shapes) -> Counts:
    """:func:`marchenko_pastur` of every row and its shape, the noise unknown.

    >>> marchenko_pasturs([[9.0, 1.1, 1.05, 1.0, 0.95, 0.9]], [(1000, 1000)])
    array([1])
    """
    return _above_bulk(spectra_of(sv), shapes, lambda beta: 1 + sqrt(beta))


def _above(sv: ArrayLike, threshold: float) -> int:
    spectra_of(one_row(sv))  # refuses what is none
    return int(np.count_nonzero(np.asarray(sv) > threshold))


def _above_bulk(values: Floats, shapes: Shapes, coefficient: Callable[[float], float]) -> Counts:
    """Values above ``coefficient(β)``·√q·noise, √q·noise estimated from the median; never those below rounding.

    ``values`` (m, n), each row descending, so that its median is in the middle.
    """
    n = values.shape[1]
    betas = [_noise_aspect(shape, n) for shape in shapes]
    if n == 0:
        return np.zeros(len(values), dtype=np.intp)
    medians = (values[:, (n - 1) // 2] + values[:, n // 2]) / 2
    levels = medians / np.sqrt([_marchenko_pastur_median(beta) for beta in betas])
    thresholds = np.array([coefficient(beta) for beta in betas]) * levels
    return _counts(values > np.maximum(thresholds[:, np.newaxis], _rounding(values, shapes)))


def _rounding(values: Floats, shapes: Shapes) -> Floats:
    """(m, 1) what cannot be told from zero beside the largest value of a row."""
    return np.array([[max(shape) * EPS] for shape in shapes]) * values[:, :1]


def _counts(kept: NDArray[np.bool_]) -> Counts:
    return np.asarray(np.count_nonzero(kept, axis=1))


def _checked_noise(noise: float) -> float:
    if not (isfinite(noise) and noise >= 0):
        raise OptionError("noise", f"{noise} is not a standard deviation", do="give a finite number of at least 0")
    return float(noise)


def _sides(shape: tuple[int, int]) -> tuple[int, int]:
    p, q = sorted(shape)
    if p < 1:
        raise OptionError("shape", f"is {tuple(shape)}", do="give the positive dimensions of the matrix")
    return p, q


def _noise_aspect(shape: tuple[int, int], count: int) -> float:
    """β of the white-noise matrix whose full spectrum is like that of noise in these ``count`` values."""
    p, q = _sides(shape)
    if count > p:
        raise OptionError("shape", f"{tuple(shape)} has at most {p} singular values, not {count}", do="check the order")
    return p / q if count in (0, p) else min(1.0, count / p + count / q)


def _optimal_threshold(beta: float) -> float:
    return sqrt(2 * (beta + 1) + 8 * beta / ((beta + 1) + sqrt(beta**2 + 14 * beta + 1)))


@lru_cache(maxsize=512)
def _marchenko_pastur_median(beta: float) -> float:
    """Median of the Marchenko–Pastur law of ratio 0 < beta ≤ 1 and variance 1 (that of σ²/q).

    With t = 1 + β + 2√β·cosθ, the mass above t has the closed form below, increasing in θ; θ is found by bisection.
    """
    root = sqrt(beta)
    low, high = 0.0, pi
    for _ in range(60):
        theta = (low + high) / 2
        angle = atan((1 - root) / (1 + root) * tan(theta / 2))
        mass = ((1 + beta) * theta - 2 * root * sin(theta) - 2 * (1 - beta) * angle) / (2 * pi * beta)
        low, high = (theta, high) if mass < 0.5 else (low, theta)
    return 1 + beta + 2 * root * float(np.cos(low))
