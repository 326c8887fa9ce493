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

Floats = NDArray[np.float64]
Accepted = NDArray[np.bool_]

EPS = sys.float_info.epsilon
GRAM_TOLERANCE = 2e-13
"""Largest estimated error of the Gram route, as a share of the core's Frobenius norm."""
GRAM_SINGULAR = 1e-8
"""Largest eps·‖F̂⁻¹‖² with which the Gram route is tried at all."""


def holds(core: Core) -> bool:
    """Whether the error formula above accepts the roots of a core that came from a Gram matrix."""
    left, right = core.left, core.right
    scale = np.ldexp(1.0, left.exponents + right.exponents - core.exponent)
    from_gram = [side for side, root in enumerate((left, right)) if root.from_gram]
    return bool(hold(core.s[np.newaxis], (left.factor[np.newaxis], right.factor[np.newaxis]), scale, from_gram)[0])


@np.errstate(over="ignore", invalid="ignore")  # bounds beyond float64 accept nothing
def hold(s: Floats, factors: tuple[Floats, Floats], scale: Floats, from_gram: Sequence[int] = (0, 1)) -> Accepted:
    """The same of m cores at once.

    Parameters
    ----------
    s : (m, t) singular values of the cores.
    factors : F̂ of lora_B (m, q_B, r) and of lora_A (m, q_A, r).
    scale : (m, r) or (r,) of the columns of both together: core = F̂_B·diag(scale)·F̂_Aᵀ.
    from_gram : which of the two came from a Gram matrix; those are square.

    Returns
    -------
    accepted : (m,)
    """
    squares = [_squares(factor) for factor in factors]
    size = np.array([np.sqrt((squares[1 - side] * scale**2).sum(axis=-1)) for side in from_gram])  # ‖D·F̂‖ of the other
    norm, smallest = np.sqrt(np.square(s).sum(axis=-1)), s[:, -1]

    def accepted(inverses: Floats) -> Accepted:
        """Whether it accepts them with these bounds on ‖F̂⁻¹‖, (sides, m)."""
        near = EPS * (inverses * size).sum(axis=0) <= GRAM_TOLERANCE * norm
        return np.asarray(near & (inverses.max(axis=0, initial=0.0) <= sqrt(GRAM_SINGULAR / EPS)))

    whole = (smallest > 0) & (s.shape[-1] == scale.shape[-1])
    found = accepted(np.divide(size, smallest, out=np.full_like(size, inf), where=whole))
    if found.all():
        return found
    bounds = np.array([_inverse_bound(factors[side], squares[side]) for side in from_gram])
    # the worst first: it is settled, for or against, by one inverse more often than by two
    order = np.argsort(-bounds, axis=0, kind="stable")
    for turn in range(len(from_gram)):
        found |= accepted(bounds)
        for place, side in enumerate(from_gram):
            rows = ~found & (order[turn] == place)
            if rows.any():
                bounds[place, rows] = np.linalg.norm(np.linalg.inv(factors[side][rows]), axis=(1, 2))
    return np.asarray(found | accepted(bounds))


def _squares(factor: Floats) -> Floats:
    """Squared lengths of the columns of (m, q, r)."""
    return np.asarray(np.einsum("mij,mij->mj", factor, factor))


def _inverse_bound(root: Floats, squares: Floats) -> Floats:
    """Bounds on ‖root⁻¹‖, Frobenius, of (m, r, r) triangular roots of Gram matrices; infinite where the determinant
    vanishes.

    ``squares`` (m, r) are the squared lengths of their columns.

    >>> roots = np.array([np.eye(4), np.tri(4).T * np.arange(4)])
    >>> _inverse_bound(roots, np.ones((2, 4)))
    array([ 2., inf])
    """
    determinant = np.prod(np.einsum("mii->mi", root) ** 2 / squares, axis=-1)
    least = determinant * squares.min(axis=-1)
    return np.asarray(np.sqrt(np.divide(root.shape[-1], least, out=np.full_like(least, inf), where=least > 0)))
