"""The probe once more at a low rank: the same rows in the same order, at the same rate (floor 2, torch)."""

from __future__ import annotations

import dataclasses
from typing import Any

from lorarank.probe.options import COMPANION_RANK
from lorarank.probe.unfinished import UnfinishedProbe

LOG = "companion.jsonl"
"""The steps of the companion, in the folder of the stages."""


def companion(probe: UnfinishedProbe) -> dict[str, Any]:
    """Held-out loss totals and target tokens per document of the companion, which itself is not kept.

    Afterwards an untrained adapter of the probe's rank is on the model again.
    """

    def measured() -> dict[str, Any]:
        options = dataclasses.replace(probe.options, rank=COMPANION_RANK)
        probe.attach(options)
        log, stage = probe.stages.folder / LOG, f"training at r = {COMPANION_RANK}"
        with probe.training(probe.training_run(0), options, "companion", log, stage):
            losses = probe.measure(f"held-out loss at r = {COMPANION_RANK}")
        probe.attach(probe.options)
        return losses

    found: dict[str, Any] = probe.stages.once("companion", measured)
    return found
