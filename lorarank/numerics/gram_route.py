"""When the Gram route to a core is good enough; see :mod:`lorarank.numerics.core` for the words.

Rounding in the scaled Gram matrix P̂ changes its root F̂ to (I + E)·F̂ with E = F̂⁻ᵀ·δP·F̂⁻¹/2, up to a rotation. So
the error in σᵢ is relative (Eisenstat & Ipsen 1995, "Relative perturbation techniques for singular value problems",
SIAM J. Numer. Anal. 32), and to first order σᵢ·|uᵢᵀ·E·uᵢ| ≤ σᵢ·‖δP‖·‖F̂_B⁻¹·uᵢ‖². Since
F̂_B⁻¹·uᵢ = D·F̂_Aᵀ·vᵢ/σᵢ, D the column scales, one of the two factors ‖F̂_B⁻¹·uᵢ‖ can be bounded by ‖D·F̂_Aᵀ‖/σᵢ:

    |δσᵢ| ≲ eps · ‖F̂_B⁻¹‖ · ‖D·F̂_Aᵀ‖      (and the same with A and B exchanged),

linear in the conditioning of the factor, not quadratic. The Gram route is accepted when the sum of both (Frobenius
norms) is at most :data:`GRAM_TOLERANCE` times ‖core‖, and eps·‖F̂⁻¹‖² ≤ :data:`GRAM_SINGULAR`, so that the
first-order formula holds. Two bounds on ‖F̂⁻¹‖ cost nothing. F̂_B⁻¹ = D·F̂_Aᵀ·core⁻¹ gives ‖F̂_B⁻¹‖ ≤ ‖D·F̂_Aᵀ‖/σ_r.
And with R the Gram matrix of the columns at length 1, λ its r eigenvalues, Σ1/λ = e_{r−1}(λ)/e_r(λ) ≤ r/det R by
Maclaurin's inequality (Hardy, Littlewood & Pólya, "Inequalities", 2.22), since their mean is 1: the determinant is
the product of what the diagonal of F̂ is to the lengths of its columns. An inverse, which takes as long as half an SVD,
is formed only where both do not settle it, and of the side alone that they say least of.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import inf, sqrt
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lorarank.numerics.core import Core

EPS = sys.float_info.epsilon
GRAM_TOLERANCE = 2e-13
"""Largest estimated error of the Gram route, as a share of the core's Frobenius norm."""
GRAM_SINGULAR = 1e-8
"""Largest eps·‖F̂⁻¹‖² with which the Gram route is tried at all."""


def holds(core: Core) -> bool:
    """Whether the error formula above accepts the roots of a core that came from a Gram matrix."""
    left, right = core.left, core.right
    scale = np.ldexp(1.0, left.exponents + right.exponents - core.exponent)
    squares_left, squares_right = _squares(left.factor), _squares(right.factor)
    sides = [
        (root.factor, own, sqrt(other @ scale**2))  # the last is ‖D·F̂‖ of the other side
        for root, own, other in ((left, squares_left, squares_right), (right, squares_right, squares_left))
        if root.from_gram
    ]
    norm, smallest = sqrt(core.s @ core.s), float(core.s[-1])

    def accepted(inverses: Sequence[float]) -> bool:
        """Whether it accepts them with these bounds on ‖F̂⁻¹‖, a side each."""
        error = EPS * sum(inverse * size for inverse, (_, _, size) in zip(inverses, sides, strict=True))
        return error <= GRAM_TOLERANCE * norm and EPS * max(inverses, default=0.0) ** 2 <= GRAM_SINGULAR

    if min(core.matrix.shape) == scale.size and smallest > 0 and accepted([size / smallest for _, _, size in sides]):
        return True
    bounds = [_inverse_bound(factor, squares) for factor, squares, _ in sides]
    # the worst first: it is settled, for or against, by one inverse more often than by two
    for index in sorted(range(len(sides)), key=bounds.__getitem__, reverse=True):
        if accepted(bounds):
            return True
        bounds[index] = float(np.linalg.norm(np.linalg.inv(sides[index][0])))
    return accepted(bounds)


def _squares(factor: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared lengths of the columns."""
    return np.asarray(np.einsum("ij,ij->j", factor, factor))


def _inverse_bound(root: NDArray[np.float64], squares: NDArray[np.float64]) -> float:
    """Bound on ‖root⁻¹‖, Frobenius, of a triangular root of a Gram matrix; infinite where its determinant vanishes.

    ``squares`` are the squared lengths of its columns.

    >>> _inverse_bound(np.eye(4), np.ones(4)), _inverse_bound(np.array([[1.0, 1.0], [0.0, 0.0]]), np.ones(2))
    (2.0, inf)
    """
    determinant = float(np.prod(root.diagonal() ** 2 / squares))
    return sqrt(len(root) / determinant / float(squares.min())) if determinant > 0 else inf
