"""A finished probe on a sheet, as JSON and as rows (floor 4); what follows from it is an estimate's business."""

from __future__ import annotations

import dataclasses

from lorarank.report.chapters import measured
from lorarank.report.json_text import as_json
from lorarank.report.plain import Records, Sheet
from lorarank.runs import Run
from lorarank.wording import within


def headline(run: Run) -> str:
    """What the probe gained."""
    gains = ", ".join(f"{one.mean:.3f}{within(one.se, 3)}" for one in run.manifest.heldout.gains)
    return f"Probed at R = {run.manifest.training.rank}: it gains {gains} nats per token on held-out text."


def lay(page: Sheet, run: Run) -> None:
    """The gain, and how it was measured."""
    page.head(headline(run), good=all(one.mean > 0 for one in run.manifest.heldout.gains))
    page.facts(measured.facts(run))


def to_json(run: Run) -> str:
    """The manifest, the truncation curve and the companion, ``null`` without one, as JSON with sorted keys."""
    manifest, truncation = dataclasses.asdict(run.manifest), dataclasses.asdict(run.truncation)
    companion = None if run.companion is None else dataclasses.asdict(run.companion)
    return as_json(manifest | {"folder": str(run.folder), "truncation": truncation, "companion": companion})


def rows(run: Run) -> Records:
    """One row per point of the truncation curve: losses in nats per target token."""
    points = run.truncation.points
    return Records(
        ("k", "loss", "loss_se", "excess", "excess_se"),
        tuple((one.k, one.loss.mean, one.loss.se, one.excess.mean, one.excess.se) for one in points),
    )
