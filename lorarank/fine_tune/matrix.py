"""What changed in one matrix of a fine-tune (floor 3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lorarank.errors import NumericsError
from lorarank.fine_tune.weights import Pair, Update
from lorarank.numerics.leading import above_noise, energy_rank, leading_svd


@dataclass(frozen=True)
class MatrixUpdate:
    """W_tuned − W_base of one matrix.

    Attributes
    ----------
    name, type, layer : of the module.
    out_features, in_features : shape of ΔW.
    linear : whether LoRA can be put on it.
    kind : ``linear``, ``embedding``, ``head``, ``router``, ``convolution``, ``experts`` (one of a stack), or
        ``parameter``, a matrix that is no layer's weight.
    dtype : that the fine-tune is stored in.
    norm : ‖ΔW‖, exact; ``relative`` is ‖ΔW‖/‖W_base‖.
    sigma_1, stable_rank : largest singular value, and ‖ΔW‖²/σ₁².
    energy_ranks : fewest directions that hold each share; ``None`` where it takes more than were computed.
    captured : share of the energy in the computed directions.
    error : how far each computed σ may be from a true one.
    singular_values : the computed ones, descending.
    rounding : about the ‖·‖ that rounding to ``dtype`` adds by itself, see :mod:`lorarank.fine_tune.rounding`.
    above : computed directions whose σ is larger than rounding alone makes any.
    signal_ranks : as ``energy_ranks``, of the change without that rounding.
    problem : why there are no numbers; empty otherwise.
    """

    name: str
    type: str
    layer: int | None
    out_features: int
    in_features: int
    linear: bool
    kind: str
    dtype: str
    norm: float = 0.0
    relative: float = 0.0
    sigma_1: float = 0.0
    stable_rank: float = 0.0
    energy_ranks: tuple[int | None, ...] = ()
    captured: float = 1.0
    error: float = 0.0
    singular_values: tuple[float, ...] = ()
    rounding: float = 0.0
    above: int = 0
    signal_ranks: tuple[int | None, ...] = ()
    problem: str = ""


def measured(pair: Pair, shares: Sequence[float], directions: int) -> Iterator[MatrixUpdate]:
    """Read both weights and measure their difference, which is 0 where they are the same; one a matrix of a stack.

    Raises
    ------
    SourceError, AdapterError, ResourceError
        See :meth:`~lorarank.fine_tune.weights.Pair.updates`.
    """
    for name, update in zip(pair.names, pair.updates(), strict=True):
        what = MatrixUpdate(
            name,
            pair.type,
            pair.layer,
            pair.out_features,
            pair.in_features,
            pair.linear,
            pair.kind,
            pair.tuned.dtype,
        )
        yield replace(what, **_figures(update, shares, directions))


def _figures(found: Update, shares: Sequence[float], directions: int) -> dict[str, Any]:
    """Those fields of a :class:`MatrixUpdate` that are not as by default."""
    change = found.change
    if not change.any():
        return {}
    try:
        leading = leading_svd(change, directions)
    except NumericsError as error:
        return {"problem": error.what}
    norm, s = leading.norm, leading.s
    signal = above_noise(s, change.shape, found.rounding)
    whole = max(norm**2 - found.rounding**2, float(np.square(signal).sum())) ** 0.5
    return {
        "norm": norm,
        "relative": norm / found.base_norm if found.base_norm > 0 else float("inf"),
        "sigma_1": float(s[0]),
        "stable_rank": (norm / float(s[0])) ** 2,
        "energy_ranks": tuple(energy_rank(s, norm, share) for share in shares),
        "captured": min(1.0, float(np.square(s / norm).sum())),
        "error": leading.error,
        "singular_values": tuple(s.tolist()),
        "rounding": found.rounding,
        "above": len(signal),
        "signal_ranks": tuple(energy_rank(signal, whole, share) for share in shares),
    }
