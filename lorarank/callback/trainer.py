"""The callback (floor 2, transformers)."""

from __future__ import annotations

import logging
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import CallbackHandler

from lorarank.callback.live import live_modules
from lorarank.callback.loggers import calling_handler, log
from lorarank.callback.watch import Reading, Warned, Watch, read
from lorarank.errors import OptionError

EVERY = 100
"""Steps between two measurements: a thousandth of a step on the demo model (data/evidence/bench-callback.json)."""

logger = logging.getLogger("lorarank")


class LoraRankCallback(TrainerCallback):  # type: ignore[misc,unused-ignore]
    """Watches which rank the adapter really uses while any transformers or TRL trainer trains it.

    Every ``every`` steps, at every checkpoint and at the end, the singular values of each module's ΔW are measured.
    Medians and counts go to everything the trainer reports to (``report_to``: TensorBoard, W&B, Trackio …) under
    ``lora/``, and into ``trainer_state.json``. Modules that do not train, use all the rank they have, or hold NaN are
    warned of once, through the logger ``lorarank``. It changes nothing, and never stops a training.

    Parameters
    ----------
    every : steps between measurements; 0 measures at checkpoints and at the end alone.
    report : whether to log; the records are kept anyway.

    Attributes
    ----------
    readings : every measurement, module by module.
    warnings : every warning.

    Raises
    ------
    OptionError
        ``every`` is negative.
    MissingExtraError
        transformers is not installed (when the name is imported).

    Notes
    -----
    Factors that are sharded over processes (FSDP, ZeRO-3) are not seen; where no module is left, that is said once.

    Examples
    --------
    >>> callback = LoraRankCallback(every=50)
    >>> callback.readings
    []
    """

    def __init__(self, every: int = EVERY, *, report: bool = True) -> None:
        if every < 0:
            raise OptionError(f"every = {every}", "it must be 0 or more steps")
        self.every, self.report = every, report
        self.readings: list[Reading] = []
        self.warnings: list[Warned] = []
        self._watch = Watch()
        self._handler: CallbackHandler | None = None
        self._blind = False

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Find out where the trainer logs to."""
        self._handler = calling_handler()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """Measure where it is due: every so many steps, and at the last."""
        step = state.global_step
        if (self.every and step % self.every == 0) or step == state.max_steps:
            self._measure(args, state, control, model)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """Measure what has just been saved, unless that has been done at this step."""
        self._measure(args, state, control, model)

    def _measure(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any) -> None:
        step = state.global_step
        if not state.is_world_process_zero or model is None or self._blind:
            return
        if self.readings and self.readings[-1].step == step:
            return
        reading = read(step, live_modules(model))
        if not reading.modules:
            self._blind = True
            logger.warning("LoraRankCallback sees no LoRA module: none is there, or they are sharded over processes.")
            return
        self.readings.append(reading)
        if self.report:
            log(self._handler, args, state, control, reading.logs)
        for warned in self._watch.warnings(reading):
            self.warnings.append(warned)
            logger.warning(warned.sentence)
