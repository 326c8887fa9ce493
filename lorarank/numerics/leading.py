"""The leading singular triplets of a matrix that is there as a whole, with a bound on what is not known.

Small matrices are decomposed densely by LAPACK. Of larger ones only the leading k are computed, by ARPACK's implicitly
restarted Lanczos method (scipy's ``svds``; R. B. Lehoucq, D. C. Sorensen and C. Yang, ARPACK Users' Guide, 1998).
"""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import numpy as np

from lorarank.errors import NumericsError, OptionError
from lorarank.numerics.core import EPS, Floats

DENSE_FRACTION = 4
"""From k above a quarter of the shorter side on, LAPACK decomposes the whole matrix. At k = 64 and one thread Lanczos
took 0.10 s against 0.23 s at 576×576, 0.28 against 1.27 at 1024×1024 and 2.8 against 10.8 at 2048×2048."""

NO_NUMBERS = "has NaN, infinite or far too large values"
"""Said of what has no finite norm."""


class Leading(NamedTuple):
    """``U`` (m, k), ``s`` (k,) descending, ``Vt`` (k, n), float64, and what is known of the rest.

    ``norm`` is ‖M‖ (Frobenius), taken from the entries, so that √(norm² − Σs²) is exactly what the k triplets leave
    out. ``error`` bounds how far each s is from a singular value of M: max ‖M·v − s·u‖, ‖Mᵀ·u − s·v‖ (Weyl).
    """

    U: Floats
    s: Floats
    Vt: Floats
    norm: float
    error: float

    @property
    def residual(self) -> float:
        """‖M − U·diag(s)·Vt‖, from the norms."""
        return sqrt(max(0.0, self.norm**2 - float(np.square(self.s).sum())))


def leading_svd(matrix: Floats, k: int) -> Leading:
    """The ``k`` leading singular triplets, or all where there are fewer.

    Parameters
    ----------
    matrix : (m, n) float64.
    k : at least 1.

    Raises
    ------
    OptionError : k below 1. NumericsError : NaN, infinity, or squares beyond float64 in it.

    >>> found = leading_svd(np.diag([3.0, 2.0, 1.0]), 2)
    >>> found.s.tolist(), round(found.norm, 6), round(found.residual, 6)
    ([3.0, 2.0], 3.741657, 1.0)
    """
    if k < 1:
        raise OptionError("k", f"is {k}", do="keep at least one component")
    with np.errstate(over="ignore", invalid="ignore"):
        norm = float(np.linalg.norm(matrix))
    if not np.isfinite(norm):
        raise NumericsError("the matrix", NO_NUMBERS, do="take another checkpoint")
    shorter = min(matrix.shape)
    if norm == 0 or shorter == 0:
        k = min(k, shorter)
        return Leading(np.eye(matrix.shape[0], k), np.zeros(k), np.eye(k, matrix.shape[1]), norm, 0.0)
    lanczos = _lanczos(matrix, k) if k * DENSE_FRACTION <= shorter else None
    if lanczos is None:
        U, s, Vt = np.linalg.svd(matrix, full_matrices=False)
        U, s, Vt = U[:, :k], s[:k], Vt[:k]
    else:
        U, s, Vt = lanczos
    wrong = (np.linalg.norm(matrix @ Vt.T - U * s, axis=0), np.linalg.norm(matrix.T @ U - Vt.T * s, axis=0))
    return Leading(U, s, Vt, norm, float(max(one.max() for one in wrong)))


def _lanczos(matrix: Floats, k: int) -> tuple[Floats, Floats, Floats] | None:
    """The leading triplets by ARPACK; ``None`` where it does not converge."""
    from scipy.sparse.linalg import ArpackError, svds

    start = np.random.default_rng(0).standard_normal(min(matrix.shape))
    try:
        U, s, Vt = svds(matrix, k=k, v0=start, solver="arpack")
    except ArpackError:
        return None
    order = np.argsort(-s)
    return U[:, order], s[order], Vt[order]


def energy_rank(s: Floats, norm: float, share: float) -> int | None:
    """Fewest of the leading values ``s`` that hold ``share`` of ``norm``²; ``None`` where all of them do not.

    >>> energy_rank(np.array([3.0, 2.0]), 14**0.5, 0.9), energy_rank(np.array([3.0, 2.0]), 14**0.5, 0.99)
    (2, None)
    """
    if norm == 0:
        return 0
    kept = np.cumsum(np.square(s / norm))
    enough = kept >= share - (s.size + 1) * EPS
    return int(np.argmax(enough)) + 1 if enough.any() else None


def above_noise(s: Floats, shape: tuple[int, ...], noise: float) -> Floats:
    """Singular values beyond what noise alone gives, as they were before it was added.

    White noise of Frobenius norm ``noise`` has singular values up to its share of √m + √n; a larger one of the sum is
    y = √((x + 1/x)(x + β/x)) of the x that it was, in units of the noise and with β = m/n (M. Gavish and D. L. Donoho,
    Optimal Shrinkage of Singular Values, IEEE Trans. Inf. Theory 63(4), 2017). Here x is found from y.

    Parameters
    ----------
    s : the leading ones of a matrix, descending.
    shape : (m, n) of it.
    noise : ‖·‖ of the noise in it; 0 leaves all of them as they are.

    >>> above_noise(np.array([5.0, 0.1]), (100, 100), 1.0).round(3).tolist()
    [4.998]
    >>> above_noise(np.array([5.0, 0.1]), (100, 100), 0.0).tolist()
    [5.0, 0.1]
    """
    if noise == 0:
        return s
    shorter, longer = sorted(shape)
    unit, beta = noise / sqrt(shorter), shorter / longer  # noise·√longer / √(shorter·longer)
    y = s / unit
    y = y[y > 1 + sqrt(beta)]
    middle = np.square(y) - beta - 1
    x: Floats = np.sqrt((middle + np.sqrt(np.square(middle) - 4 * beta)) / 2)
    return unit * x
