"""The files a probe leaves, as values (floor 1): what is in them, how they are written and read.

``RUN/manifest.json`` is written last, so a folder that has one is a finished run. Everything is JSON with sorted keys
or safetensors, written to a temporary name and moved into place, so that no reader ever sees half a file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorarank.errors import RunError
from lorarank.json_files import read_json
from lorarank.result import Result
from lorarank.sources import on_disk

MANIFEST, TRUNCATION, TRAJECTORY, HELDOUT = "manifest.json", "truncation.json", "trajectory.json", "heldout.json"
COMPANION, CONTROLS = "companion.json", "controls.json"
MOMENTS, LOG, PROGRESS = "moments.safetensors", "log.jsonl", ".progress"

LEAST: Mapping[str, int] = {"rank": 1, "alpha": 1, "steps": 0, "replicates": 1, "k": 1}
"""Numbers in the files → the least that each can be; logarithms and lengths are taken of them."""


@dataclass(frozen=True)
class Loss:
    """A mean in nats per target token with its standard error over documents (NaN where there is one document)."""

    mean: float
    se: float


@dataclass(frozen=True)
class BaseFacts:
    """The base model: where it came from and how it was loaded. ``parameters`` counts all of them, tied ones once."""

    source: str
    revision: str | None
    model_type: str
    parameters: int
    dtype: str
    quantization: str | None


@dataclass(frozen=True)
class DataFacts:
    """The data. ``unique_*`` count distinct training documents once; targets are the tokens that carry loss.

    ``distinct_target_tokens`` counts each run of them once, however it is asked for, and ``known_targets`` is the share
    of the held-out documents whose targets training told, too; ``None`` in runs of an older kind. Of large data a
    ``read_share`` was read, and the counts of tokens follow from that.
    """

    source: str
    heldout_source: str | None
    kind: str
    fingerprint: str
    train_documents: int
    heldout_documents: int
    unique_tokens: int
    unique_target_tokens: int
    heldout_tokens: int
    heldout_target_tokens: int
    skipped_rows: int
    truncated_documents: int
    row_length: int
    packed: bool
    distinct_target_tokens: int | None = None
    known_targets: float | None = None
    read_share: float = 1.0


@dataclass(frozen=True)
class LearningRateTrial:
    """One short trial of the learning-rate search: its rate, steps, and loss afterwards on rows it did not train on."""

    learning_rate: float
    steps: int
    loss: float


def trials(plain: Sequence[Mapping[str, Any]]) -> tuple[LearningRateTrial, ...]:
    """Trials from their JSON, where a loss that is no number is null."""
    return tuple(
        LearningRateTrial(**{**trial, "loss": math.nan if trial["loss"] is None else float(trial["loss"])})
        for trial in plain
    )


@dataclass(frozen=True)
class TrainingFacts:
    """How the probe was trained. ``trained_tokens`` and ``epochs`` are per replicate; padding is not counted."""

    rank: int
    alpha: int
    target: str
    target_modules: tuple[str, ...]
    trainable_parameters: int
    learning_rate: float
    learning_rate_trials: tuple[LearningRateTrial, ...]
    schedule: str
    optimiser: str
    steps: int
    rows_per_step: int
    batch_tokens: int
    trained_tokens: int
    epochs: float
    replicates: int
    seed: int
    device: str
    precision: str
    first_loss: float
    final_loss: float


@dataclass(frozen=True)
class HeldoutFacts:
    """Held-out losses of the base and of each replicate, and the paired gain of each over the base."""

    base: Loss
    probes: tuple[Loss, ...]
    gains: tuple[Loss, ...]


@dataclass(frozen=True)
class Manifest:
    """``manifest.json``: everything needed to know what was done, and to do it again."""

    schema: int
    lorarank: str
    versions: Mapping[str, str]
    command: tuple[str, ...]
    created: str
    base: BaseFacts
    data: DataFacts
    training: TrainingFacts
    heldout: HeldoutFacts
    wall_seconds: Mapping[str, float]


@dataclass(frozen=True)
class TruncationPoint:
    """The probe cut to rank ``k`` everywhere: its loss, and the paired excess over the uncut probe."""

    k: int
    loss: Loss
    excess: Loss


@dataclass(frozen=True)
class TypeWithout:
    """The probe with every module of one type switched off: the paired excess over the whole probe."""

    type: str
    modules: int
    excess: Loss


@dataclass(frozen=True)
class Truncation:
    """``truncation.json``: held-out loss against k in one metric, and what each module type is worth.

    ``documents`` is on how many of the held-out documents the cuts were measured, the types being left out on no more.
    """

    schema: int
    metric: str
    rank: int
    documents: int
    points: tuple[TruncationPoint, ...]
    without: tuple[TypeWithout, ...]


@dataclass(frozen=True)
class Companion:
    """``companion.json``: the same probe at a low ``rank``, its loss and the paired excess over the first replicate.

    ``training`` is the excess on the rows both trained on, step by step, for each quarter of the training.
    """

    schema: int
    rank: int
    loss: Loss
    excess: Loss
    training: tuple[Loss, ...] = ()


@dataclass(frozen=True)
class Controls:
    """``controls.json``: what tells a gain that means something from one that does not, for the first replicate.

    ``rates`` are trials around a learning rate that was given. ``over_frequencies`` is the paired gain over a model
    that knows token frequencies alone; ``other_prompts`` the paired loss added where each held-out completion stands
    behind another row's prompt, ``None`` where rows have no prompts.
    """

    schema: int
    rates: tuple[LearningRateTrial, ...]
    over_frequencies: Loss
    other_prompts: Loss | None


@dataclass(frozen=True)
class TrajectoryPoint:
    """The spectra part of the way: ``singular_values`` maps module names to descending σ, scaling included."""

    step: int
    fraction: float
    singular_values: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Trajectory:
    """``trajectory.json``: spectra of the first replicate at a quarter, half and three quarters of the way."""

    schema: int
    points: tuple[TrajectoryPoint, ...]


@dataclass(frozen=True)
class Run(Result):
    """A finished run folder. ``adapters`` are its PEFT adapter folders, the first replicate first; ``companion`` and
    ``controls`` are ``None`` where there are none."""

    folder: Path
    manifest: Manifest
    truncation: Truncation
    trajectory: Trajectory
    companion: Companion | None = None
    controls: Controls | None = None

    @property
    def adapters(self) -> tuple[Path, ...]:
        """The adapter folders, one a replicate."""
        return tuple(self.folder / adapter_name(i) for i in range(self.manifest.training.replicates))

    @property
    def other_prompts(self) -> Loss | None:
        """That of the controls: the loss added behind another row's prompt, where it was measured."""
        return None if self.controls is None else self.controls.other_prompts

    @property
    def moments(self) -> Path:
        """The r×r second moments; see :func:`moment_keys` for the names inside."""
        return self.folder / MOMENTS


def adapter_name(replicate: int) -> str:
    """Folder name of a replicate's adapter.

    >>> adapter_name(0), adapter_name(1)
    ('adapter', 'adapter-1')
    """
    return "adapter" if replicate == 0 else f"adapter-{replicate}"


def moment_keys(replicate: int, module: str) -> tuple[str, str]:
    """Keys of a module in ``moments.safetensors``: ``lora_A·C·lora_Aᵀ`` and ``lora_Bᵀ·G·lora_B``, (r, r) each.

    >>> moment_keys(0, "layers.0.q_proj")
    ('adapter.layers.0.q_proj.gram_A', 'adapter.layers.0.q_proj.gram_B')
    """
    stem = f"{adapter_name(replicate)}.{module}"
    return f"{stem}.gram_A", f"{stem}.gram_B"


def is_run(folder: Path) -> bool:
    """Whether ``folder`` is a run folder, finished or not, or what is left of one."""
    return any((folder / name).is_file() for name in (MANIFEST, TRUNCATION)) or (folder / PROGRESS).is_dir()


def folder_of(source: str | Path, holds: Callable[[Path], bool] = is_run) -> Path | None:
    """The run folder that is meant, ``~`` being the home folder; ``None`` where the source is anything else.

    What cannot be looked at is anything else as well: opening it says what is wrong.

    Parameters
    ----------
    holds : what makes it such a folder, for folders of another kind.

    >>> folder_of("no-such-run"), folder_of("a" * 300)
    (None, None)
    """
    try:
        folder = on_disk(source)
        return folder if folder is not None and holds(folder) else None
    except OSError:
        return None


def read(folder: Path) -> Run:
    """Read a finished run.

    Raises
    ------
    RunError
        The run was cut short, or one of its files is missing, damaged or of another schema.
    """
    if not (folder / MANIFEST).is_file():
        if (folder / PROGRESS).is_dir():
            raise RunError(folder, "the probe was cut short", do="finish it with the same command and --resume")
        if (folder / TRUNCATION).is_file():
            raise RunError(folder / MANIFEST, "the file is missing", do="take the folder as the probe left it")
        raise RunError(folder, f"there is no {MANIFEST} here, so it is not a run", do="give the folder `probe -o` made")
    manifest = read_json(folder / MANIFEST, Manifest)
    there = {
        name: (folder / name).is_file() or stage in manifest.wall_seconds
        for name, stage in ((COMPANION, "companion"), (CONTROLS, "other-prompts"))
    }
    run = Run(
        folder,
        manifest,
        read_json(folder / TRUNCATION, Truncation),
        read_json(folder / TRAJECTORY, Trajectory),
        read_json(folder / COMPANION, Companion) if there[COMPANION] else None,
        read_json(folder / CONTROLS, Controls) if there[CONTROLS] else None,
    )
    of_truncation = ((TRUNCATION, facts) for facts in (run.truncation, *run.truncation.points))
    for name, facts in ((MANIFEST, manifest.training), *of_truncation, (COMPANION, run.companion)):
        for field, least in LEAST.items():
            if getattr(facts, field, least) < least:
                raise RunError(f"{folder / name}: {field}", f"it is below {least}", do="run the probe again")
    if not len(manifest.heldout.gains) == len(manifest.heldout.probes) == manifest.training.replicates:
        raise RunError(folder / MANIFEST, "heldout.gains and heldout.probes are not one for each replicate")
    return run
