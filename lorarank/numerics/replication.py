"""What two updates of the same module have in common: signal recurs in a replicate, noise does not.

An update is a :class:`~lorarank.numerics.linalg.Factors`; two updates may differ in r and in scaling, not in (out,
in). Everything comes from r×r cross-Grams, in the weight metric, and survives factors of any scale. All functions
raise NumericsError for a NaN or infinity and AdapterError for shapes that disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from operator import index
from typing import Literal, NamedTuple

import numpy as np

from lorarank.errors import AdapterError, OptionError
from lorarank.numerics.core import (
    DEAD,
    CoreSVD,
    Exponents,
    Floats,
    checked_shape,
    core_of,
    core_svd,
    normalised,
    split_scale,
    vector_coefficients,
)
from lorarank.numerics.criteria import numerical
from lorarank.numerics.linalg import Factors

__all__ = [
    "Factors",
    "Likeness",
    "agreement",
    "likeness",
    "principal_angles",
    "replicated_rank",
    "subspace_agreement",
]

Side = Literal["out", "in"]


def replicated_rank(first: Factors, second: Factors) -> int:
    """How many leading components of ΔW₁ predict ΔW₂: k̂ = argmin_k Σ_{i≤k}(σᵢ² − 2σᵢcᵢ), cᵢ = uᵢᵀ·ΔW₂·vᵢ.

    That sum is ‖ΔW₂ − [ΔW₁]_k‖² − ‖ΔW₂‖²: truncation chosen by cross-validation, with no noise model. A component
    pays its way iff cᵢ > σᵢ/2, which for white noise is where the Gavish–Donoho threshold lies. 0 is a possible
    answer, and the one for noise, for opposite updates, and where either is zero. Of equally good k the smallest is
    returned. It measures signal against noise at the size of these runs, not the rank that a task needs.

    >>> pair = Factors(np.diag([2.0, 1.0]), np.eye(2))
    >>> replicated_rank(pair, pair), replicated_rank(pair, pair._replace(scaling=-1.0))
    (2, 0)
    """
    one, two = _prepared(first), _prepared(second)
    return _replicated_rank(one, two, _cross(one, two))


def agreement(first: Factors, second: Factors) -> float:
    """ρ = ⟨ΔW₁, ΔW₂⟩/(‖ΔW₁‖·‖ΔW₂‖), in [−1, 1]; 0 where either update is zero.

    >>> pair = Factors(np.diag([3.0, 4.0]), np.eye(2))
    >>> round(agreement(pair, Factors(np.array([[3.0, 0.0]]), np.eye(2, 1), 5.0)), 12)
    0.6
    """
    one, two = _prepared(first), _prepared(second)
    return _agreement(one, two, _cross(one, two))


class Likeness(NamedTuple):
    """Means over replicates of one module: of the replicated rank over ordered pairs, of ρ over pairs."""

    replicated_rank: float
    agreement: float


def likeness(replicates: Sequence[Factors]) -> Likeness:
    """What two or more replicates of one module have in common, every factor read once.

    >>> pair = Factors(np.diag([2.0, 1.0]), np.eye(2))
    >>> likeness([pair, pair, pair._replace(scaling=0.0)])  # doctest: +ELLIPSIS
    Likeness(replicated_rank=0.666..., agreement=0.333...)
    """
    if len(replicates) < 2:
        raise OptionError("replicates", f"are {len(replicates)}", do="give two or more")
    ranks, agreements = [], []
    for one, two in combinations([_prepared(pair) for pair in replicates], 2):
        cross = _cross(one, two)
        ranks += [_replicated_rank(one, two, cross), _replicated_rank(two, one, (cross[0].T, cross[1].T))]
        agreements.append(_agreement(one, two, cross))
    return Likeness(sum(ranks) / len(ranks), sum(agreements) / len(agreements))


def principal_angles(first: Factors, second: Factors, k: int, *, side: Side = "out") -> Floats:
    """Principal angles in radians, ascending, between the spans of the leading k singular vectors of two updates.

    ``side="out"`` takes the left singular vectors (what the update writes), ``"in"`` the right ones (what it reads).
    Returns float64 (min(k, rank ΔW₁, rank ΔW₂),). Björck & Golub (1973), Math. Comp. 27; from cosines only, so that
    angles below about 1e-8 are rounding.

    >>> first, second = Factors(np.eye(1, 3), np.eye(3, 1)), Factors(np.eye(1, 3), np.ones((3, 1)))
    >>> np.rad2deg(principal_angles(first, second, 1)).round(3), principal_angles(first, second, 1, side="in")
    (array([54.736]), array([0.]))
    """
    k = index(k)
    if k < 1:
        raise OptionError("k", f"is {k}", do="compare at least one direction")
    if side not in ("out", "in"):
        raise OptionError("side", f"is {side!r}", do="give 'out' or 'in'")
    one, two = _prepared(first), _prepared(second)
    cross = _cross(one, two)
    if min(one.svd.s.size, two.svd.s.size) == 0:
        return np.zeros(0)
    which = 0 if side == "out" else 1
    left, right = (vector_coefficients(u.svd, k, u.exponents_B, u.exponents_A)[which] for u in (one, two))
    cosines = np.linalg.svd(left.T @ cross[which] @ right, compute_uv=False)
    angles: Floats = np.arccos(np.minimum(cosines, 1.0))
    return angles


def subspace_agreement(angles: Floats) -> float:
    """Mean squared cosine of :func:`principal_angles` (k,): 1 for nested spans, 0 for orthogonal ones or a zero update.

    The φ(i, j) of Hu et al. (2022), "LoRA", §7.2, on singular vectors of ΔW instead of those of one factor, hence the
    same for (B·M, M⁻¹·A). Two random k-dimensional subspaces of n dimensions have k/n on average.

    >>> first, second = Factors(np.eye(1, 3), np.eye(3, 1)), Factors(np.eye(1, 3), np.ones((3, 1)))
    >>> round(subspace_agreement(principal_angles(first, second, 1)), 12)
    0.333333333333
    """
    return float(np.mean(np.cos(angles) ** 2)) if angles.size else 0.0


class _Prepared(NamedTuple):
    """An update with all that is needed of it alone: normalised factors, and the core's SVD cut to the numerical
    rank, so that a zero update has no components."""

    B_hat: Floats
    A_hat: Floats  # (in, r)
    exponents_B: Exponents
    exponents_A: Exponents
    svd: CoreSVD
    mantissa: float  # of the scaling
    exponent: int


Cross = tuple[Floats, Floats]


def _prepared(pair: Factors) -> _Prepared:
    lora_A, lora_B = np.asarray(pair.lora_A), np.asarray(pair.lora_B)
    out_features, in_features, _ = checked_shape(lora_A, lora_B)
    B_hat, exponents_B = normalised(lora_B, "lora_B")
    A_hat, exponents_A = normalised(lora_A.T, "lora_A")
    mantissa, exponent = split_scale(pair.scaling, "scaling")
    svd = core_svd(core_of(lora_A, lora_B))
    rank = numerical(svd.s, (out_features, in_features)) if mantissa else 0
    cut = svd._replace(U=svd.U[:, :rank], s=svd.s[:rank], Vt=svd.Vt[:rank])
    return _Prepared(B_hat, A_hat, exponents_B, exponents_A, cut, mantissa, exponent)


def _cross(one: _Prepared, two: _Prepared) -> Cross:
    """B̂₁ᵀ·B̂₂ and Â₁·Â₂ᵀ, both (r₁, r₂)."""
    shapes = [(update.B_hat.shape[0], update.A_hat.shape[0]) for update in (one, two)]
    if shapes[0] != shapes[1]:
        raise AdapterError(
            "the two updates",
            f"have shapes {shapes[0]} and {shapes[1]} (out, in)",
            do="compare updates of the same module",
        )
    return one.B_hat.T @ two.B_hat, one.A_hat.T @ two.A_hat


def _predicted(one: _Prepared, two: _Prepared, cross: Cross) -> tuple[Floats, int]:
    """cᵢ = uᵢᵀ·ΔW₂·vᵢ for the components of ΔW₁ times the sign of its scaling, and the power of two to put on it."""
    X, Y = vector_coefficients(one.svd, one.svd.s.size, one.exponents_B, one.exponents_A)
    scales = two.exponents_B + two.exponents_A
    top = int(scales.max(initial=2 * DEAD))
    c = np.sum((X.T @ cross[0]) * np.ldexp(1.0, scales - top) * (Y.T @ cross[1]), axis=1)
    return c * two.mantissa * np.sign(one.mantissa), top + two.exponent


def _replicated_rank(one: _Prepared, two: _Prepared, cross: Cross) -> int:
    s = one.svd.s
    if s.size == 0:
        return 0
    predicted, top_2 = _predicted(one, two, cross)
    top_1 = one.svd.core.exponent + one.exponent
    # σ and c share one power of two, and the σ outside the bracket needs none, so that nothing over- or underflows.
    top = max(top_1, top_2)
    sigma = np.ldexp(s * abs(one.mantissa), top_1 - top)
    c = np.ldexp(predicted, top_2 - top)
    return int(np.argmin(np.append(0.0, np.cumsum(s * (sigma - 2 * c)))))


def _agreement(one: _Prepared, two: _Prepared, cross: Cross) -> float:
    """⟨ΔW₁, ΔW₂⟩ = Σ σᵢcᵢ over the components of ΔW₁; the norms are those of the two spectra."""
    if min(one.svd.s.size, two.svd.s.size) == 0:
        return 0.0
    predicted, top = _predicted(one, two, cross)
    direction = one.svd.s / np.linalg.norm(one.svd.s)
    size_2 = float(np.linalg.norm(two.svd.s)) * abs(two.mantissa)
    with np.errstate(over="ignore", under="ignore"):
        cosine = np.ldexp(float(direction @ predicted) / size_2, top - two.svd.core.exponent - two.exponent)
    return float(np.clip(cosine, -1.0, 1.0))
