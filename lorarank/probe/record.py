"""The files of a finished probe, the manifest last (floor 2, torch)."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray

from lorarank import files, json_files, runs
from lorarank.module_names import module_type
from lorarank.numerics.paired import paired_difference, ratio_mean
from lorarank.probe import companion
from lorarank.probe import model as models
from lorarank.probe.controls import controls
from lorarank.probe.cut import truncated
from lorarank.probe.options import COMPANION_RANK, CUTS_SHARE, OPTIMISER, PARTS_SHARE, SCHEDULE
from lorarank.probe.planning import truncation_ranks
from lorarank.probe.provenance import provenance
from lorarank.probe.training import read_log
from lorarank.probe.unfinished import UnfinishedProbe, excess


def truncation(probe: UnfinishedProbe) -> runs.Truncation:
    """The first replicate cut to each rank, and with each module type switched off, on some of the held-out documents.

    A cut's loss is that of the whole probe and what the cut adds to it.
    """
    whole = probe.trained(0)
    mean, se = ratio_mean(whole["sums"], whole["counts"])
    some, few = probe.heldout_part(CUTS_SHARE), probe.heldout_part(PARTS_SHARE)
    ranks = truncation_ranks(probe.options.rank)
    layers = {name: module_type(name) for name in models.lora_layers(probe.model)}
    types = sorted(set(layers.values()))
    points, without = [], []
    for rank in ranks:

        def cut(rank: int = rank) -> dict[str, Any]:
            probe.ready(0)
            with truncated(probe.model, rank):
                return probe.measure(f"cut to rank {rank}", heldout=some)

        added = excess(probe.stages.once(f"cut-{rank:03}", cut), whole)
        points.append(runs.TruncationPoint(rank, runs.Loss(mean + added.mean, math.hypot(se, added.se)), added))
    for kind in types:

        def off(kind: str = kind) -> dict[str, Any]:
            probe.ready(0)
            found = {n: x for n, x in models.lora_layers(probe.model).items() if layers[n] == kind}
            with models.scaled(found, 0.0):
                return probe.measure(f"without {kind}", heldout=few)

        losses = probe.stages.once(f"without-{types.index(kind):03}", off)
        without.append(runs.TypeWithout(kind, list(layers.values()).count(kind), excess(losses, whole)))
    return runs.Truncation(
        json_files.SCHEMA, "weight", probe.options.rank, len(some.keys), tuple(points), tuple(without)
    )


def trajectory(probe: UnfinishedProbe) -> runs.Trajectory:
    """The spectra kept on the way."""
    steps = probe.schedule(0)[1].steps
    points = []
    for step in probe.snapshot_steps(steps):
        kept = json.loads(probe.snapshot(step).read_text(encoding="utf-8"))
        points.append(runs.TrajectoryPoint(step, step / steps, {n: tuple(v) for n, v in kept.items()}))
    return runs.Trajectory(json_files.SCHEMA, tuple(points))


def companion_of(probe: UnfinishedProbe) -> runs.Companion:
    """What the low rank loses against the first replicate, document by document."""
    whole, losses = probe.trained(0), companion.companion(probe)
    return runs.Companion(
        json_files.SCHEMA,
        COMPANION_RANK,
        runs.Loss(*ratio_mean(losses["sums"], whole["counts"])),
        excess(losses, whole),
        behind_by_quarter(
            [line["loss"] for line in read_log(probe.stages.folder / companion.LOG)],
            [line["loss"] for line in read_log(probe.options.output / runs.LOG) if line["replicate"] == 0],
        ),
    )


def behind_by_quarter(low: Sequence[float], whole: Sequence[float]) -> tuple[runs.Loss, ...]:
    """How far the first of two trainings on the same rows is behind, step by step: mean and standard error over each
    quarter's steps; nothing where there are fewer steps than quarters.

    >>> [quarter.mean for quarter in behind_by_quarter([4, 3, 3, 2], [4, 2, 1, 1])]
    [0.0, 1.0, 2.0, 1.0]
    """
    if len(low) < 4:
        return ()
    quarters = np.array_split(np.subtract(low, whole), 4)
    return tuple(runs.Loss(*paired_difference(part, np.zeros(part.size), np.ones(part.size))) for part in quarters)


def write(probe: UnfinishedProbe) -> None:
    """The files of the run, the manifest last."""
    output, replicates = probe.options.output, range(probe.options.replicates)
    json_files.write_json(output / runs.TRUNCATION, truncation(probe))
    json_files.write_json(output / runs.TRAJECTORY, trajectory(probe))
    if probe.options.has_companion:
        json_files.write_json(output / runs.COMPANION, companion_of(probe))
    json_files.write_json(output / runs.CONTROLS, controls(probe))
    moments: dict[str, NDArray[Any]] = {}
    for replicate in replicates:
        moments |= safetensors.numpy.load_file(probe.stages.folder / f"moments-{replicate}.safetensors")
    files.write_bytes(output / runs.MOMENTS, safetensors.numpy.save(moments))
    counts, base = probe.base_losses["counts"], probe.base_losses["sums"]
    probes = [probe.trained(replicate)["sums"] for replicate in replicates]
    json_files.write_json(
        output / runs.HELDOUT,
        {
            "schema": json_files.SCHEMA,
            "documents": list(probe.heldout.keys),
            "target_tokens": counts,
            "base": base,
            "probes": probes,
        },
    )
    heldout = runs.HeldoutFacts(
        runs.Loss(*ratio_mean(base, counts)),
        tuple(runs.Loss(*ratio_mean(sums, counts)) for sums in probes),
        tuple(runs.Loss(*paired_difference(base, sums, counts)) for sums in probes),
    )
    json_files.write_json(output / runs.MANIFEST, manifest(probe, heldout))
    probe.stages.close()


def manifest(probe: UnfinishedProbe, heldout: runs.HeldoutFacts) -> runs.Manifest:
    """Everything needed to do it again."""
    return runs.Manifest(
        **provenance(probe.command),
        base=_base_facts(probe),
        data=_data_facts(probe),
        training=_training_facts(probe),
        heldout=heldout,
        wall_seconds=probe.stages.seconds(),
    )


def _base_facts(probe: UnfinishedProbe) -> runs.BaseFacts:
    options, plan = probe.options, probe.plan
    return runs.BaseFacts(
        source=options.model,
        revision=_revision(probe.material.folder),
        model_type=plan.model_type,
        parameters=plan.base_parameters,
        dtype=str(probe.dtype).removeprefix("torch."),
        quantization="nf4, double quantisation" if options.load_in_4bit else None,
    )


def _data_facts(probe: UnfinishedProbe) -> runs.DataFacts:
    options, material, heldout = probe.options, probe.material, probe.heldout
    distinct, known = material.repeated()
    return runs.DataFacts(
        source=options.data,
        heldout_source=options.val,
        kind=material.kind,
        fingerprint=material.fingerprint,
        train_documents=material.documents,
        heldout_documents=len(heldout.keys),
        unique_tokens=material.unique_tokens,
        unique_target_tokens=material.unique_target_tokens,
        heldout_tokens=heldout.tokens,
        heldout_target_tokens=heldout.target_tokens,
        skipped_rows=len(material.skipped),
        truncated_documents=material.truncated,
        row_length=material.row_length,
        packed=probe.packed,
        distinct_target_tokens=distinct,
        known_targets=known,
        read_share=material.excerpt.share,
    )


def _training_facts(probe: UnfinishedProbe) -> runs.TrainingFacts:
    options, plan = probe.options, probe.plan
    losses = [line["loss"] for line in read_log(options.output / runs.LOG) if line["replicate"] == 0]
    tail = losses[-max(1, len(losses) // 10) :]
    head = losses[: max(1, len(losses) // 50)]
    rows, schedule = probe.schedule(0)
    trained = schedule.tokens(rows)
    return runs.TrainingFacts(
        rank=options.rank,
        alpha=options.alpha,
        target=options.target,
        target_modules=plan.target_modules,
        trainable_parameters=plan.trainable_parameters,
        learning_rate=float(probe.rate["learning_rate"]),
        learning_rate_trials=runs.trials(probe.rate["trials"]) if options.lr is None else (),
        schedule=SCHEDULE,
        optimiser=OPTIMISER,
        steps=schedule.steps,
        rows_per_step=schedule.rows_per_step,
        batch_tokens=probe.material.step_tokens,
        trained_tokens=trained,
        epochs=probe.material.epochs(trained, rows),
        replicates=options.replicates,
        seed=options.seed,
        device=_device_name(probe.device),
        precision=plan.precision,
        first_loss=float(np.mean(head)),
        final_loss=float(np.mean(tail)),
    )


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({torch.get_num_threads()} threads)" if device.type == "cpu" else str(device)


def _revision(folder: Path) -> str | None:
    """The commit of a hub snapshot, which the hub's cache has as the folder's name."""
    return folder.name if folder.parent.name == "snapshots" else None
