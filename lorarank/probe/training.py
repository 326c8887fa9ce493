"""One training run by transformers' Trainer, with checkpoints that can be trusted (floor 2, torch).

The rows are laid out in the order they will be seen, for all steps, before training starts: the order then depends on
the seed alone, not on the micro-batch, the number of processes, or where a run was cut and resumed.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from lorarank.corpus import Rows
from lorarank.files import write_bytes
from lorarank.numerics.linalg import singular_values
from lorarank.probe.heldout import batch_of
from lorarank.probe.model import ADAPTER, lora_layers
from lorarank.probe.options import GRADIENT_CLIP, WARMUP_SHARE, ProbeOptions
from lorarank.probe.placement import arguments_on, world_size
from lorarank.probe.target_tokens import at_targets, can_narrow

COMPLETE = "complete"
"""Marker written into a checkpoint after everything else: without it the checkpoint was cut short."""

CHECKPOINT_COST = 200
"""A checkpoint may cost at most one part in this many of the time since the last one."""


@dataclass(frozen=True)
class Schedule:
    """Which rows are trained on, in which order: ``order`` (steps·rows_per_step,) int64 indices into the rows."""

    steps: int
    rows_per_step: int
    order: NDArray[np.int64]

    def first(self, steps: int) -> Schedule:
        """The first ``steps`` steps of it."""
        return dataclasses.replace(self, steps=steps, order=self.order[: steps * self.rows_per_step])

    def tokens(self, rows: Rows) -> int:
        """Tokens it trains on, padding not counted."""
        return int((rows.document[self.order] >= 0).sum())


def schedule_for(rows: Rows, *, rows_per_step: int, tokens: int, seed: int) -> Schedule:
    """The fewest whole steps that train on ``tokens`` tokens; rows come again only when all have been used.

    Every pass over the data is shuffled anew; rows left over at the end of a pass open the next step.
    """
    real = (rows.document >= 0).sum(axis=1)
    passes = math.ceil(tokens / int(real.sum())) + 1
    random = np.random.default_rng(seed)
    count = math.ceil(rows_per_step / len(real))  # tiny data: one step may need several passes
    order = np.concatenate([random.permutation(len(real)) for _ in range(passes + count)])
    needed = int(np.searchsorted(np.cumsum(real[order]), tokens)) + 1
    steps = max(1, math.ceil(needed / rows_per_step))
    return Schedule(steps, rows_per_step, order[: steps * rows_per_step])


class Ordered(Dataset[dict[str, torch.Tensor]]):
    """The rows of a schedule, in its order."""

    def __init__(self, rows: Rows, schedule: Schedule) -> None:
        self.rows, self.order = rows, schedule.order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, at: int) -> dict[str, torch.Tensor]:
        row = int(self.order[at])
        batch = batch_of(self.rows, slice(row, row + 1), torch.device("cpu"))
        return {name: values[0] for name, values in batch.items()}


@dataclass(frozen=True)
class StepLog:
    """One optimiser step: mean loss in nats per target token, the rate it used, and real tokens per second."""

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens_per_second: float


class _Bookkeeper(TrainerCallback):  # type: ignore[misc,unused-ignore]
    """Logs every step, keeps the spectra part of the way, and decides when a checkpoint is due."""

    def __init__(self, run: TrainingRun, model: PeftModel, tokens_per_step: float) -> None:
        self.run, self.model, self.tokens_per_step = run, model, tokens_per_step
        self.saved_at, self.stepped_at = time.monotonic(), time.perf_counter()
        self.save_cost = 0.0

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        if state.global_step in self.run.snapshot_steps:
            self.run.on_snapshot(state.global_step, spectra(self.model))
        due = max(self.run.checkpoint_seconds, CHECKPOINT_COST * self.save_cost)
        waited = time.monotonic() - self.saved_at
        if self.run.folder is not None and waited >= due and state.global_step < state.max_steps:
            control.should_save = True
            self.save_cost = -time.monotonic()  # completed in on_save
        return control

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        if not logs or "loss" not in logs:
            return
        now = time.perf_counter()  # a tick of the other clock on Windows, 16 ms, is longer than a step of a small model
        speed = self.tokens_per_step / max(now - self.stepped_at, 1e-9)
        self.stepped_at = now
        self.run.on_step(
            StepLog(
                state.global_step,
                float(logs["loss"]),
                float(logs["learning_rate"]),
                float(logs.get("grad_norm", math.nan)),
                speed,
            )
        )

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.is_world_process_zero:
            write_bytes(Path(args.output_dir or "") / f"checkpoint-{state.global_step}" / COMPLETE, b"")
        self.saved_at = time.monotonic()
        self.save_cost += self.saved_at


class _Probe(Trainer):  # type: ignore[misc,unused-ignore]
    """Trainer that takes the rows in the order of the schedule, and computes the logits of target tokens alone where
    the model can."""

    narrow = False

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return torch.utils.data.SequentialSampler(self.train_dataset)  # type: ignore[arg-type,unused-ignore]

    def compute_loss(self, model: Any, inputs: dict[str, Any], *others: Any, **more: Any) -> Any:
        return super().compute_loss(model, at_targets(inputs) if self.narrow else inputs, *others, **more)


@dataclass(frozen=True)
class TrainingRun:
    """What one call of :func:`train` does.

    ``warmup_share`` is the part of the steps that are warm-up: a probe's, and more where a trained adapter goes on for
    a few steps (scripts/evidence/heal.py); ``constant_rate`` leaves out warm-up and decay; ``folder`` holds the
    checkpoints (``None`` keeps none); after ``snapshot_steps`` ``on_snapshot(step, spectra)`` is called; ``on_step``
    gets the log of every step.
    """

    rows: Rows
    schedule: Schedule
    learning_rate: float
    micro_rows: int
    dtype: torch.dtype
    folder: Path | None = None
    constant_rate: bool = False
    warmup_share: float = WARMUP_SHARE
    checkpoint_seconds: float = 60.0
    snapshot_steps: tuple[int, ...] = ()
    on_step: Callable[[StepLog], None] = lambda log: None
    on_snapshot: Callable[[int, dict[str, NDArray[np.float64]]], None] = lambda step, found: None


def train(model: PeftModel, run: TrainingRun, options: ProbeOptions, scratch: Path) -> None:
    """Train the adapter on ``model`` in place, from the newest whole checkpoint in ``run.folder`` where there is one.

    ``scratch`` is a folder that Trainer may use for its own files when ``run.folder`` is ``None``.
    """
    device = next(model.parameters()).device
    # newer releases call it activation_checkpointing and warn about the name that all of them know
    checkpointing: dict[str, Any] = {"gradient_checkpointing": True} if options.gradient_checkpointing else {}
    arguments = arguments_on(
        device,
        output_dir=str(run.folder or scratch),
        max_steps=run.schedule.steps,
        per_device_train_batch_size=run.micro_rows,
        gradient_accumulation_steps=max(1, run.schedule.rows_per_step // (run.micro_rows * world_size())),
        learning_rate=run.learning_rate,
        lr_scheduler_type="constant" if run.constant_rate else "linear",
        warmup_steps=0 if run.constant_rate else max(1, round(run.warmup_share * run.schedule.steps)),
        weight_decay=0.0,
        max_grad_norm=GRADIENT_CLIP,
        optim="adamw_torch",
        bf16=run.dtype == torch.bfloat16,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",  # the bookkeeper asks for checkpoints by the clock
        save_total_limit=2,
        report_to=list(options.report_to) if run.folder is not None and options.report_to else "none",
        disable_tqdm=True,
        seed=options.seed,
        **checkpointing,
        dataloader_pin_memory=device.type == "cuda",
        dataloader_drop_last=False,
        remove_unused_columns=False,
    )
    tokens_per_step = run.schedule.tokens(run.rows) / run.schedule.steps
    trainer = _Probe(
        model=model,
        args=arguments,
        train_dataset=Ordered(run.rows, run.schedule),
        callbacks=[_Bookkeeper(run, model, tokens_per_step)],
    )
    trainer.narrow = can_narrow(model)
    for chatter in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(chatter)
    checkpoint = newest_checkpoint(run.folder) if run.folder is not None else None
    model.train()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written whole; those cut short are removed."""
    whole = []
    for path in folder.glob("checkpoint-*"):
        if (path / COMPLETE).is_file():
            whole.append(path)
        else:
            shutil.rmtree(path, ignore_errors=True)
    return max(whole, key=lambda p: int(p.name.rpartition("-")[2]), default=None)


def spectra(model: PeftModel) -> dict[str, NDArray[np.float64]]:
    """Module → singular values of its ΔW as the adapter stands now, descending, scaling included."""
    return {
        name: singular_values(
            layer.lora_A[ADAPTER].weight.detach().float().cpu().numpy(),
            layer.lora_B[ADAPTER].weight.detach().float().cpu().numpy(),
            float(layer.scaling[ADAPTER]),
        )
        for name, layer in lora_layers(model).items()
    }


class StepLogFile:
    """``log.jsonl``: a line a step. Opening it for a run resumed from a checkpoint drops lines of steps that will be
    done again."""

    def __init__(self, path: Path, replicate: int, checkpoint: Path | None) -> None:
        self.path, self.replicate = path, replicate
        resumed_at = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
        kept = [line for line in read_log(path) if (line["replicate"], line["step"]) <= (replicate, resumed_at)]
        write_bytes(path, "".join(json.dumps(line, sort_keys=True) + "\n" for line in kept).encode())

    def append(self, log: StepLog) -> None:
        """Add a step."""
        plain = {k: v if math.isfinite(v) else None for k, v in dataclasses.asdict(log).items()}
        line = json.dumps({"replicate": self.replicate, **plain}, sort_keys=True)
        with self.path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(line + "\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """Lines of ``log.jsonl``; a last line cut short by a kill is left out."""
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            break
        line["loss"] = math.nan if line["loss"] is None else line["loss"]
        lines.append(line)
    return lines
