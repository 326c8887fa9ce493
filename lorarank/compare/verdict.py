"""What the agreement of two updates means for merging them (floor 2).

With ρ the agreement, ‖ΔW₁ + ΔW₂‖² = ‖ΔW₁‖² + ‖ΔW₂‖² + 2ρ·‖ΔW₁‖·‖ΔW₂‖. That identity is all that is certain here;
whether a merged model does both tasks, only trying it tells. Every threshold below is a convention, with what it
amounts to by the identity.
"""

from __future__ import annotations

from dataclasses import dataclass

ORTHOGONAL = 0.1
"""|ρ| up to which two updates count as nearly orthogonal: the sum of two of one size is within 5 % of the size it has
at ρ = 0. A convention. That updates of different tasks are about orthogonal and can be added was observed on whole
fine-tunes by Ilharco et al., Editing Models with Task Arithmetic, 2023 (arXiv:2212.04089)."""

ALIGNED = 0.5
"""ρ from which two updates count as strongly aligned: the mean of two of one size keeps at least 87 % of it. A
convention."""

SAME_SIZE = 2.0
"""Ratio of norms up to which two updates count as of one size. A convention."""

SHARED_SPANS = 0.5
"""Subspace agreement on both sides from which two updates are in the same directions: half of each span lies in the
other. A convention. Conflicts there are what TIES resolves (Yadav et al., 2023, arXiv:2306.01708)."""

MEANING = {
    "orthogonal": "adding the two interferes little",
    "entangled": "about orthogonal as a whole, but in the same directions: adding may interfere there, so test it",
    "aligned": "averaging the two keeps what they share",
    "unequal": "aligned, but one is far larger: an average is mostly that one, made smaller",
    "overlapping": "adding counts the common part twice, averaging halves what each has alone",
    "opposed": "adding cancels what was learned: they conflict",
    "nothing": "an update is zero, so there is nothing to merge",
}
"""Kind of a verdict → what it means."""

TOOLS = (
    "lorarank does not merge. PEFT's add_weighted_adapter does for adapters of one base (combination_type cat adds "
    "them as they are; linear, svd, ties and dare_linear are others); mergekit does for whole models, each adapter "
    "merged into its base first."
)
"""Who does it."""


@dataclass(frozen=True)
class Verdict:
    """``kind`` is one of :data:`MEANING`, and ``reason`` says it in a sentence."""

    kind: str
    reason: str


def verdict(agreement: float, first_norm: float, second_norm: float, spans: float | None = None) -> Verdict:
    """What merging two updates would meet.

    Parameters
    ----------
    agreement : ρ, in [−1, 1].
    first_norm, second_norm : Frobenius norms.
    spans : the smaller of the subspace agreements on the two sides; ``None`` where none was taken.

    >>> verdict(0.02, 1.0, 1.0, 0.05).kind, verdict(0.02, 1.0, 1.0, 0.8).kind, verdict(-0.4, 1.0, 2.0).kind
    ('orthogonal', 'entangled', 'opposed')
    >>> verdict(0.9, 1.0, 1.5).kind, verdict(0.9, 1.0, 3.0).kind, verdict(0.3, 1.0, 1.0).kind, verdict(0, 0, 1).kind
    ('aligned', 'unequal', 'overlapping', 'nothing')
    """
    kind = _kind(agreement, first_norm, second_norm, spans)
    return Verdict(kind, f"{kind.capitalize()} (ρ = {round(agreement, 3) + 0.0:.3f}): {MEANING[kind]}.")


def _kind(agreement: float, first_norm: float, second_norm: float, spans: float | None) -> str:
    small, large = sorted((first_norm, second_norm))
    if small == 0:
        return "nothing"
    if abs(agreement) <= ORTHOGONAL:
        return "entangled" if spans is not None and spans >= SHARED_SPANS else "orthogonal"
    if agreement < 0:
        return "opposed"
    if agreement < ALIGNED:
        return "overlapping"
    return "unequal" if large > SAME_SIZE * small else "aligned"
