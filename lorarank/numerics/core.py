"""The r×r core of a low-rank update: a small matrix with the singular values of ``lora_B @ lora_A``.

With any F_B, F_A such that F_Bᵀ·F_B = P = ``lora_B``ᵀ·G·``lora_B`` and F_Aᵀ·F_A = Q = ``lora_A``·C·``lora_A``ᵀ, the
singular values of G^½·B·A·C^½ are those of the *core* F_B·F_Aᵀ. There are three ways to such a *root*:

* **Gram route** (the ordinary one): form the Gram matrix in float64 and take its Cholesky factor.
* **QR route**: the R of a Householder QR of the factor. Slower (five times at r = 64), needed when a factor is close
  to rank-deficient, and always taken for factors with a zero column, fewer rows than columns, or an extreme scale.
* **Eigen route**, for a Gram matrix that the caller gives: the symmetric square root, eigenvalues below r·eps·λ₁ set
  to 0.

Why two Cholesky factors and the SVD of their product, rather than one Cholesky factor L and the symmetric
eigenproblem of Lᵀ·Q·L: that eigenproblem returns σ², so a σ below 1e-8·σ₁ is lost and one of 1e-3·σ₁ has an error of
1e-13·σ₁ at best. The SVD of the core keeps an absolute error of a few eps·σ₁ for *every* σ, and takes 0.18 ms instead
of 0.13 ms at r = 64.

Columns are scaled by powers of two (exact) to norms in [½, 1), on the Gram route in the factor.
:mod:`lorarank.numerics.gram_route` says when that route is good enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lorarank.errors import AdapterError, NumericsError
from lorarank.numerics import gram_route

Floats = NDArray[np.float64]
Exponents = NDArray[np.int32]
Matrix = NDArray[Any]

EPS = float(np.finfo(np.float64).eps)
DEAD = -1_000_000
"""Exponent of a column that is zero: far below any float64's, so that 2^DEAD is exactly 0 wherever it enters."""

_BLOCK_NUMBERS = 2**18  # upcast at a time, 2 MB: an embedding's factor of 256k rows costs no 128 MB at r = 64
_SQUARE_MIN, _SQUARE_MAX = 2.0**-900, 2.0**900  # squared column norms between these lose nothing to under- or overflow
_NOT_PSD = 1e-3  # a given Gram matrix, accumulated in low precision, may have eigenvalues down to -_NOT_PSD·λ₁


class Root(NamedTuple):
    """``factor`` F (q, r) float64 and ``exponents`` e (r,) int32: the Gram matrix is 2^e·FᵀF·2^e, columns of F of
    size 1.

    ``from_gram`` marks the Gram route, the only one whose error depends on the conditioning.
    """

    factor: Floats
    exponents: Exponents
    from_gram: bool


class Core(NamedTuple):
    """``matrix`` (q_B, q_A) of size 1, its singular values ``s``, the power of two that restores the scale, both
    roots."""

    matrix: Floats
    s: Floats
    exponent: int
    left: Root
    right: Root


class CoreSVD(NamedTuple):
    """``core.matrix`` = U·diag(s)·Vt; U (q_B, t), s (t,) descending, Vt (t, q_A), the scale 2^``core.exponent`` left
    out."""

    U: Floats
    s: Floats
    Vt: Floats
    core: Core


def checked_shape(lora_A: Matrix, lora_B: Matrix) -> tuple[int, int, int]:
    """``(out, in, r)`` of a factor pair, or AdapterError.

    >>> checked_shape(np.ones((2, 5)), np.ones((3, 2)))
    (3, 5, 2)
    """
    for where, factor in (("lora_A", lora_A), ("lora_B", lora_B)):
        if factor.ndim != 2:
            raise AdapterError(where, f"has {factor.ndim} dimensions", do="give a matrix")
    if lora_A.shape[0] != lora_B.shape[1]:
        raise AdapterError(
            "lora_A, lora_B",
            f"shapes {lora_A.shape} and {lora_B.shape} disagree about r",
            do="give lora_A as (r, in) and lora_B as (out, r)",
        )
    return lora_B.shape[0], lora_A.shape[1], lora_A.shape[0]


def normalised(columns: Matrix, where: str) -> tuple[Floats, Exponents]:
    """Float64 copy of ``columns`` (n, r) with each column's largest entry in [½, 1), and the powers of two taken out.

    Raises NumericsError naming ``where`` if there is a NaN or an infinity.

    >>> scaled, exponents = normalised(np.array([[6.0, 0.0], [3.0, 0.0]]), "lora_B")
    >>> scaled.tolist(), exponents.tolist() == [3, DEAD]
    ([[0.75, 0.0], [0.375, 0.0]], True)
    """
    exponents = _exponents(columns, where)
    return np.ldexp(np.asarray(columns, dtype=np.float64), -exponents), exponents


def _exponents(columns: Matrix, where: str) -> Exponents:
    largest = np.zeros(columns.shape[1])
    for block in _blocks(columns):
        largest = np.maximum(largest, np.abs(block).max(axis=0, initial=0.0))
    if not np.isfinite(largest).all():
        raise NumericsError(
            where,
            f"{np.count_nonzero(~np.isfinite(columns))} of {columns.size} values are NaN or infinite",
            why="the run diverged or the file is damaged",
            do="use an earlier checkpoint or a lower learning rate",
        )
    return np.where(largest > 0, np.frexp(largest)[1], DEAD).astype(np.int32)


def _blocks(columns: Matrix) -> Iterator[Floats]:
    """Rows of ``columns`` (n, r) as float64, 2 MB at a time or twice as many as there are columns."""
    n, r = columns.shape
    rows = max(2 * r, _BLOCK_NUMBERS // max(1, r))
    return (np.asarray(columns[start : start + rows], dtype=np.float64) for start in range(0, n, rows))


def _qr_root(columns: Matrix, where: str) -> Root:
    """The R of the rows above and a block more is that of both: no copy of a whole factor is made."""
    exponents = _exponents(columns, where)
    factor = np.zeros((0, columns.shape[1]))
    for block in _blocks(columns):
        factor = np.asarray(np.linalg.qr(np.vstack([factor, np.ldexp(block, -exponents)]), mode="r"))
    return Root(factor, exponents, False)


def _gram(block: Floats) -> Floats:
    """Gram matrix of a block (n, r); of both operands in one place, numpy computes but a triangle."""
    return np.asarray(block.T @ block)


def summed_gram(columns: Matrix) -> Floats:
    """Gram matrix of ``columns`` (n, r), n at least 1; NaN, infinity and overflow show in its diagonal."""
    with np.errstate(over="ignore", invalid="ignore"):
        blocks = _blocks(columns)
        gram = _gram(next(blocks))
        for block in blocks:
            gram += _gram(block)
    return gram


def in_range(squares: Floats) -> bool:
    """Whether squared column norms have lost nothing to under- or overflow; there is no NaN in them then."""
    return bool(squares.min() >= _SQUARE_MIN and squares.max() <= _SQUARE_MAX)


def cholesky_root(grams: Floats) -> tuple[Floats, Exponents]:
    """Factors (…, r, r) of Gram matrices (…, r, r) that are in range, columns of size 1, and their exponents (…, r).

    Raises numpy's LinAlgError if one is not positive to rounding.
    """
    lower = np.linalg.cholesky(grams)
    _, exponents = np.frexp(np.sqrt(np.diagonal(grams, axis1=-2, axis2=-1)))
    # powers of two, so that this is to the last bit the factor of the columns of size 1
    return np.multiply(lower.swapaxes(-2, -1), np.ldexp(1.0, -exponents)[..., np.newaxis, :], order="C"), exponents


def _gram_root(columns: Matrix, where: str) -> Root:
    """Cholesky root of ``columns`` (n, r); the QR root where the Gram matrix cannot serve."""
    n, r = columns.shape
    if n < r:
        return _qr_root(columns, where)
    gram = summed_gram(columns)
    squares = gram.diagonal()
    if squares.max() == 0 and not np.any(columns):  # untrained; tiny values, whose squares vanish, go on
        return Root(gram, np.full(r, DEAD, dtype=np.int32), False)
    if not in_range(squares):
        return _qr_root(columns, where)
    try:
        return Root(*cholesky_root(gram), True)
    except np.linalg.LinAlgError:
        return _qr_root(columns, where)


def _given_root(gram: Matrix, r: int, where: str) -> Root:
    """Symmetric root of a Gram matrix (r, r) that the caller accumulated; it may be singular."""
    values = np.asarray(gram, dtype=np.float64)
    if values.shape != (r, r):
        raise AdapterError(where, f"has shape {values.shape} beside factors of r = {r}", do=f"give it as ({r}, {r})")
    if not np.isfinite(values).all():
        raise NumericsError(where, "has NaN or infinite values", do="accumulate the moments again, in a wider dtype")
    squares = values.diagonal()
    if (squares < 0).any():
        raise NumericsError(where, "has a negative diagonal: it is no Gram matrix", do="check how it was accumulated")
    exponents = np.frexp(np.sqrt(squares))[1]
    unit = np.where(squares > 0, np.ldexp(1.0, -exponents), 0.0)  # a direction of no energy has no covariance either
    scaled = values * unit[:, None] * unit
    eigenvalues, vectors = np.linalg.eigh((scaled + scaled.T) / 2)
    largest = eigenvalues[-1]
    if eigenvalues[0] < -_NOT_PSD * largest:
        raise NumericsError(where, "has a negative eigenvalue: it is no Gram matrix", do="check how it was accumulated")
    kept = np.where(eigenvalues > r * EPS * largest, eigenvalues, 0.0)
    return Root(np.sqrt(kept)[:, None] * vectors.T, np.where(squares > 0, exponents, DEAD).astype(np.int32), False)


def _join(left: Root, right: Root) -> Core:
    exponents = left.exponents + right.exponents
    top = int(exponents.max())
    if top <= DEAD // 2:  # no component has both of its sides
        matrix, top = np.zeros((left.factor.shape[0], right.factor.shape[0])), 0
    else:
        matrix = (left.factor * np.ldexp(1.0, exponents - top)) @ right.factor.T
    return Core(matrix, np.asarray(np.linalg.svd(matrix, compute_uv=False)), top, left, right)


def core_of(lora_A: Matrix, lora_B: Matrix, gram_A: Matrix | None = None, gram_B: Matrix | None = None) -> Core:
    """The core of a factor pair, without ``scaling``; see :func:`lorarank.numerics.linalg.singular_values`.

    >>> core = core_of(np.eye(2, 5) * 3, np.eye(4, 2))
    >>> core.s * 2.0**core.exponent
    array([3., 3.])
    """
    out_features, in_features, r = checked_shape(lora_A, lora_B)
    if min(out_features, in_features, r) == 0:
        nothing = Root(np.zeros((0, r)), np.full(r, DEAD, dtype=np.int32), False)
        return Core(np.zeros((0, 0)), np.zeros(0), 0, nothing, nothing)
    left = _gram_root(lora_B, "lora_B") if gram_B is None else _given_root(gram_B, r, "gram_B")
    right = _gram_root(lora_A.T, "lora_A") if gram_A is None else _given_root(gram_A, r, "gram_A")
    core = _join(left, right)
    zero = int((left.exponents + right.exponents).max()) <= DEAD // 2
    if zero or gram_route.holds(core):
        return core
    if left.from_gram:
        left = _qr_root(lora_B, "lora_B")
    if right.from_gram:
        right = _qr_root(lora_A.T, "lora_A")
    return _join(left, right)


def core_svd(core: Core) -> CoreSVD:
    """SVD of the core, for what needs the vectors too.

    >>> svd = core_svd(core_of(np.ones((1, 4)), np.ones((4, 1))))
    >>> svd.s * 2.0**svd.core.exponent
    array([4.])
    """
    return CoreSVD(*np.linalg.svd(core.matrix, full_matrices=False), core)


def vector_coefficients(svd: CoreSVD, k: int, exponents_B: Exponents, exponents_A: Exponents) -> tuple[Floats, Floats]:
    """X, Y (r, k) float64: the leading singular vectors in terms of *normalised* factors B̂ (out, r), Â (r, in).

    ``exponents_B``, ``exponents_A`` are what :func:`normalised` took out of ``lora_B`` and of ``lora_A``ᵀ. In the
    weight metric B̂·X and Âᵀ·Y have orthonormal columns. In every metric, the best rank-k approximation of
    lora_B·lora_A is 2^core.exponent · B̂·X · diag(s_k) · Yᵀ·Â. No root is inverted: u = B·(F_Aᵀ·v)/σ, which only asks
    for σ > 0.
    """
    core, s = svd.core, svd.s[:k]
    X = np.ldexp(core.right.factor.T @ svd.Vt[:k].T, (exponents_B + core.right.exponents - core.exponent)[:, None])
    Y = np.ldexp(core.left.factor.T @ svd.U[:, :k], (exponents_A + core.left.exponents - core.exponent)[:, None])
    return X / s, Y / s


def split_scale(value: float, where: str) -> tuple[float, int]:
    """``value`` as mantissa in ±[½, 1) and a power of two; NumericsError for NaN or infinity.

    >>> split_scale(-6.0, "scaling")
    (-0.75, 3)
    """
    if not np.isfinite(value):
        raise NumericsError(where, f"is {value}", do="check r and lora_alpha")
    mantissa, exponent = np.frexp(float(value))
    return float(mantissa), int(exponent)


def rescaled(values: Floats, exponent: int, where: str) -> Floats:
    """``values``·2^``exponent`` in float64; NumericsError where that overflows.

    >>> rescaled(np.array([0.75]), 3, "delta weight")
    array([6.])
    """
    with np.errstate(over="ignore", under="ignore"):
        result = np.asarray(np.ldexp(values, exponent))
    if not np.isfinite(result).all():
        raise NumericsError(where, "exceeds the range of float64", do="check the scale of the factors")
    return result
