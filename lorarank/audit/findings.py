"""From measured modules to findings (floor 3). Every threshold is here, with its source, but what other stages share:
:mod:`lorarank.numerics.criteria` has that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lorarank.adapters import Adapter
from lorarank.audit import codes
from lorarank.audit.codes import Finding, found
from lorarank.audit.modules import ModuleAudit
from lorarank.audit.reduction import Reduction
from lorarank.audit.serving import Serving
from lorarank.numerics import criteria
from lorarank.numerics.measures import NOISE_RATIO, gaussian_product_participation
from lorarank.wording import percent

SHARE = 0.90
"""Energy by which saturation and spikes are judged, whatever ``--energy`` asks: a code must not change its meaning."""

LOW_SCALING, HIGH_SCALING = 1 / 16, 16.0
"""Scalings outside are odd: alpha = 16 at r = 256, and at r = 1, are the ends of what the conventions give."""

MIXED_SCALING = 1.001
"""Largest scaling over the smallest from which they count as different; alphas stored in bfloat16 differ by less."""

REDUCIBLE = 0.5
"""Share of the parameters from which what a cut would save is a finding."""


def of_module(module: ModuleAudit, shares: Sequence[float]) -> Iterator[Finding]:
    """Findings about one module, whose energy ranks are at these shares."""
    if module.figures is None:
        yield found(codes.NAN, f"Not measured: {module.problem}.", module.name)
        return
    figures, r = module.figures, module.r
    if figures.sigma_1 == 0:
        why = "its scaling is 0" if module.scaling == 0 else "lora_B·lora_A is 0, as it is before training"
        yield found(codes.DEAD, f"ΔW is zero ({why}): {module.parameters:,} parameters do nothing.", module.name)
        return
    count = len(figures.singular_values)
    known = dict(zip(shares, figures.energy_ranks, strict=True))
    rank = int(known[SHARE]) if SHARE in known else criteria.energy(figures.singular_values, SHARE)
    if figures.numerical_rank < r:
        message = f"{r - int(figures.numerical_rank)} of its {r} directions are zero to rounding."
        yield found(codes.IDLE, message, module.name)
    if count < criteria.LEAST_SATURABLE:
        return
    if rank >= criteria.SATURATED * count:
        message = f"{percent(SHARE)} of its energy takes {rank} of {count} directions (r = {r})."
        yield found(codes.SATURATED, message, module.name)
    if rank == 1:
        top = (figures.sigma_1 / figures.norm) ** 2
        yield found(codes.SPIKE, f"One of {count} directions holds {percent(top, 1)} of its energy.", module.name)
    null = gaussian_product_participation(r, module.out_features, module.in_features)
    if figures.participation_ratio >= NOISE_RATIO * null:
        message = f"Participation ratio {figures.participation_ratio:.1f}, where random factors give {null:.1f}."
        yield found(codes.NOISE, message, module.name)


def of_adapter(
    adapter: Adapter, modules: Sequence[ModuleAudit], reduction: Reduction, serving: Serving
) -> Iterator[Finding]:
    """Findings about the whole."""
    yield from _scalings(adapter, modules)
    if adapter.format == "peft":  # no such engine reads another layout
        yield from _served(modules, serving)
    if reduction.saved >= REDUCIBLE and reduction.parameters:  # an update of zero is dead, not reducible
        yield found(
            codes.REDUCIBLE,
            f"{percent(reduction.share)} of each module's energy takes {reduction.parameters:,} of "
            f"{sum(module.parameters for module in modules):,} parameters, {percent(reduction.saved, 0)} fewer.",
        )


def _served(modules: Sequence[ModuleAudit], serving: Serving) -> Iterator[Finding]:
    if serving.rescaled:
        low, high = (f"{factor:.3g}" for factor in serving.factors)
        times = low if low == high else f"{low} to {high}"
        yield found(
            codes.SERVED_PATTERNS,
            f"{serving.rescaled} of {len(modules)} modules would be served at {times} times their scaling, "
            f"which changes ΔW by {percent(serving.error, 0)} of its norm.",
        )
    if serving.too_large:
        needs = f"vLLM needs --max-lora-rank {serving.needs}" if serving.needs else "vLLM has no setting for it"
        yield found(
            codes.SERVED_RANK,
            f"{serving.too_large} of {len(modules)} modules {'has' if serving.too_large == 1 else 'have'} r above "
            f"{serving.rank}: it would not load; {needs}. "
            f"Cut to {serving.rank} it keeps {percent(serving.kept, 1)} of its energy.",
        )
    if serving.refused:
        yield found(codes.SERVED_REFUSED, f"vLLM refuses {' and '.join(serving.refused)}.")


def _scalings(adapter: Adapter, modules: Sequence[ModuleAudit]) -> Iterator[Finding]:
    sizes = [abs(module.scaling) for module in modules if module.scaling]
    if not sizes:
        return
    low, high = min(sizes), max(sizes)
    if high > MIXED_SCALING * low:
        config = adapter.config
        patterned = bool(config.get("rank_pattern")) and not config.get("alpha_pattern")
        why = "; rank_pattern is set without an alpha_pattern" if patterned else ""
        yield found(codes.MIXED_SCALING, f"Scalings run from {low:.4g} to {high:.4g}{why}.")
    negative = sum(module.scaling < 0 for module in modules)
    if negative:
        yield found(
            codes.ODD_SCALING,
            f"{negative} of {len(modules)} modules {'has' if negative == 1 else 'have'} a negative scaling, which "
            "turns the update around.",
        )
    if low < LOW_SCALING or high > HIGH_SCALING:
        many = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
        yield found(codes.ODD_SCALING, f"Scaling is {many}; alpha = r gives 1, 2r gives 2.")
