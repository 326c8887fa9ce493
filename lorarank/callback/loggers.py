"""Where a trainer logs to (floor 2, transformers).

A callback is handed the arguments, the state and the model, and neither the trainer nor its other callbacks
(transformers 5.24, ``trainer_callback.CallbackHandler.call_event``); those that report come before it in the list, so
that what it might add to ``logs`` in ``on_log`` comes too late; ``control.should_log`` only asks for the trainer's own
numbers; new reporting callbacks of ours would open a second TensorBoard file and a second Trackio run; and
``Trainer.log`` itself would take the metrics that TRL's trainers average between two logs. So the handler that is
calling is looked up on the stack, once, and its reporting callbacks are called as it would call them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import integration_utils
from transformers.trainer_callback import CallbackHandler

DEPTH = 12
"""Frames to look through: the handler's is two or three above a callback's method."""


def calling_handler() -> CallbackHandler | None:
    """The callback handler that is calling us, ``None`` where there is none."""
    frame = sys._getframe()
    for _ in range(DEPTH):
        if frame.f_back is None:
            return None
        frame = frame.f_back
        found = frame.f_locals.get("self")
        if isinstance(found, CallbackHandler):
            return found
    return None


def reporters(handler: CallbackHandler) -> list[TrainerCallback]:
    """The callbacks that ``report_to`` stands for: TensorBoard, W&B, Trackio, MLflow and the others."""
    kinds: tuple[Any, ...] = tuple(integration_utils.INTEGRATION_TO_CALLBACK.values())
    return [callback for callback in handler.callbacks if isinstance(callback, kinds)]


def log(
    handler: CallbackHandler | None,
    args: TrainingArguments,
    state: TrainerState,
    control: TrainerControl,
    logs: Mapping[str, float],
) -> None:
    """Numbers into the trainer's own history (and so into ``trainer_state.json``) and to everything it reports to."""
    epoch = {} if state.epoch is None else {"epoch": state.epoch}
    state.log_history.append({**logs, **epoch, "step": state.global_step})
    if handler is None:
        return
    given: dict[str, Any] = {"model": handler.model, "processing_class": handler.processing_class}
    for callback in reporters(handler):
        callback.on_log(args, state, control, logs={**logs, **epoch}, **given)
