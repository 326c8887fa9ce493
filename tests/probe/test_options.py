"""Options from Python: brought to their types, or refused in one line before anything is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lorarank
from lorarank.errors import LorarankError, OptionError
from lorarank.probe import ProbeOptions, plan
from lorarank.probe.loggers import check_loggers
from lorarank.sweep import SweepOptions


def probe_options(**given: Any) -> ProbeOptions:
    return ProbeOptions(**{"model": "base", "data": "train.jsonl", "output": Path("run"), **given})


def sweep_options(**given: Any) -> SweepOptions:
    return SweepOptions(**{"model": "base", "data": "train.jsonl", "output": Path("sweep"), **given})


@pytest.mark.parametrize("options", [probe_options, sweep_options])
def test_paths_lists_and_numpys_numbers_will_do(options: Any) -> None:
    given = {"model": Path("base"), "data": Path("train.jsonl"), "val": Path("val.jsonl"), "output": "run"}
    more = {"alpha": np.int64(16), "checkpoint_seconds": 5}
    plain = {"val": "val.jsonl", "output": Path("run"), "alpha": 16, "checkpoint_seconds": 5.0}
    assert options(**given, **more) == options(**plain)
    assert type(options(**more).alpha) is int
    assert sweep_options(ranks=[1, 2], lrs=[np.float32(0.5)]) == sweep_options(ranks=(1, 2), lrs=(0.5,))


@pytest.mark.parametrize(
    ("options", "given", "says"),
    [
        (probe_options, {"tokens": 1e3}, "--tokens 1000.0: it must be a whole number"),
        (probe_options, {"tokens": "4000"}, "--tokens '4000': it must be a whole number"),
        (probe_options, {"rank": True}, "--rank True: it must be a whole number"),
        (probe_options, {"rank": None}, "--rank None: it must be a whole number"),
        (probe_options, {"lr": "auto"}, "--lr 'auto': it must be a number"),
        (probe_options, {"companion": 1}, "--companion 1: it must be True or False"),
        (probe_options, {"target": ["q_proj"]}, "--target ['q_proj']: it must be text"),
        (probe_options, {"report_to": "wandb"}, "--report-to 'wandb': it must be a list, each text"),
        (probe_options, {"model": 3}, "model 3: it must be text"),
        (probe_options, {"output": None}, "--output None: it must be a path"),
        (sweep_options, {"lrs": 0.01}, "--lrs 0.01: it must be a list, each a number"),
        (sweep_options, {"ranks": (1, 2.0)}, "--ranks (1, 2.0): it must be a list, each a whole number"),
        (sweep_options, {"tokens": 1e3}, "--tokens 1000.0: it must be a whole number"),
        (probe_options, {"seed": 5_000_000_000}, "--seed 5000000000: it must be at most 4294967295"),
        (sweep_options, {"seed": 2**32 - 1, "seeds": 2}, "--seed 4294967295: the last of the seeds must be at most"),
    ],
)
def test_another_type_or_too_large_a_seed_is_one_line(options: Any, given: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError) as caught:
        options(**given)
    assert str(caught.value).startswith(says)


def test_the_commands_take_paths(tmp_path: Path) -> None:
    for command in (lorarank.probe, lorarank.sweep):
        with pytest.raises(LorarankError, match="nowhere"):
            command(tmp_path / "nowhere", tmp_path / "train.jsonl", tmp_path / "run", device="cpu")


def test_loggers_are_asked_for_before_the_work() -> None:
    check_loggers(())
    check_loggers(("none",))
    check_loggers(("tensorboard",))
    with pytest.raises(OptionError, match=r"--report-to nonsense: .* no such logger\. Choose among: azure_ml, "):
        plan(probe_options(report_to=("nonsense",)))
    with pytest.raises(OptionError, match=r"Give tensorboard\."):
        check_loggers(("tensorbord",))


def test_a_logger_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.integrations.integration_utils.is_wandb_available", lambda: False)
    with pytest.raises(OptionError, match=r"--report-to wandb: it cannot be used \(.* wandb to be installed"):
        plan(probe_options(report_to=("wandb",)))
