"""How a probe was measured, from its manifest (floor 4)."""

from __future__ import annotations

import math
import shlex

from lorarank.errors import printable
from lorarank.report.chapters.blocks import Block, Chapter, Facts, Table
from lorarank.report.plain import Grid
from lorarank.runs import Run
from lorarank.wording import percent, within


def facts(run: Run) -> tuple[tuple[str, str], ...]:
    """Base, data, training, held-out losses, machine and versions, as label and text."""
    manifest = run.manifest
    base, data, training, heldout = manifest.base, manifest.data, manifest.training, manifest.heldout
    revision = f" at {base.revision}" if base.revision else ""
    quantized = f", {base.quantization}" if base.quantization else ""
    packed = "packed" if data.packed else "not packed"
    part = "" if data.read_share == 1 else f"; tokens as in the {percent(data.read_share, 1)} of them that were read"
    total = manifest.wall_seconds.get("total", sum(manifest.wall_seconds.values()))
    found = [
        ("command", shlex.join(manifest.command) or "none: called from Python"),
        (
            "base",
            f"{base.source}{revision}, {base.model_type}, {base.parameters:,} parameters, {base.dtype}{quantized}",
        ),
        (
            "training data",
            f"{data.source}: {data.train_documents:,} documents ({data.kind}), {data.unique_tokens:,} tokens, "
            f"{data.unique_target_tokens:,} of them targets; {data.skipped_rows:,} rows skipped, "
            f"{data.truncated_documents:,} documents truncated{part}",
        ),
        (
            "held-out data",
            f"{data.heldout_source or 'a part of the training data, by hash'}: {data.heldout_documents:,} documents, "
            f"{data.heldout_target_tokens:,} target tokens",
        ),
        ("rows", f"{data.row_length:,} tokens, {packed}, {training.rows_per_step:,} a step"),
        ("adapter", f"R = {training.rank}, lora_alpha {training.alpha}, on {', '.join(training.target_modules)}"),
        (
            "training",
            f"{training.steps:,} steps of {training.batch_tokens:,} tokens, {training.trained_tokens:,} in all "
            f"({training.epochs:.2g} epochs), {training.replicates} replicate{'s' if training.replicates > 1 else ''}, "
            f"seed {training.seed}",
        ),
        ("optimiser", f"{training.optimiser}; {training.schedule}; learning rate {training.learning_rate:.3g}"),
        ("training loss", f"{training.first_loss:.4f} at the start, {training.final_loss:.4f} at the end"),
        (
            "held-out loss",
            f"{heldout.base.mean:.4f}{within(heldout.base.se)} before; "
            + ", ".join(f"{one.mean:.4f}{within(one.se)}" for one in heldout.probes)
            + " after, nats per target token",
        ),
        ("machine", f"{training.device}, {training.precision}, {total / 60:,.1f} minutes"),
        ("made", f"{manifest.created} by lorarank {manifest.lorarank}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in sorted(manifest.versions.items()))),
        ("data fingerprint", data.fingerprint),
    ]
    return tuple((name, printable(text, 1000)) for name, text in found)


def chapter(run: Run) -> Chapter:
    """The same, and the search for the learning rate."""
    training = run.manifest.training
    blocks: list[Block] = [Facts(facts(run))]
    if training.learning_rate_trials:
        rows = tuple(
            (
                f"{trial.learning_rate:.3g}",
                str(trial.steps),
                f"{trial.loss:.4f}" if math.isfinite(trial.loss) else "not finite" if trial.steps else "not tried",
            )
            for trial in training.learning_rate_trials
        )
        rates = [trial.learning_rate for trial in training.learning_rate_trials]
        grid = Grid("The search for the learning rate", ("rate", "steps", "loss afterwards"), (True,) * 3, rows)
        marked = rates.index(training.learning_rate) if training.learning_rate in rates else None
        blocks.append(Table(grid, marked=marked, mark="chosen"))
    return Chapter("measured", "How it was measured", tuple(blocks))
