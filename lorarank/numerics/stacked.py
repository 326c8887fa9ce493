"""Cores of many factor pairs of one r at once (floor 0).

Most of an adapter's modules have one r, and a core is so small that calling numpy for each of its steps takes a
seventh of the time at r = 64. What the Gram route does not serve is left to :mod:`lorarank.numerics.core`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lorarank.errors import NumericsError
from lorarank.numerics import gram_route
from lorarank.numerics.core import (
    Exponents,
    Floats,
    Matrix,
    checked_shape,
    cholesky_root,
    in_range,
    rescaled,
    split_scale,
    summed_gram,
)


class Cores(NamedTuple):
    """Of m cores at once: singular values ``s`` (m, r) of the matrices of size 1, the powers of two ``exponents`` (m,)
    that restore their scale, and whether the Gram route was good enough for each, ``accepted`` (m,)."""

    s: Floats
    exponents: Exponents
    accepted: NDArray[np.bool_]


def gram_pair(lora_A: Matrix, lora_B: Matrix) -> Floats | None:
    """(2, r, r) Gram matrices of ``lora_B`` and of ``lora_A``ᵀ; ``None`` where the Gram route does not serve.

    >>> gram_pair(np.eye(2, 5) * 3, np.eye(4, 2)).diagonal(axis1=1, axis2=2).tolist()
    [[1.0, 1.0], [9.0, 9.0]]
    >>> gram_pair(np.zeros((2, 5)), np.eye(4, 2)) is None
    True
    """
    out_features, in_features, r = checked_shape(lora_A, lora_B)
    if not 0 < r <= min(out_features, in_features):
        return None
    gram_B = summed_gram(lora_B)
    if not in_range(gram_B.diagonal()):  # untrained adapters have many that are zero
        return None
    gram_A = summed_gram(lora_A.T)
    return np.stack([gram_B, gram_A]) if in_range(gram_A.diagonal()) else None


def cores_of(grams: Floats) -> Cores:
    """The cores of m factor pairs of one r at once, by the Gram route; see :func:`lorarank.numerics.core.core_of`.

    Parameters
    ----------
    grams : (m, 2, r, r), of each what :func:`gram_pair` gives.

    >>> found = cores_of(gram_pair(np.eye(2, 5) * 3, np.eye(4, 2))[np.newaxis])
    >>> found.s * 2.0**found.exponents[:, np.newaxis], found.accepted
    (array([[3., 3.]]), array([ True]))
    """
    m, _, r, _ = grams.shape
    try:
        factors, exponents = cholesky_root(grams)
    except np.linalg.LinAlgError:
        return Cores(np.zeros((m, r)), np.zeros(m, dtype=np.int32), np.zeros(m, dtype=np.bool_))
    both = exponents.sum(axis=1, dtype=np.int32)
    top = both.max(axis=1)
    scale = np.ldexp(1.0, both - top[:, np.newaxis])
    left, right = factors[:, 0], factors[:, 1]
    s = np.asarray(np.linalg.svd((left * scale[:, np.newaxis]) @ right.swapaxes(1, 2), compute_uv=False))
    return Cores(s, top, gram_route.hold(s, (left, right), scale))


def singular_values_of(grams: Floats, scalings: Sequence[float]) -> list[Floats | None]:
    """:func:`lorarank.numerics.linalg.singular_values` of m factor pairs; ``None`` where that has to be asked.

    Parameters
    ----------
    grams : (m, 2, r, r), of each what :func:`gram_pair` gives.
    scalings : of each.

    >>> singular_values_of(gram_pair(np.eye(2, 5) * 3, np.eye(4, 2))[np.newaxis], [2.0])
    [array([6., 6.])]
    """
    found = cores_of(grams)
    values: list[Floats | None] = [None] * len(grams)
    for place in np.flatnonzero(found.accepted).tolist():
        try:
            mantissa, exponent = split_scale(scalings[place], "scaling")
            values[place] = rescaled(
                found.s[place] * abs(mantissa), int(found.exponents[place]) + exponent, "delta weight"
            )
        except NumericsError:  # which is said where the module is looked at alone
            continue
    return values
