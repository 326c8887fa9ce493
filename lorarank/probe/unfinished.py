"""A probe on its way from the first token to the last measurement (floor 2, torch).

Every stage's result is kept (:mod:`lorarank.probe.stages`), so the code below reads as if nothing could interrupt it.
Under ``accelerate launch`` every process goes through the same stages; only the first writes.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from accelerate import PartialState
from numpy.typing import NDArray
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file

from lorarank import files, json_files, runs
from lorarank.corpus import Rows
from lorarank.errors import OptionError
from lorarank.numerics.paired import paired_difference
from lorarank.probe import model as models
from lorarank.probe import rate
from lorarank.probe.batches import largest_batch
from lorarank.probe.causality import packing
from lorarank.probe.grid import FIRST_RATE
from lorarank.probe.heldout import Moments, evaluate
from lorarank.probe.material import Heldout, Material
from lorarank.probe.options import MOMENT_SHARE, SEARCH_SHARE, ProbeOptions
from lorarank.probe.planning import Plan
from lorarank.probe.progress import Progress, Report
from lorarank.probe.stages import RESUME, Stages, agreed, everyones
from lorarank.probe.training import (
    Schedule,
    StepLog,
    StepLogFile,
    TrainingRun,
    newest_checkpoint,
    schedule_for,
    train,
)

SNAPSHOTS = (0.25, 0.5, 0.75)
"""How far the training is when the spectra are kept."""


@dataclass
class UnfinishedProbe:
    """One probe on its way. Each stage is a property or method; what it needs comes first by itself."""

    options: ProbeOptions
    material: Material
    plan: Plan
    stages: Stages
    report: Report
    command: tuple[str, ...]
    device: torch.device = field(init=False)
    dtype: torch.dtype = field(init=False)
    on_model: int | None = None

    def __post_init__(self) -> None:
        self.device = models.choose_device(self.options.device)
        self.dtype = models.load_dtype(self.options, self.device)

    @cached_property
    def model(self) -> PeftModel:
        """The base on its device with the adapter at its start."""
        self.report(Progress("loading the model", 0, 1))
        base = models.load_base(self.material.folder, self.options, self.device, self.dtype)
        model = models.attach_adapter(base, self.options, self.plan.target_modules)
        self.report(Progress("loading the model", 1, 1))
        return model

    def attach(self, options: ProbeOptions) -> None:
        """Put a fresh adapter of ``options.rank`` on the model, in place of the one that is there."""
        self.model = models.attach_adapter(self.model.unload(), options, self.plan.target_modules)
        self.on_model = None

    @cached_property
    def start(self) -> dict[str, torch.Tensor]:
        """The adapter's weights before any training."""
        return models.adapter_weights(self.model)

    @cached_property
    def packed(self) -> bool:
        """Whether several documents may share a row."""
        _ = self.start
        return bool(self.stages.once("packing", lambda: packing(self.model, self.dtype, self.options.model)))

    @cached_property
    def heldout(self) -> Heldout:
        """The held-out rows."""
        return self.material.heldout(self.packed)

    def heldout_part(self, share: float) -> Heldout:
        """Rows of the first of the held-out documents, see :meth:`Material.heldout_part`."""
        return self.material.heldout(self.packed, self.material.heldout_part(share))

    @cached_property
    def batch(self) -> dict[str, float]:
        """``rows`` in one forward and backward pass: a whole step where the memory of every process allows, else half
        as many, and so on; ``seconds`` of a whole step."""
        rows = self.material.rows(0, self.options.seed, self.packed)
        world = PartialState().num_processes
        most, left = divmod(self.material.rows_per_step, world)
        if left or not most:
            raise OptionError(
                "--batch-tokens",
                f"{world} processes cannot share the {self.material.rows_per_step} rows of a step evenly",
                do=f"give --batch-tokens {world * max(1, most) * self.material.row_length}",
            )

        def fits() -> dict[str, float]:
            all_found = everyones(largest_batch(self.model, self.material, rows, most, self.dtype))
            return {"rows": min(one["rows"] for one in all_found), "seconds": max(one["seconds"] for one in all_found)}

        found: dict[str, float] = self.stages.once("batch", fits)
        return found

    @property
    def micro_rows(self) -> int:
        """Rows in one forward and backward pass."""
        return int(self.batch["rows"])

    @cached_property
    def tokens(self) -> int:
        """Training tokens per replicate: asked for, or what fits the minutes at the measured speed."""
        if self.options.minutes is None:
            return self.options.token_budget
        step = self.batch["seconds"]

        def fitting() -> int:
            per_token = step / self.material.step_tokens
            # forward alone is a third of a step; the held-out set is what the plan made it
            evaluation = self.plan.evaluations * self.heldout.tokens * per_token / 3
            spare = (self.options.minutes or 0.0) * 60 - evaluation
            steps = spare / step / (self.options.adapters + SEARCH_SHARE)
            return agreed(max(1, int(steps)) * self.material.step_tokens)

        return int(self.stages.once("budget", fitting))

    def schedule(self, replicate: int) -> tuple[Rows, Schedule]:
        """A replicate's rows and the order in which it sees them."""
        rows = self.material.rows(replicate, self.options.seed, self.packed)
        return rows, schedule_for(
            rows, rows_per_step=self.material.rows_per_step, tokens=self.tokens, seed=self.options.seed
        )

    def training_run(self, replicate: int) -> TrainingRun:
        """The parts of a training run that do not depend on its rate."""
        rows, schedule = self.schedule(replicate)
        return TrainingRun(rows, schedule, FIRST_RATE, self.micro_rows, self.dtype)

    @cached_property
    def rate(self) -> dict[str, Any]:
        """``learning_rate`` and the ``trials`` it was chosen from."""

        def searched() -> dict[str, Any]:
            models.restore_weights(self.model, self.start)
            given = self.options.lr
            most = rate.TRIALS if given is None else len(rate.AROUND)

            def tick(done: int, trial: runs.LearningRateTrial) -> None:
                self.report(Progress(f"learning rate {trial.learning_rate:.1e}", done, most, trial.loss))

            how = (self.model, self.training_run(0), self.options, self.stages.folder / "scratch", tick)
            chosen, trials = rate.search(*how) if given is None else (given, rate.around(*how))
            return {"learning_rate": chosen, "trials": [dataclasses.asdict(trial) for trial in trials]}

        found: dict[str, Any] = self.stages.once("rate", searched)
        return found

    @cached_property
    def base_losses(self) -> dict[str, list[float]]:
        """Held-out loss totals per document of the base, and target tokens."""

        def measured() -> dict[str, Any]:
            with models.scaled(models.lora_layers(self.model), 0.0):
                return self.measure("held-out loss of the base")

        found: dict[str, list[float]] = self.stages.once("heldout-base", measured)
        return found

    def measure(self, stage: str, moments: Moments | None = None, heldout: Heldout | None = None) -> dict[str, Any]:
        """Loss totals and target tokens per document of the model as it is: of all held-out ones, or of ``heldout``."""
        heldout = heldout or self.heldout
        losses = evaluate(
            self.model,
            heldout.rows,
            documents=heldout.pieces,
            rows_at_once=self.micro_rows,
            dtype=self.dtype,
            moments=moments,
            gradient_tokens=round(MOMENT_SHARE * self.tokens),
            tick=lambda done: self.report(Progress(stage, done, len(heldout.rows.input_ids))),
        )
        return {
            "sums": heldout.per_document(losses.sums).tolist(),
            "counts": heldout.per_document(losses.counts).tolist(),
        }

    def trained(self, replicate: int) -> dict[str, Any]:
        """Train one replicate and measure it: its held-out losses; its adapter and moments lie in the run folder."""
        name = f"heldout-{replicate}"
        if not self.stages.done(name):
            _ = self.base_losses
            self.ready(replicate)
            moments = Moments()
            self.stages.once(name, lambda: self._measured(replicate, moments))
        found: dict[str, Any] = self.stages.once(name, dict)
        return found

    def _measured(self, replicate: int, moments: Moments) -> dict[str, Any]:
        losses = self.measure("held-out loss of the probe", moments)
        if self.stages.writes:
            arrays = {}
            for module, (gram_A, gram_B) in moments.arrays().items():
                key_A, key_B = runs.moment_keys(replicate, module)
                arrays[key_A], arrays[key_B] = gram_A, gram_B
            path = self.stages.folder / f"moments-{replicate}.safetensors"
            files.write_bytes(path, safetensors.numpy.save(arrays))
        return losses

    def ready(self, replicate: int) -> None:
        """Bring a replicate's trained adapter onto the model: from its folder, or by training it."""
        if self.on_model == replicate:
            return
        folder = self.options.output / runs.adapter_name(replicate)
        if folder.is_dir():
            set_peft_model_state_dict(self.model, load_file(folder / "adapter_model.safetensors"))
        else:
            self.stages.once(f"training-{replicate}", lambda: self._train(replicate, folder))
        self.on_model = replicate

    def _train(self, replicate: int, folder: Path) -> int:
        """Train a replicate from the start or its newest checkpoint and save its adapter; its number of steps."""
        _ = self.rate  # whose search trains the adapter too
        models.restore_weights(self.model, self.start)
        plain = self.training_run(replicate)
        total = plain.schedule.steps
        stage = "training" if self.options.replicates == 1 else f"training replicate {replicate + 1}"

        def on_snapshot(step: int, found: dict[str, NDArray[np.float64]]) -> None:
            if self.stages.writes:
                values = {name: [float(f"{value:.7g}") for value in row] for name, row in found.items()}
                self.snapshot(step).parent.mkdir(exist_ok=True)
                json_files.write_json(self.snapshot(step), values)

        steps = self.snapshot_steps(total) if replicate == 0 else ()
        run = dataclasses.replace(plain, snapshot_steps=steps, on_snapshot=on_snapshot)
        name, log = f"replicate-{replicate}", self.options.output / runs.LOG
        with self.training(run, self.options, name, log, stage, replicate):
            if self.stages.writes:
                self._save_adapter(folder)
        return total

    @contextmanager
    def training(
        self, run: TrainingRun, options: ProbeOptions, name: str, log: Path, stage: str, replicate: int = 0
    ) -> Iterator[None]:
        """Train the adapter on the model at the probe's rate, from the newest checkpoint where there is one.

        Checkpoints lie in the stages' folder under ``name``. The block keeps what came of the training; then they go.
        """
        checkpoints = self.stages.folder / name
        resumed = newest_checkpoint(checkpoints) if self.stages.writes else None
        file = StepLogFile(log, replicate, resumed) if self.stages.writes else None
        PartialState().wait_for_everyone()

        def on_step(entry: StepLog) -> None:
            if file is not None:
                file.append(entry)
            self.report(Progress(stage, entry.step, run.schedule.steps, entry.loss))

        whole = dataclasses.replace(
            run,
            learning_rate=float(self.rate["learning_rate"]),
            folder=checkpoints,
            checkpoint_seconds=options.checkpoint_seconds,
            on_step=on_step,
        )
        train(self.model, whole, options, checkpoints)
        yield
        if self.stages.writes:
            shutil.rmtree(checkpoints, ignore_errors=True)
        PartialState().wait_for_everyone()

    @staticmethod
    def snapshot_steps(steps: int) -> tuple[int, ...]:
        """Steps after which the spectra are kept."""
        return tuple(sorted({max(1, round(share * steps)) for share in SNAPSHOTS} - {steps}))

    def snapshot(self, step: int) -> Path:
        """Where the spectra after ``step`` are kept until the end."""
        return self.stages.folder / "snapshots" / f"{step}.json"

    def _save_adapter(self, folder: Path) -> None:
        """An ordinary PEFT adapter folder, moved into place when it is whole."""
        temporary = self.stages.folder / folder.name
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            self.model.save_pretrained(str(temporary), save_embedding_layers=False)
            temporary.replace(folder)
        except OSError as error:
            raise files.disk_error(folder, error, do=RESUME) from None


def excess(losses: Mapping[str, Sequence[float]], whole: Mapping[str, Sequence[float]]) -> runs.Loss:
    """What some or all of the held-out documents lose beyond the ``whole`` probe, paired document by document.

    Both hold ``sums`` and ``counts`` a document, those of ``losses`` for the first documents of ``whole``.

    >>> excess({"sums": [2.0, 3.0]}, {"sums": [1.0, 2.0, 9.0], "counts": [1, 1, 1]})
    Loss(mean=1.0, se=0.0)
    """
    first = len(losses["sums"])
    return runs.Loss(*paired_difference(losses["sums"], whole["sums"][:first], whole["counts"][:first]))
