"""Spectrum and truncation of ``scaling * lora_B @ lora_A`` from its factors alone.

Precision, for factors exact in float64: every singular value is within 1e-12·σ₁ of the true one (usually a few
eps·σ₁), the smallest included, so that a σ below about 1e-13·σ₁ means "zero". The one exception are factors that
cancel, ‖lora_B‖·‖lora_A‖ ≫ σ₁ after each component has been balanced: there no method that reads the factors in
float64 can do better than eps·‖lora_B‖·‖lora_A‖. With a given Gram matrix (metrics `activation`, `loss`) the
precision is that of the Gram matrix: values of σ below about √eps·σ₁ are rounding.
"""

from __future__ import annotations

from operator import index
from typing import NamedTuple

import numpy as np

from lorarank.errors import OptionError
from lorarank.numerics.core import (
    EPS,
    CoreSVD,
    Floats,
    Matrix,
    checked_shape,
    core_of,
    core_svd,
    normalised,
    rescaled,
    split_scale,
    vector_coefficients,
)
from lorarank.numerics.criteria import numerical


class Factors(NamedTuple):
    """One low-rank update: ``lora_A`` (r, in) and ``lora_B`` (out, r) of any float dtype, and its ``scaling``.

    >>> Factors(np.ones((1, 3)), np.ones((2, 1)), scaling=2.0).scaling
    2.0
    """

    lora_A: Matrix
    lora_B: Matrix
    scaling: float = 1.0


def singular_values(
    lora_A: Matrix,
    lora_B: Matrix,
    scaling: float = 1.0,
    *,
    gram_A: Matrix | None = None,
    gram_B: Matrix | None = None,
) -> Floats:
    """Singular values of ``scaling``·G^½·``lora_B``·``lora_A``·C^½, descending; the plain delta weight by default.

    Parameters
    ----------
    lora_A : (r, in), lora_B : (out, r), any float dtype; computed in float64.
    scaling : its sign plays no part.
    gram_A : (r, r), ``lora_A``·C·``lora_A``ᵀ, in place of ``lora_A``·``lora_A``ᵀ (C: input second moment).
    gram_B : (r, r), ``lora_B``ᵀ·G·``lora_B``, in place of ``lora_B``ᵀ·``lora_B`` (G: output-gradient second moment).
        Of a factor whose Gram matrix is given, only the shape is read.

    Returns
    -------
    float64 (min(r, in, out),), not negative. Zero factors give zeros, an empty dimension an empty array.

    Raises
    ------
    NumericsError : a NaN or infinity (named), a Gram matrix with a negative eigenvalue, or a spectrum beyond float64.
    AdapterError : shapes that disagree.

    >>> singular_values(np.array([[3.0, 0, 0], [0, 1, 0]]), np.eye(4, 2), scaling=2.0)
    array([6., 2.])
    """
    lora_A, lora_B = np.asarray(lora_A), np.asarray(lora_B)
    out_features, in_features, r = checked_shape(lora_A, lora_B)
    count = min(r, in_features, out_features)
    mantissa, exponent = split_scale(scaling, "scaling")
    core = core_of(lora_A, lora_B, gram_A, gram_B)
    # A given Gram matrix makes an r×r core even where in or out is below r; the values past `count` are rounding.
    return rescaled(core.s[:count] * abs(mantissa), core.exponent + exponent, "delta weight")


def truncated_factors(
    lora_A: Matrix,
    lora_B: Matrix,
    k: int,
    *,
    gram_A: Matrix | None = None,
    gram_B: Matrix | None = None,
) -> tuple[Floats, Floats]:
    """Factors of the best approximation of ``lora_B``·``lora_A`` whose rank is at most k, in the metric of the Gram
    matrices.

    Best: G^½·(B·A − B_k·A_k)·C^½ has the smallest Frobenius (and spectral) norm; Eckart & Young (1936) in the weight
    metric. ``scaling`` stays outside. Each component is shared evenly, ‖column of B_k‖ = ‖row of A_k‖.

    A metric can be blind to directions (tokens that never excite them: a singular Gram matrix). Components that hold
    less than eps of the leading one's energy in the metric, σ ≤ √eps·σ₁, do not compete; what is left of k goes to
    the best approximation of the remainder in the weight metric, which costs the metric nothing and does not throw
    away what it could not see. So a k of at least the rank of B·A gives B·A back in any metric.

    Parameters
    ----------
    lora_A : (r, in), lora_B : (out, r), any float dtype. gram_A, gram_B : (r, r), see :func:`singular_values`.
    k : 0 or more.

    Returns
    -------
    A_k (k, in), B_k (out, k), float64; components beyond the rank of B·A are zero.

    Raises
    ------
    OptionError : k negative. NumericsError, AdapterError : as :func:`singular_values`.

    >>> A_1, B_1 = truncated_factors(np.diag([2.0, 1.0]), np.eye(2), 1)
    >>> np.round(B_1 @ A_1, 12) + 0.0
    array([[2., 0.],
           [0., 0.]])
    """
    lora_A, lora_B = np.asarray(lora_A), np.asarray(lora_B)
    out_features, in_features, _ = checked_shape(lora_A, lora_B)
    k = index(k)
    if k < 0:
        raise OptionError("k", f"is {k}", do="keep 0 or more components")
    plain = core_svd(core_of(lora_A, lora_B))
    rank = numerical(plain.s, (out_features, in_features))
    if gram_A is None and gram_B is None:
        return _cut(lora_A, lora_B, plain, min(k, rank), k)
    weighted = core_svd(core_of(lora_A, lora_B, gram_A, gram_B))
    if k >= rank:
        return _cut(lora_A, lora_B, plain, rank, k)
    seen = min(k, int(np.count_nonzero(weighted.s > np.sqrt(EPS) * weighted.s[0])))  # k < rank, so there is an s[0]
    A_k, B_k = _cut(lora_A, lora_B, weighted, seen, k)
    if seen < k:
        rest_A, rest_B = np.vstack([lora_A, A_k[:seen]]), np.hstack([lora_B, -B_k[:, :seen]])
        A_k[seen:], B_k[:, seen:] = truncated_factors(rest_A, rest_B, k - seen)
    return A_k, B_k


def _cut(lora_A: Matrix, lora_B: Matrix, svd: CoreSVD, kept: int, k: int) -> tuple[Floats, Floats]:
    """The leading ``kept`` components of a core as factors (k, in), (out, k), zeros after them."""
    A_k, B_k = np.zeros((k, lora_A.shape[1])), np.zeros((lora_B.shape[0], k))
    if kept == 0:
        return A_k, B_k
    B_hat, exponents_B = normalised(lora_B, "lora_B")
    A_hat, exponents_A = normalised(lora_A.T, "lora_A")
    X, Y = vector_coefficients(svd, kept, exponents_B, exponents_A)
    left, right = B_hat @ X, A_hat @ Y
    norm_left, norm_right = np.linalg.norm(left, axis=0), np.linalg.norm(right, axis=0)
    both = (norm_left > 0) & (norm_right > 0)
    balance = np.sqrt(np.divide(norm_right, norm_left, out=np.ones(kept), where=both))
    half, odd = divmod(svd.core.exponent, 2)
    root = np.sqrt(svd.s[:kept] * 2.0**odd)
    B_k[:, :kept] = rescaled(left * (root * balance), half, "lora_B")
    A_k[:kept] = rescaled(right * (root / balance), half, "lora_A").T
    return A_k, B_k
