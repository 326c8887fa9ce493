"""Training runs whose truth is known: smooth curves of a kind, with noise on top."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorarank.diagnose.curves import Curve, curve
from lorarank.diagnose.training import Training

STEPS = 1000
KINDS: dict[str, Callable[[Any], Any]] = {
    "healthy": lambda t: 1 + 1.5 * (1 + 30 * t) ** -0.5,  # a power law, as losses fall where capacity does not bind
    "exponential": lambda t: 1 + 1.5 * np.exp(-t / 0.3),
    "flat": lambda t: 1 + 1.5 * np.exp(-t / 0.04),  # all learned in the first eighth
    "unlearned": lambda t: 2.5 + 0 * t,
    "steep": lambda t: 2.5 - 1.0 * t,
    "overfitting": lambda t: 1 + 1.5 * np.exp(-t / 0.12),
}


def wandering(random: np.random.Generator, count: int, sd: float, correlation: float) -> np.ndarray:
    """Noise of a standard deviation whose neighbours correlate: an autoregression of order one."""
    drawn = random.standard_normal(count) * sd
    for index in range(1, count):
        drawn[index] = correlation * drawn[index - 1] + np.sqrt(1 - correlation**2) * drawn[index]
    return drawn


def planted_run(
    kind: str, seed: int = 0, *, evaluations: int = 20, every: int = 10, correlation: float = 0.0, noise: float = 1.0
) -> Training:
    """A run of 1,000 steps: training losses with noise 0.05, validation losses 0.05 above them with noise 0.005."""
    random = np.random.default_rng(seed)
    steps = np.arange(every, STEPS + 1, every)
    evaluated = np.linspace(STEPS / evaluations, STEPS, evaluations).round()
    train, validation = KINDS[kind](steps / STEPS), KINDS[kind](evaluated / STEPS) + 0.05
    if kind == "overfitting":
        train = train - 0.4 * steps / STEPS
        validation = validation + 0.5 * np.maximum(0, evaluated / STEPS - 0.4) ** 1.5
    return Training(
        "log",
        curve(steps, train + noise * 0.05 * random.standard_normal(len(steps))),
        curve(evaluated, validation + noise * wandering(random, len(evaluated), 0.005, correlation)),
    )


def write_state(path: Path, run: Training, *, rate: Curve | None = None, more: Any = None) -> Path:
    """``trainer_state.json`` as transformers' Trainer writes it."""
    history: list[dict[str, Any]] = []
    for index, (step, loss) in enumerate(zip(run.train.steps, run.train.losses, strict=True)):
        line = {"step": int(step), "epoch": step / 500, "loss": float(loss), "grad_norm": 1.0}
        line["learning_rate"] = 1e-3 if rate is None else float(rate.losses[index])
        history.append(line)
    for step, loss in zip(run.validation.steps, run.validation.losses, strict=True):
        history.append({"step": int(step), "epoch": step / 500, "eval_loss": float(loss), "eval_runtime": 1.0})
    history.sort(key=lambda line: line["step"])
    history.append({"step": STEPS, "epoch": 2.0, "train_runtime": 60.0, "train_loss": 1.2})
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"global_step": STEPS, "max_steps": STEPS, "log_history": history, **(more or {})}
    path.write_text(json.dumps(state), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def planted() -> Callable[..., Training]:
    """``planted(kind, seed=0, evaluations=20, every=10, correlation=0.0, noise=1.0)``: see :func:`planted_run`."""
    return planted_run


@pytest.fixture
def make_state(tmp_path: Path) -> Callable[..., Path]:
    """``make_state(kind, folder="out/checkpoint-1000", **planted)``: a trainer's state of a planted run."""

    def make(kind: str, folder: str = "out/checkpoint-1000", *, more: Any = None, **how: Any) -> Path:
        return write_state(tmp_path / folder / "trainer_state.json", planted_run(kind, **how), more=more)

    return make
