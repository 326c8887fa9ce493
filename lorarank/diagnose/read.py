"""Which log a source is, and its curves (floor 2)."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from lorarank import runs
from lorarank.adapters.peft_config import FILE_NAME
from lorarank.adapters.untrusted import read_json
from lorarank.diagnose.curves import NOTHING, Curve, curve
from lorarank.diagnose.tensorboard import read_events
from lorarank.diagnose.training import Training, chosen
from lorarank.errors import AdapterError, CurveError, RunError, SourceError
from lorarank.sources import on_disk

STATE = "trainer_state.json"
"""What transformers' Trainer leaves in every checkpoint; its ``log_history`` holds a dictionary a log, with ``step`` in
each, ``loss`` and ``learning_rate`` in those of training, ``eval_loss`` in those of evaluation (transformers 5.24,
``trainer_callback.TrainerState`` and ``Trainer.log``)."""

EVENTS = "**/events.out.tfevents.*"
"""TensorBoard's files, at any depth: Trainer writes them to ``runs/<date>_<host>`` below its output."""

SOURCES = f"give the folder of a probe, a {STATE} or a folder with checkpoints, a log.jsonl, or a TensorBoard folder"


def read(source: str | Path, validation: str | None = None) -> Training:
    """The curves of a source.

    Parameters
    ----------
    source : a finished or unfinished run of ``lorarank probe``; ``trainer_state.json``, a checkpoint or the folder of
        checkpoints; ``log.jsonl``; or a folder with TensorBoard's event files.
    validation : which validation loss to take where a log has several, by its whole name; ``eval_loss`` otherwise, or
        the first by the alphabet.

    Raises
    ------
    SourceError, CurveError
        It leads nowhere, there is nothing to read in it, or it is damaged.
    MissingExtraError
        TensorBoard's files without the package ``tensorboard``.
    """
    path = on_disk(source)
    if path is None:
        raise CurveError(source, "no such file or folder", do=SOURCES)
    if path.is_file():
        if path.suffix == ".jsonl":
            return _of_log(path, read_lines(path), validation)
        if path.name.startswith("events.out.tfevents."):
            return read_events(path, validation)
        return _of_state(path, validation)
    if runs.is_run(path):
        if validation is not None:
            chosen([], validation, path)
        return _of_run(path)
    state = newest_state(path)
    if state is not None:
        return _of_state(state, validation)
    if (path / runs.LOG).is_file():
        return _of_log(path / runs.LOG, read_lines(path / runs.LOG), validation)
    if any(path.glob(EVENTS)):
        return read_events(path, validation)
    raise CurveError(path, "there is no training log in it", do=SOURCES)


def newest_state(folder: Path) -> Path | None:
    """The trainer's state in a folder: its own, or that of the last checkpoint below."""
    if (folder / STATE).is_file():
        return folder / STATE
    found = {step_of(path.parent): path for path in folder.glob(f"checkpoint-*/{STATE}")}
    return found[max(found)] if found else None


def step_of(checkpoint: Path) -> int:
    """The step in the name of a checkpoint, -1 where there is none.

    >>> step_of(Path("checkpoint-200")), step_of(Path("checkpoint-best"))
    (200, -1)
    """
    number = checkpoint.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else -1


def _of_run(folder: Path) -> Training:
    """Our own folder: the log of the first replicate, and the held-out losses before and after."""
    logged = _of_log(folder / runs.LOG, read_lines(folder / runs.LOG))
    if not (folder / runs.MANIFEST).is_file():
        note = "The probe is unfinished, so that no held-out loss has been measured yet."
        return Training("run", logged.train, NOTHING, logged.rate, notes=(note,))
    run = runs.read(folder)
    told, heldout = run.manifest.training, run.manifest.heldout
    return Training(
        kind="run",
        train=logged.train,
        validation=curve([0, told.steps], [heldout.base.mean, heldout.probes[0].mean]),
        rate=logged.rate,
        base=heldout.base.mean,
        fall_se=heldout.gains[0].se,
        epochs=told.epochs,
        rank=told.rank,
        adapter=run.adapters[0],
        notes=("A probe measures its held-out loss before and after training, not on the way.",),
    )


def _of_log(path: Path, lines: list[dict[str, Any]], wanted: str | None = None) -> Training:
    """``log.jsonl``: a line a step with ``step`` and ``loss``; ``eval_loss`` and ``learning_rate`` where there are.

    Of several replicates the first.
    """
    lines = [line for line in lines if line.get("replicate", 0) == 0]
    train, validation = points(lines, "loss"), points(lines, "eval_loss")
    if not len(train):
        raise CurveError(path, "no line of it has a step and a loss", do=SOURCES)
    if wanted is not None:
        chosen(["eval_loss"] if len(validation) else [], wanted, path)
    return Training("log", train, validation, points(lines, "learning_rate"), epochs=_last(lines, "epoch"))


def _of_state(path: Path, validation: str | None) -> Training:
    try:
        state = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CurveError(path, f"it cannot be read as JSON ({error})", do=SOURCES) from None
    history = state.get("log_history") if isinstance(state, dict) else None
    if not isinstance(history, list) or not all(isinstance(line, dict) for line in history):
        raise CurveError(path, "it has no log_history, so it is no state of a trainer", do=SOURCES)
    train = points(history, "loss")
    if not len(train):
        raise CurveError(path, "no training loss was logged in it", do="train with logging_steps set to a few steps")
    name, notes = chosen(
        sorted({key for line in history for key in line if key.startswith("eval_") and key.endswith("loss")}),
        validation,
        path,
    )
    adapter = path.parent if (path.parent / FILE_NAME).is_file() else None
    return Training(
        kind="trainer state",
        train=train,
        validation=points(history, name) if name else NOTHING,
        rate=points(history, "learning_rate"),
        epochs=_last(history, "epoch"),
        rank=_rank(adapter),
        adapter=adapter,
        notes=notes,
    )


def points(lines: Iterable[Mapping[str, Any]], key: str) -> Curve:
    """What was logged under ``key``; a null is what JSON makes of NaN, and a step is finite."""
    steps, values = [], []
    for line in lines:
        step, value = line.get("step"), line.get(key, "absent")
        if _number(step) and math.isfinite(step) and (value is None or _number(value)):
            steps.append(float(step))
            values.append(math.nan if value is None else float(value))
    return curve(steps, values) if steps else NOTHING


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file; a last line cut short is left out.

    Raises
    ------
    CurveError
        It cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RunError(path, "the file is missing", do="run the probe again") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CurveError(path, f"it cannot be read ({error})", do=SOURCES) from None
    lines = []
    rows = text.splitlines()
    for number, row in enumerate(rows, start=1):
        try:
            line = json.loads(row)
        except (ValueError, RecursionError):
            if number == len(rows):
                break
            raise CurveError(f"{path}: line {number}", "it is no JSON", do="mend the line, or leave it out") from None
        if isinstance(line, dict):
            lines.append(line)
    return lines


def _rank(adapter: Path | None) -> int | None:
    """``r`` of an adapter's configuration."""
    if adapter is None:
        return None
    try:
        rank = read_json(adapter / FILE_NAME).get("r")
    except (SourceError, AdapterError):
        return None
    return rank if isinstance(rank, int) and rank > 0 else None


def _last(lines: Iterable[Mapping[str, Any]], key: str) -> float | None:
    """The last number under ``key``."""
    values = [float(line[key]) for line in lines if _number(line.get(key))]
    return values[-1] if values else None


def _number(value: Any) -> TypeGuard[int | float]:
    """Whether it is a number that a float can hold, NaN and infinity among them."""
    return isinstance(value, float) or (type(value) is int and abs(value) <= sys.float_info.max)
