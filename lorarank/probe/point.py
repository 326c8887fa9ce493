"""Train one adapter, measure its held-out loss, keep nothing else: a point of a sweep (floor 2, torch)."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from peft import PeftModel

from lorarank.probe import model as models
from lorarank.probe.batches import largest_batch
from lorarank.probe.causality import packing
from lorarank.probe.contents import contents
from lorarank.probe.heldout import evaluate
from lorarank.probe.limits import check_limits
from lorarank.probe.material import Heldout, Material, gather
from lorarank.probe.modules import Aim, aim_at, target_names
from lorarank.probe.options import OPTIMISER, SCHEDULE, ProbeOptions
from lorarank.probe.training import StepLog, TrainingRun, schedule_for, train

HELDOUT_FACTOR = 2
"""A point is one pass over the held-out rows where a probe makes eight, so it can afford twice as many of them."""

ENDS = 2**20
"""Bytes at either end of a weight file that go into the names of points. They tell one model from another in no time,
but not a model from its own copy with other values in the middle: :mod:`lorarank.probe.contents` does."""


@dataclass(frozen=True)
class PointLosses:
    """What a point measured.

    ``sums`` nats and ``counts`` target tokens per held-out document; ``train_loss`` the mean of the last tenth of the
    steps, in nats per target token; ``seconds`` of training and measuring.
    """

    sums: tuple[float, ...]
    counts: tuple[int, ...]
    train_loss: float
    steps: int
    trained_tokens: int
    seconds: float


class Bench:
    """One base model and data on which point after point is trained.

    Parameters
    ----------
    options : of the points; their rank, learning rate and seed are given point by point. ``options.rank`` is the
        largest there will be.
    """

    def __init__(self, options: ProbeOptions) -> None:
        self.options = options
        self.device = models.choose_device(options.device)
        self.dtype = models.load_dtype(options, self.device)
        material = gather(options)
        self.material: Material = dataclasses.replace(material, heldout_tokens=HELDOUT_FACTOR * material.heldout_tokens)

    @cached_property
    def aim(self) -> Aim:
        """What the target means, whatever the rank."""
        return aim_at(self.skeleton, self.options.target)

    @property
    def targets(self) -> dict[str, tuple[int, int]]:
        """Path → (out, in) of the modules that get an adapter: those with room for the largest rank, at every rank."""
        return self.aim.fitting(self.options.rank).shapes

    def reach(self, rank: int) -> None:
        """Set the largest rank there will be, before there is a model: the aim says what there is room for."""
        self.options = dataclasses.replace(self.options, rank=rank)

    @cached_property
    def skeleton(self) -> Any:
        """The base without weights, with a place for all rows and words."""
        model = models.skeleton(self.material.config, self.material.folder)
        check_limits(self.material, model, self.options)
        return model

    @cached_property
    def model(self) -> PeftModel:
        """The base with the newest adapter on it; at first one of the largest rank."""
        names = target_names(self.skeleton, self.targets)
        base = models.load_base(self.material.folder, self.options, self.device, self.dtype)
        return models.attach_adapter(base, self.options, names)

    @cached_property
    def packed(self) -> bool:
        """Whether several documents may share a row."""
        return packing(self.model, self.dtype, self.options.model)

    @cached_property
    def heldout(self) -> Heldout:
        """The held-out rows."""
        return self.material.heldout(self.packed)

    @cached_property
    def micro_rows(self) -> int:
        """Rows in one pass, found with an adapter of the largest rank."""
        rows = self.material.rows(0, self.options.seed, self.packed)
        return int(largest_batch(self.model, self.material, rows, self.material.rows_per_step, self.dtype)["rows"])

    def identity(self) -> dict[str, Any]:
        """What the numbers of a point depend on, except its rank, learning rate and seed: it names the point."""
        return {
            "weights": weights_fingerprint(self.material.folder),
            "data": self.material.fingerprint,
            "heldout_tokens": self.material.heldout_tokens,
            "tokens": self.options.token_budget,
            "batch_tokens": self.material.batch_tokens,
            "row_length": self.material.row_length,
            "alpha": self.options.alpha,
            "targets": f"{len(self.targets)} modules, {_digest(sorted(self.targets))}",
            "precision": "nf4" if self.options.load_in_4bit else str(self.dtype),
            "device": self.device.type,
            "schedule": SCHEDULE,
            "optimiser": OPTIMISER,
            "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers", "peft")},
        }

    def contents(self) -> dict[str, str]:
        """Hashes of the rest that the numbers depend on: all of the weights, and the data as tokens."""
        return contents(self.material)

    def base(self) -> PointLosses:
        """The base model without any adapter."""
        begun = time.monotonic()
        _ = self.micro_rows
        with models.scaled(models.lora_layers(self.model), 0.0):
            sums, counts = self.measured()
        return PointLosses(sums, counts, float("nan"), 0, 0, time.monotonic() - begun)

    def point(
        self, rank: int, learning_rate: float, seed: int, folder: Path, on_step: Callable[[StepLog, int], None]
    ) -> PointLosses:
        """Train a fresh adapter and measure it; checkpoints lie in ``folder`` meanwhile, and are taken up from there.

        ``on_step`` is called with the log of every step and the number of steps there are.
        """
        begun = time.monotonic()
        _ = self.micro_rows
        options = dataclasses.replace(self.options, rank=rank, lr=learning_rate, seed=seed)
        names = target_names(self.skeleton, self.targets)
        self.model = models.attach_adapter(self.model.unload(), options, names)
        rows = self.material.rows(0, seed, self.packed)
        schedule = schedule_for(rows, rows_per_step=self.material.rows_per_step, tokens=options.token_budget, seed=seed)
        losses: list[float] = []

        def stepped(log: StepLog) -> None:
            losses.append(log.loss)
            on_step(log, schedule.steps)

        run = TrainingRun(
            rows,
            schedule,
            learning_rate,
            self.micro_rows,
            self.dtype,
            folder=folder,
            checkpoint_seconds=options.checkpoint_seconds,
            on_step=stepped,
        )
        train(self.model, run, options, folder)
        sums, counts = self.measured()
        tail = losses[-max(1, schedule.steps // 10) :]
        return PointLosses(
            sums,
            counts,
            float(np.mean(tail)) if tail else float("nan"),
            schedule.steps,
            schedule.tokens(rows),
            time.monotonic() - begun,
        )

    def measured(self) -> tuple[tuple[float, ...], tuple[int, ...]]:
        """Nats and target tokens per held-out document of the model as it is."""
        losses = evaluate(
            self.model,
            self.heldout.rows,
            documents=self.heldout.pieces,
            rows_at_once=self.micro_rows,
            dtype=self.dtype,
        )
        sums, counts = self.heldout.per_document(losses.sums), self.heldout.per_document(losses.counts)
        return tuple(sums.tolist()), tuple(counts.tolist())


def weights_fingerprint(folder: Path) -> str:
    """SHA-256 over the configuration, and the name, size and both ends of every weight file."""
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            size = path.stat().st_size
            digest.update(f"{path.name} {size}".encode())
            digest.update(file.read(ENDS))
            file.seek(max(0, size - ENDS))
            digest.update(file.read(ENDS))
    return digest.hexdigest()


def _digest(names: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
