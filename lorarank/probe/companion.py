"""The probe once more at a low rank: the same rows in the same order, at the same rate (floor 2, torch)."""

from __future__ import annotations

import dataclasses
import shutil
from typing import Any

from accelerate import PartialState

from lorarank.probe.options import COMPANION_RANK
from lorarank.probe.progress import Progress
from lorarank.probe.training import train
from lorarank.probe.unfinished import UnfinishedProbe


def companion(probe: UnfinishedProbe) -> dict[str, Any]:
    """Held-out loss totals and target tokens per document of the companion, which itself is not kept.

    Afterwards an untrained adapter of the probe's rank is on the model again.
    """

    def measured() -> dict[str, Any]:
        options = dataclasses.replace(probe.options, rank=COMPANION_RANK)
        probe.attach(options)
        checkpoints = probe.stages.folder / "companion"
        plain = probe.training_run(0)
        stage = f"training at r = {COMPANION_RANK}"
        run = dataclasses.replace(
            plain,
            learning_rate=float(probe.rate["learning_rate"]),
            folder=checkpoints,
            checkpoint_seconds=options.checkpoint_seconds,
            on_step=lambda log: probe.report(Progress(stage, log.step, plain.schedule.steps, log.loss)),
        )
        PartialState().wait_for_everyone()
        train(probe.model, run, options, checkpoints)
        losses = probe.measure(f"held-out loss at r = {COMPANION_RANK}")
        if probe.stages.writes:
            shutil.rmtree(checkpoints, ignore_errors=True)
        PartialState().wait_for_everyone()
        probe.attach(probe.options)
        return losses

    found: dict[str, Any] = probe.stages.once("companion", measured)
    return found
