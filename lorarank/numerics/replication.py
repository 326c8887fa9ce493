"""What two updates of the same module have in common: signal recurs in a replicate, noise does not.

An update is a :class:`~lorarank.numerics.linalg.Factors`; two updates may differ in r and in scaling, not in (out,
in). Everything comes from r×r cross-Grams, in the weight metric, and survives factors of any scale. All functions
raise NumericsError for a NaN or infinity and AdapterError for shapes that disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from operator import index
from typing import Literal

import numpy as np

from lorarank.errors import OptionError
from lorarank.numerics.core import CoreSVD, Floats, core_of, core_svd, split_scale, vector_coefficients
from lorarank.numerics.criteria import numerical
from lorarank.numerics.linalg import Factors, cross_grams, scaled_inner_product

__all__ = [
    "Factors",
    "agreement",
    "mean_replicated_rank",
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
    cross, (exponents_B1, exponents_A1), (exponents_B2, exponents_A2) = cross_grams(first, second)
    svd = _components(first)
    if svd.s.size == 0:
        return 0
    X, Y = vector_coefficients(svd, svd.s.size, exponents_B1, exponents_A1)
    mantissa_1, exponent_1 = split_scale(first.scaling, "scaling")
    mantissa_2, exponent_2 = split_scale(second.scaling, "scaling")
    scales = exponents_B2 + exponents_A2
    top_1, top_2 = svd.core.exponent + exponent_1, int(scales.max(initial=-(2**30))) + exponent_2
    predicted = np.sum((X.T @ cross[0]) * np.ldexp(1.0, scales + exponent_2 - top_2) * (Y.T @ cross[1]), axis=1)
    # σ and c share one power of two, and the σ outside the bracket needs none, so that nothing over- or underflows.
    top = max(top_1, top_2)
    sigma = np.ldexp(svd.s * abs(mantissa_1), top_1 - top)
    c = np.ldexp(predicted * mantissa_2 * np.sign(mantissa_1), top_2 - top)
    return int(np.argmin(np.append(0.0, np.cumsum(svd.s * (sigma - 2 * c)))))


def mean_replicated_rank(replicates: Sequence[Factors]) -> float:
    """Mean of :func:`replicated_rank` over all ordered pairs of two or more replicates of one module.

    >>> pair = Factors(np.diag([2.0, 1.0]), np.eye(2))
    >>> mean_replicated_rank([pair, pair, pair._replace(scaling=0.0)])
    0.6666666666666666
    """
    if len(replicates) < 2:
        raise OptionError("replicates", f"are {len(replicates)}", do="give two or more")
    ranks = [replicated_rank(first, second) for first, second in permutations(replicates, 2)]
    return sum(ranks) / len(ranks)


def agreement(first: Factors, second: Factors) -> float:
    """ρ = ⟨ΔW₁, ΔW₂⟩/(‖ΔW₁‖·‖ΔW₂‖), in [−1, 1]; 0 where either update is zero.

    >>> pair = Factors(np.diag([3.0, 4.0]), np.eye(2))
    >>> round(agreement(pair, Factors(np.array([[3.0, 0.0]]), np.eye(2, 1), 5.0)), 12)
    0.6
    """
    (cross, top), (own_1, top_1), (own_2, top_2) = (
        scaled_inner_product(*pair) for pair in ((first, second), (first, first), (second, second))
    )
    if own_1 <= 0 or own_2 <= 0:
        return 0.0
    with np.errstate(over="ignore", under="ignore"):
        cosine = np.ldexp(cross / np.sqrt(own_1) / np.sqrt(own_2), top - (top_1 + top_2) // 2)
    if (top_1 + top_2) % 2:
        cosine = cosine / np.sqrt(2)
    return float(np.clip(cosine, -1.0, 1.0))


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
    cross, exponents_1, exponents_2 = cross_grams(first, second)
    svd_1, svd_2 = _components(first), _components(second)
    if min(svd_1.s.size, svd_2.s.size) == 0:
        return np.zeros(0)
    one, two = vector_coefficients(svd_1, k, *exponents_1), vector_coefficients(svd_2, k, *exponents_2)
    which = 0 if side == "out" else 1
    cosines = np.linalg.svd(one[which].T @ cross[which] @ two[which], compute_uv=False)
    return np.arccos(np.minimum(cosines, 1.0))


def subspace_agreement(first: Factors, second: Factors, k: int, *, side: Side = "out") -> float:
    """Mean squared cosine of :func:`principal_angles`: 1 for nested spans, 0 for orthogonal ones or a zero update.

    The φ(i, j) of Hu et al. (2022), "LoRA", §7.2, on singular vectors of ΔW instead of those of one factor, hence the
    same for (B·M, M⁻¹·A). Two random k-dimensional subspaces of n dimensions have k/n on average.

    >>> first, second = Factors(np.eye(1, 3), np.eye(3, 1)), Factors(np.eye(1, 3), np.ones((3, 1)))
    >>> round(subspace_agreement(first, second, 1), 12)
    0.333333333333
    """
    angles = principal_angles(first, second, k, side=side)
    return float(np.mean(np.cos(angles) ** 2)) if angles.size else 0.0


def _components(pair: Factors) -> CoreSVD:
    """SVD of the core cut to the numerical rank of the update: no components at all for a zero one."""
    svd = core_svd(core_of(np.asarray(pair.lora_A), np.asarray(pair.lora_B)))
    shape = (pair.lora_B.shape[0], pair.lora_A.shape[1])
    rank = numerical(svd.s, shape) if split_scale(pair.scaling, "scaling")[0] else 0
    return svd._replace(U=svd.U[:, :rank], s=svd.s[:rank], Vt=svd.Vt[:rank])
