"""What the probe's gain is compared with: token frequencies, other rows' prompts, other rates (floor 2, torch)."""

from __future__ import annotations

from typing import Any

from lorarank import json_files, runs
from lorarank.corpus import frequency_losses, with_other_prompts
from lorarank.numerics.paired import paired_difference
from lorarank.probe.options import PARTS_SHARE
from lorarank.probe.unfinished import UnfinishedProbe, excess


def controls(probe: UnfinishedProbe) -> runs.Controls:
    """The first replicate beside what knows less than it, document by document."""
    whole = probe.trained(0)
    rows, _ = probe.schedule(0)
    vocabulary = int(probe.material.config.get_text_config().vocab_size)
    known = frequency_losses(rows, probe.heldout.rows, documents=probe.heldout.pieces, vocabulary=vocabulary)
    frequencies = probe.heldout.per_document(known)
    others = other_prompts(probe)
    return runs.Controls(
        json_files.SCHEMA,
        () if probe.options.lr is None else runs.trials(probe.rate["trials"]),
        runs.Loss(*paired_difference(frequencies, whole["sums"], whole["counts"])),
        None if others is None else excess(others, whole),
    )


def other_prompts(probe: UnfinishedProbe) -> dict[str, Any] | None:
    """Losses of some held-out documents, each completion behind another row's prompt; ``None`` where rows have no
    prompts."""
    material = probe.material
    if material.kind == "text":
        return None
    part = material.heldout_part(PARTS_SHARE)
    dealt = with_other_prompts(part, row_length=material.row_length, begin=material.begin)
    if dealt is None:
        return None

    def measured() -> dict[str, Any]:
        probe.ready(0)
        return probe.measure("held-out loss with other prompts", heldout=material.heldout(probe.packed, dealt))

    found: dict[str, Any] = probe.stages.once("other-prompts", measured)
    return found
