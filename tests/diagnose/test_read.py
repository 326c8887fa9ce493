"""Every kind of log gives the curves that were logged; what is no log is refused in a line."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lorarank import runs
from lorarank.diagnose import diagnose
from lorarank.diagnose.read import read
from lorarank.diagnose.training import Training
from lorarank.errors import CurveError, LorarankError, MissingExtraError, RunError

Make = Callable[..., Path]


def same(found: Training, planted: Training) -> bool:
    return all(
        np.allclose(getattr(getattr(found, name), what), getattr(getattr(planted, name), what))
        for name in ("train", "validation")
        for what in ("steps", "losses")
    )


def test_a_trainers_state_its_checkpoint_and_its_output_folder_are_the_same(
    make_state: Make, planted: Callable[..., Training]
) -> None:
    path = make_state("healthy")
    make_state("overfitting", folder="out/checkpoint-90")
    for source in (path, path.parent, path.parents[1]):
        found = read(source)
        assert same(found, planted("healthy"))
        assert (found.kind, found.epochs, len(found.rate)) == ("trainer state", 2.0, 100)


def test_the_adapter_beside_a_state_gives_rank_and_saturation(make_state: Make, make_adapter: Make) -> None:
    path = make_state("flat", folder="adapter")
    make_adapter("adapter", r=16)  # four of 16 directions
    found = diagnose(path)
    assert found.rank == 16
    assert found.verdict == "fine"
    assert "room to spare" in found.signs[-1].sentence


def test_an_adapter_that_uses_all_its_rank_makes_a_plateau_a_rank_too_low(make_state: Make, make_adapter: Make) -> None:
    path = make_state("flat", folder="adapter")
    names = {f"model.layers.{i}.q_proj": (32, 48, (4.0, 3.9, 3.8, 3.7)) for i in range(3)}
    make_adapter("adapter", modules=names, r=4)
    found = diagnose(path)
    assert (found.verdict, found.confidence, found.next[0][:14]) == ("too low", "medium", "Train at r = 8")


def test_a_damaged_adapter_does_not_stop_the_curves(make_state: Make, make_adapter: Make) -> None:
    path = make_state("flat", folder="adapter")
    (make_adapter("adapter") / "adapter_model.safetensors").write_bytes(b"x")
    found = diagnose(path)
    assert found.signs[-1].outcome == "cannot be tested"
    assert (found.verdict, found.confidence) == ("too low", "low")


def test_a_configuration_beside_a_state_is_read_as_a_strangers(make_state: Make) -> None:
    path = make_state("flat", folder="adapter")
    (path.parent / "adapter_config.json").write_text("[" * 100_000)
    assert diagnose(path).rank is None


@pytest.mark.parametrize("key", ["step", "loss", "learning_rate", "epoch"])
def test_a_number_that_no_float_holds_is_left_out(key: str, tmp_path: Path) -> None:
    lines = [{"step": step, "loss": 2.0 - step / 100, "learning_rate": 1e-3, "epoch": 1.0} for step in range(60)]
    lines[30][key] = 10**400
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": lines}))
    for name in ("log.jsonl", "trainer_state.json"):
        assert len(read(tmp_path / name).train) == (59 if key in ("step", "loss") else 60)
        diagnose(tmp_path / name)


def test_a_validation_loss_that_was_not_logged_is_missed_in_every_log(tmp_path: Path, make_run: Make) -> None:
    lines = [{"step": step, "loss": 2.0, "eval_loss": 2.1, "replicate": 0} for step in range(30)]
    run = make_run()
    for path in (tmp_path / "log.jsonl", run / "log.jsonl"):
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert len(read(tmp_path / "log.jsonl", "eval_loss").validation) == 30
    for source in (tmp_path / "log.jsonl", run):
        with pytest.raises(LorarankError, match="no validation loss eval_other was logged"):
            read(source, "eval_other")


def test_of_several_validation_losses_one_is_taken_and_named(make_state: Make) -> None:
    path = make_state("healthy")
    state = json.loads(path.read_text())
    for line in state["log_history"]:
        if "eval_loss" in line:
            line["eval_b_loss"] = 2.0
            line["eval_a_loss"] = line.pop("eval_loss")
    path.write_text(json.dumps(state))
    found = read(path)
    assert found.notes == ("The validation loss is eval_a_loss; there are also eval_b_loss.",)
    assert set(read(path, "eval_b_loss").validation.losses) == {2.0}
    with pytest.raises(CurveError, match="eval_a_loss, eval_b_loss"):
        read(path, "eval_c_loss")


def test_nan_in_a_state_is_divergence(make_state: Make) -> None:
    path = make_state("healthy")
    path.write_text(path.read_text().replace('"loss": 1.', '"loss": NaN, "x": 1.'))
    found = diagnose(path)
    assert (found.verdict, found.signs[0].name) == ("cannot tell", "diverged")


def write_log(path: Path, run: Training) -> None:
    lines = [
        {"replicate": replicate, "step": int(step), "loss": float(loss) + replicate, "learning_rate": 1e-3}
        for replicate in (0, 1)
        for step, loss in zip(run.train.steps, run.train.losses, strict=True)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 3, "lo', encoding="utf-8")


def test_a_run_is_its_first_replicates_log_with_the_losses_before_and_after(
    make_run: Make, planted: Callable[..., Training]
) -> None:
    folder = make_run(replicates=(0, 1))
    write_log(folder / runs.LOG, replace(planted("healthy"), validation=planted("healthy").validation))
    found = read(folder)
    assert np.allclose(found.train.losses, planted("healthy").train.losses)
    assert found.validation.losses.tolist() == [2.5, 1.5]
    assert (found.rank, found.base, found.epochs, found.kind) == (16, 2.5, 1.2, "run")
    answer = diagnose(folder)
    assert answer.verdict == "cannot tell"
    assert answer.next == (f"Read the rank this data needs off the probe: lorarank estimate {folder}.",)
    assert {sign.name: sign.outcome for sign in answer.signs}["stuck"] == "not seen"
    log = read(folder / runs.LOG)
    assert np.array_equal(log.train.losses, found.train.losses)


def test_an_unfinished_run_is_read_too(make_run: Make, planted: Callable[..., Training]) -> None:
    folder = make_run()
    write_log(folder / runs.LOG, planted("healthy"))
    (folder / runs.MANIFEST).unlink()
    (folder / runs.PROGRESS).mkdir()
    assert read(folder).notes == ("The probe is unfinished, so that no held-out loss has been measured yet.",)
    (folder / runs.LOG).unlink()
    with pytest.raises(RunError):
        read(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("trainer_state.json", "{"),
        ("trainer_state.json", "[]"),
        ("trainer_state.json", '{"log_history": [1]}'),
        ("trainer_state.json", '{"log_history": []}'),
        ("trainer_state.json", '{"log_history": [{"step": "1", "loss": true}]}'),
        ("trainer_state.json", "[" * 100_000),
        ("log.jsonl", ""),
        ("log.jsonl", "x\n{}\n"),
        ("log.jsonl", '{"step": 1}\n'),
        ("log.jsonl", "\x00\n\x1b[31m\n"),
        ("other.bin", "x"),
    ],
)
def test_what_is_no_log_is_a_line(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    for source in (path, tmp_path):
        with pytest.raises(LorarankError) as caught:
            read(source)
        assert len(str(caught.value).splitlines()) == 1
        assert "\x1b" not in str(caught.value)


def test_event_files_without_tensorboard_name_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "events.out.tfevents.1.host").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'lorarank\[tensorboard\]'"):
        read(tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_event_files_give_the_curves_that_were_written(tmp_path: Path, planted: Callable[..., Training]) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    run = planted("overfitting")
    for folder, tag, one in (("a", "train/loss", run.train), ("b", "eval/loss", run.validation)):
        writer = EventFileWriter(str(tmp_path / "runs" / folder))
        for step, loss in zip(one.steps, one.losses, strict=True):
            value = Summary(value=[Summary.Value(tag=tag, simple_value=float(loss))])
            writer.add_event(Event(step=int(step), summary=value))
        writer.close()
    found = read(tmp_path)
    assert same(found, run)
    assert diagnose(tmp_path).verdict == "too high"
