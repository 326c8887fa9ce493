"""Bare adapters: a description, never the rank a task needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lorarank.errors import AdapterError, LorarankError, OptionError
from lorarank.estimate import EstimateOptions, recommend
from lorarank.report import recommended
from lorarank.report.page import Page
from lorarank.report.plain import laid_out

Make = Callable[..., Path]


def test_one_adapter_is_described_and_has_no_train_rank(make_adapter: Make) -> None:
    answer = recommend(make_adapter())
    assert (answer.r, answer.refused, answer.fallback, answer.config) == (None, False, None, None)
    assert answer.keep is not None
    assert (answer.keep.r, answer.keep.basis) == (2, "pooled energy")
    assert any("not what a task needs" in reason for reason in answer.reasons)
    assert [module.rank for module in answer.modules] == [2] * 6
    assert answer.modules[0].stable_rank == pytest.approx(21.25 / 16, rel=1e-5)
    assert laid_out(Page(), recommended.lay, answer).startswith(
        "No train rank, since bare adapters do not say what a task needs"
    )


def test_a_file_is_as_good_as_its_folder(make_adapter: Make) -> None:
    folder = make_adapter()
    file = recommend(folder / "adapter_model.safetensors")
    assert file.modules == recommend(folder).modules


def test_adapters_of_the_same_modules_are_compared(make_adapter: Make) -> None:
    first, second = make_adapter("first"), make_adapter("second")
    answer = recommend([first, second])
    assert answer.replication is not None
    assert answer.replication.agreement == pytest.approx(1)
    assert len(answer.adapters) == 2
    assert answer.r is None


def test_checkpoints_of_one_training_are_no_replicates(make_adapter: Make) -> None:
    checkpoints = [make_adapter(f"output/checkpoint-{step}", seed=step) for step in (2, 4, 10)]
    answer = recommend(checkpoints)
    assert answer.replication is not None
    assert any("Checkpoints of one training are no replicates" in reason for reason in answer.reasons)
    elsewhere = recommend([*checkpoints, make_adapter("checkpoint-2")])
    assert any("signal against noise" in reason for reason in elsewhere.reasons)


def test_ranks_may_differ_between_adapters_that_are_compared(make_adapter: Make) -> None:
    answer = recommend([make_adapter("first", r=8), make_adapter("second", r=16, seed=1)])
    assert answer.replication is not None
    assert [adapter.r for adapter in answer.adapters] == [(8,), (16,)]


def test_other_modules_are_described_apart(make_adapter: Make) -> None:
    other = {"model.layers.0.mlp.up_proj": (40, 50, (1.0,))}
    answer = recommend([make_adapter("first"), make_adapter("second", other)])
    assert answer.replication is None
    assert any("not compared" in reason for reason in answer.reasons)
    assert [adapter.modules for adapter in answer.adapters] == [6, 1]


def test_the_energy_option_sets_the_keep_rank(make_adapter: Make) -> None:
    answer = recommend(make_adapter(), EstimateOptions(energy=0.98))
    assert answer.keep is not None
    assert answer.keep.r == 3


@pytest.mark.parametrize("options", [{"metric": "loss"}, {"budget": 10**6}, {"tokens": 5}, {"keep_loss": 0.02}])
def test_what_needs_a_run_says_so(make_adapter: Make, options: dict[str, object]) -> None:
    with pytest.raises(OptionError, match="run"):
        recommend(make_adapter(), EstimateOptions(**options))  # type: ignore[arg-type]


def test_a_zero_update_is_bad_input(make_adapter: Make) -> None:
    def zero(tensors: dict[str, np.ndarray]) -> None:
        for name, tensor in tensors.items():
            if ".lora_B." in name:
                tensor[:] = 0

    with pytest.raises(AdapterError, match="lora_B is all zero"):
        recommend(make_adapter(edit=zero))


def test_nan_is_bad_input(make_adapter: Make) -> None:
    def poison(tensors: dict[str, np.ndarray]) -> None:
        next(iter(tensors.values()))[0, 0] = np.nan

    with pytest.raises(LorarankError, match="lora_A"):
        recommend(make_adapter(edit=poison))


def test_one_module_of_zeros_is_ordinary(make_adapter: Make) -> None:
    modules = {"layers.0.q_proj": (40, 50, (2.0, 1.0)), "layers.1.q_proj": (40, 50, ())}
    answer = recommend(make_adapter(modules=modules))
    assert [module.rank for module in answer.modules] == [2, 0]
    assert [module.energy for module in answer.modules] == [1, 0]
