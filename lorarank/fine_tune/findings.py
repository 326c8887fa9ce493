"""What is to be said about a fine-tune, as findings (floor 3)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from lorarank.audit import codes
from lorarank.audit.codes import Finding, found
from lorarank.fine_tune.matrix import MatrixUpdate
from lorarank.numerics.leading import NO_NUMBERS
from lorarank.wording import percent

MOSTLY = 0.5
"""Share of a matrix's energy that rounding alone explains, from which on its ranks say little."""

OUTSIDE = 0.1
"""Share of all change outside linear layers, from which on an extracted LoRA misses much."""

OTHERS = {
    "convolution": "convolutions",
    "router": "routers",
    "experts": "stacks of experts",
    "parameter": "parameters of no layer",
}
"""Kinds that few models have → what they are called beside :data:`USUAL`."""

USUAL = ("embeddings", "heads", "norms", "biases")


def outside(kinds: Collection[str]) -> str:
    """What linear layers are not, by the kinds of what changed.

    >>> outside(["embedding"]), outside(["embedding", "experts"])
    ('embeddings, heads, norms and biases', 'embeddings, heads, norms, biases and stacks of experts')
    """
    *most, last = (*USUAL, *(words for kind, words in OTHERS.items() if kind in kinds))
    return f"{', '.join(most)} and {last}"


def of_fine_tune(
    updates: Sequence[MatrixUpdate],
    vector_norm: float,
    share: float,
    skipped: Sequence[str],
    unmeasured: Sequence[str] = (),
) -> Iterator[Finding]:
    """About the whole, then about its matrices.

    Parameters
    ----------
    updates : matrices that changed.
    vector_norm : ‖·‖ of the change of norms and biases.
    share : the first share of energy.
    skipped : sentences about tensors that could not be compared.
    unmeasured : norms and biases whose change is no number.
    """
    if skipped:
        more = f" And {len(skipped) - 1:,} more." if len(skipped) > 1 else ""
        yield found(codes.UNCOMPARED, skipped[0] + more)
    linear = sum(update.norm**2 for update in updates if update.linear)
    others = [update for update in updates if not update.linear]
    rest = sum(update.norm**2 for update in others) + vector_norm**2
    if rest > OUTSIDE * (linear + rest):
        yield found(
            codes.OUTSIDE,
            f"{percent(rest / (linear + rest))} of ‖ΔW‖² is in {outside({update.kind for update in others})}.",
        )
    for key in unmeasured:
        yield found(codes.NAN, f"Not measured: it {NO_NUMBERS}.", key)
    for update in updates:
        yield from _of_matrix(update, share)


def _of_matrix(update: MatrixUpdate, share: float) -> Iterator[Finding]:
    if update.problem:
        yield found(codes.NAN, f"Not measured: it {update.problem}.", update.name)
        return
    noise = (update.rounding / update.norm) ** 2 if update.norm else 0.0
    if noise >= MOSTLY:
        yield found(
            codes.ROUNDING,
            f"Rounding to {update.dtype} alone makes about {percent(min(1.0, noise))} of its change.",
            update.name,
        )
    if update.energy_ranks and update.energy_ranks[0] is None:
        yield found(
            codes.BEYOND,
            f"{len(update.singular_values)} directions hold {percent(update.captured)} of its change, not "
            f"{percent(share)}.",
            update.name,
        )
