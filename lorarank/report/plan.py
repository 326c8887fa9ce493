"""The plan of a probe as text (floor 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorarank.errors import printable
from lorarank.wording import first_few

if TYPE_CHECKING:
    from lorarank.probe.planning import Plan


def plan_text(plan: Plan) -> str:
    """What a probe is about to do, in a few lines: the model, the data, the budget, and what it will cost.

    Counts are exact; memory and time are estimates and say so.
    """
    share = plan.trainable_parameters / plan.base_parameters
    names = first_few(plan.target_modules, 12, 60)
    replicates = f" × {plan.replicates} replicates" if plan.replicates > 1 else ""
    companion = f", and once more at r = {plan.companion}" if plan.companion else ""
    search = f", after at most {plan.search_steps} steps to try learning rates" if plan.search_steps else ""
    lines = [
        ("model", f"{printable(plan.model)} ({printable(plan.model_type)}, {plan.base_parameters:,} parameters)"),
        ("adapter", f"r = {plan.rank}, alpha = {plan.alpha} on {plan.modules} modules: {names}"),
        ("trainable", f"{plan.trainable_parameters:,} parameters ({share:.2%} of the base)"),
        (
            "data",
            f"{plan.train_documents:,} documents, {plan.unique_tokens:,} tokens; "
            f"held out {plan.heldout_documents:,} documents, {plan.heldout_tokens:,} tokens",
        ),
        (
            "training",
            f"{plan.tokens:,} tokens in {plan.steps:,} steps of {plan.rows_per_step} × {plan.row_length} "
            f"({plan.epochs:.2g} passes){replicates}{companion}{search}",
        ),
        ("measuring", f"about {plan.evaluations:.0f} passes over the held-out tokens"),
        ("device", f"{plan.device}, {plan.precision}"),
        ("memory", f"about {plan.memory_bytes / 2**30:.1f} GiB"),
        ("time", f"about {duration(plan.seconds)}"),
    ]
    return "\n".join(f"{name:<10} {text}" for name, text in lines) + "".join(
        f"\n{'note':<10} {printable(note)}" for note in plan.notes
    )


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> duration(42), duration(400), duration(8000)
    ('42 s', '7 min', '2.2 h')
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
