"""The log of a training, step by step: its bytes and its speeds are the same on every system."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

from lorarank.corpus import Rows
from lorarank.probe.training import Schedule, StepLog, StepLogFile, TrainingRun, _Bookkeeper, read_log

NOTHING = np.zeros((0, 8), np.int32)


def test_its_lines_end_alike_where_text_ends_them_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, path = io.open, tmp_path / "log.jsonl"

    def as_windows(file: Any, mode: str = "r", buffering: int = -1, *others: Any) -> Any:
        *before, newline = (*others, None, None, None)[:3]
        text = "b" not in mode and "r" not in mode
        return real(file, mode, buffering, *before, "\r\n" if text and newline is None else newline)

    monkeypatch.setattr(io, "open", as_windows)
    StepLogFile(path, 0, None).append(StepLog(1, 2.0, 1e-3, 0.5, 100.0))
    StepLogFile(path, 0, tmp_path / "checkpoint-1").append(StepLog(2, 1.0, 1e-3, 0.5, 100.0))
    assert [line["step"] for line in read_log(path)] == [1, 2]
    assert path.read_bytes().count(b"\n") == 2
    assert b"\r" not in path.read_bytes()


def test_a_speed_is_told_where_the_clock_ticks_every_16_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``time.monotonic`` does on Windows before Python 3.13: a step may begin and end in one tick."""
    logs: list[StepLog] = []
    rows = Rows(NOTHING, NOTHING >= 0, NOTHING, NOTHING)
    run = TrainingRun(rows, Schedule(2, 1, np.zeros(0, np.int64)), 1e-3, 1, torch.float32, on_step=logs.append)
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    keeper = _Bookkeeper(run, Mock(), tokens_per_step=64)
    for step in (1, 2):
        time.sleep(0.002)
        state = TrainerState(global_step=step)
        keeper.on_log(Mock(spec=TrainingArguments), state, TrainerControl(), {"loss": 1.0, "learning_rate": 1e-3})
    assert all(0 < log.tokens_per_second <= 64 / 0.002 for log in logs)
