"""Where training happens on machines with GPUs, as far as a machine without one can tell."""

from __future__ import annotations

import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import transformers
from accelerate import PartialState
from accelerate.state import AcceleratorState

import lorarank
from lorarank import runs
from lorarank.errors import OptionError, RunError
from lorarank.probe import ProbeOptions, batches, pipeline
from lorarank.probe.material import gather
from lorarank.probe.model import choose_device, choose_precision, load_base
from lorarank.probe.placement import arguments_on, map_of_4_bits
from lorarank.probe.stages import Stages

ROOT = Path(lorarank.__file__).parents[1]


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """accelerate keeps the device of a process for good."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_of_several_gpus_one_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert transformers.TrainingArguments(str(tmp_path), per_device_train_batch_size=2).train_batch_size == 8
    made = arguments_on(torch.device("cuda", 0), output_dir=str(tmp_path), per_device_train_batch_size=2)
    assert made.n_gpu == 1
    assert made.train_batch_size == 2
    assert arguments_on(torch.device("cpu"), output_dir=str(tmp_path)).n_gpu == 0


def test_the_gpu_that_was_chosen_is_the_one_that_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    current: list[torch.device] = []
    monkeypatch.setattr("torch.cuda.set_device", current.append)
    made = arguments_on(torch.device("cuda", 1), output_dir=str(tmp_path))
    assert made.device == PartialState().device == torch.device("cuda", 1)
    assert current[-1] == torch.device("cuda", 1)


def test_processes_that_train_together_have_a_gpu_each(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Two:
        num_processes, is_main_process = 2, True

        def __init__(self, **_: Any) -> None: ...

    monkeypatch.setattr(pipeline, "PartialState", Two)
    monkeypatch.setattr(pipeline.models, "choose_device", torch.device)
    options = ProbeOptions(str(tiny_model), str(tmp_path / "train.jsonl"), tmp_path / "run", device="cuda:1")
    with pytest.raises(OptionError, match=r"2 processes train together.*give --device cuda\.$"):
        pipeline.run(options, report=print, announce=print, command=())


def test_two_processes_find_what_one_finds_and_one_of_them_speaks(
    tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    arguments = ["-m", "lorarank", "probe", str(tiny_model), "--data", str(tiny_data), "--device", "cpu", "--rank", "2"]
    arguments += ["--tokens", "1000", "--batch-tokens", "256", "--no-companion", "--lr", "0.001"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    found = {}
    for name, before in (("one", []), ("two", launcher)):
        done = subprocess.run(
            [sys.executable, *before, *arguments, "-o", name],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout == f"Probe finished. Read it with: lorarank estimate {name}\n"
        assert done.stderr.count("device     cpu") == 1
        found[name] = runs.read(tmp_path / name).manifest
    one, two = found["one"], found["two"]
    assert two.training.steps == one.training.steps
    assert two.training.trained_tokens == one.training.trained_tokens
    assert two.heldout.probes[0].mean == pytest.approx(one.heldout.probes[0].mean, abs=1e-3)
    assert one.heldout.gains[0].mean > 0.01


def test_a_process_that_is_later_takes_the_run_that_was_begun(
    tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    options = ProbeOptions(str(tiny_model), str(tiny_data), tmp_path / "run", rank=2, tokens=500, device="cpu")
    material = gather(options)
    first = Stages.open(options, material, writes=True)
    with pytest.raises(RunError, match="an unfinished probe is in it"):
        Stages.open(options, material, writes=True)
    assert Stages.open(options, material, writes=False).folder == first.folder


@pytest.mark.parametrize(
    ("wanted", "device", "free", "expected"),
    [
        ("auto", "cuda:0", 4_000, {"": "cuda:0"}),
        ("auto", "cuda:0", 400, "auto"),  # 275 of the 1,000 bytes in 16 bits
        ("cuda:1", "cuda:1", 400, {"": "cuda:1"}),
        ("auto", "cpu", 400, {"": "cpu"}),
    ],
)
def test_a_base_in_4_bits_is_spread_where_one_gpu_is_too_small(
    wanted: str, device: str, free: int, expected: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(1_000))
    (tmp_path / "consolidated.safetensors").write_bytes(bytes(9_000))  # the same once more
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (free, 8_000))
    assert map_of_4_bits(tmp_path, torch.device(device), wanted) == expected


@pytest.mark.parametrize(("device", "expected"), [("cuda:1", {"": "cuda:1"}), ("mps", None), ("cpu", None)])
def test_weights_go_straight_to_the_gpu(
    device: str, expected: object, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def loaded(_folder: Path, **how: Any) -> Any:
        asked.append(how.get("device_map"))
        return mock.MagicMock()

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", loaded)
    load_base(tiny_model, ProbeOptions("m", "d", Path("o")), torch.device(device), torch.float32)
    assert asked == [expected]


def test_a_gpu_has_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 1)
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda", 1)


@pytest.mark.parametrize(("capability", "dtype"), [((7, 5), torch.float32), ((8, 0), torch.bfloat16)])
def test_bf16_is_for_gpus_that_compute_in_it(
    capability: tuple[int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: capability)
    assert choose_precision(torch.device("cuda", 0)) == dtype


def test_a_pass_that_fits_leaves_room_for_the_optimiser(monkeypatch: pytest.MonkeyPatch) -> None:
    model = torch.nn.Linear(3, 5)
    model.bias.requires_grad_(False)
    made: list[weakref.ref[torch.Tensor]] = []
    zeros_like, there = torch.zeros_like, []

    def noted(like: torch.Tensor) -> torch.Tensor:
        made.append(weakref.ref(zeros := zeros_like(like)))
        return zeros

    def losses(model: torch.nn.Linear, *_: Any, **more: Any) -> tuple[torch.Tensor, None]:
        there.append([one.shape for ref in made if (one := ref()) is not None])
        return model(torch.ones(3)), None

    monkeypatch.setattr("torch.zeros_like", noted)
    monkeypatch.setattr(batches, "token_losses", losses)
    monkeypatch.setattr(batches, "can_narrow", lambda model: False)
    assert batches._seconds(model, {}, torch.float32) > 0  # type: ignore[arg-type]
    assert there == [[model.weight.shape] * 2] * 2
