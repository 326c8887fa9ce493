"""Curves of TensorBoard's event files (floor 2), by TensorBoard's own reader where it is installed.

``EventAccumulator`` reads a file or a folder; ``Tags()["scalars"]`` are its tags, ``Scalars(tag)`` its events with
``step`` and ``value``, and a size guidance of 0 keeps all of them (tensorboard 2.21,
``tensorboard/backend/event_processing/event_accumulator.py``). transformers' Trainer writes the tags ``train/loss``,
``train/learning_rate`` and ``eval/loss`` (5.24, ``integration_utils.rewrite_logs``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lorarank.diagnose.curves import NOTHING, Curve, curve
from lorarank.diagnose.training import Training, chosen
from lorarank.errors import CurveError, needing

TRAIN = ("train/loss", "train_loss", "loss", "loss/train", "Loss/train", "train/train_loss")
RATE = ("train/learning_rate", "learning_rate", "lr", "train/lr")
VALIDATION = ("eval/loss", "eval_loss", "val_loss", "val/loss", "validation/loss", "loss/val", "Loss/val", "Loss/valid")
EPOCH = ("train/epoch", "epoch")
"""Tags in the order they are looked for; the first of each is Trainer's, others are common by hand."""


def read_events(path: Path, validation: str | None) -> Training:
    """Curves of an event file, or of all event files below a folder, put together.

    Raises
    ------
    MissingExtraError
        The package ``tensorboard`` is not installed.
    CurveError
        There is no training loss in them.
    """
    with needing(str(path), "tensorboard", extra="tensorboard"):
        from tensorboard.backend.event_processing import event_accumulator
    folders = [path] if path.is_file() else sorted({file.parent for file in path.glob("**/events.out.tfevents.*")})
    opened = [event_accumulator.EventAccumulator(str(one), {event_accumulator.SCALARS: 0}) for one in folders]
    for one in opened:
        one.Reload()
    there = {tag for one in opened for tag in one.Tags()["scalars"]}
    train = _first(opened, there, TRAIN)
    if not len(train):
        tags = ", ".join(sorted(there)[:8]) or "none"
        raise CurveError(path, f"no training loss among its tags ({tags})", do=f"log it as {TRAIN[0]}")
    named = sorted(tag for tag in there if tag in VALIDATION or (tag.startswith("eval/") and tag.endswith("loss")))
    name, notes = chosen(named, validation, path)
    epochs = _first(opened, there, EPOCH)
    if len(folders) > 1:
        notes = (*notes, f"{len(folders)} folders of event files were put together as one run.")
    return Training(
        kind="TensorBoard",
        train=train,
        validation=_first(opened, there, (name,)) if name else NOTHING,
        rate=_first(opened, there, RATE),
        epochs=float(epochs.losses[-1]) if len(epochs) else None,
        notes=notes,
    )


def _first(opened: list[Any], there: set[str], tags: tuple[str, ...]) -> Curve:
    """Events of the first of ``tags`` that there is."""
    tag = next((tag for tag in tags if tag in there), None)
    events = [event for one in opened if tag in one.Tags()["scalars"] for event in one.Scalars(tag)]
    return curve([event.step for event in events], [event.value for event in events]) if events else NOTHING
