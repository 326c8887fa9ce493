"""The callback in a real trainer on a tiny model: what it records, logs, warns of, and leaves alone."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

import lorarank  # noqa: E402
from lorarank.adapters import open as open_adapter  # noqa: E402
from lorarank.callback import LoraRankCallback  # noqa: E402
from lorarank.callback.live import live_modules  # noqa: E402
from lorarank.errors import OptionError  # noqa: E402
from lorarank.estimate import recommend  # noqa: E402
from lorarank.spectrum import measure  # noqa: E402

STEPS = 6


def tiny_model(targets: list[str] | None = None, r: int = 4) -> Any:
    """A Llama of two layers with LoRA on it."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=32,
    )
    lora = LoraConfig(r=r, lora_alpha=8, target_modules=targets or ["q_proj", "down_proj"], task_type="CAUSAL_LM")
    return get_peft_model(LlamaForCausalLM(config), lora)


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Any]:
    """``train(*callbacks, model=None, **arguments)``: a trainer that has trained six steps."""

    def run(*callbacks: Any, model: Any = None, **arguments: Any) -> Any:
        rows = [{"input_ids": torch.arange(8) + i, "labels": torch.arange(8) + i} for i in range(12)]
        given = {
            "output_dir": str(tmp_path / "out"),
            "max_steps": STEPS,
            "per_device_train_batch_size": 2,
            "learning_rate": 1e-2,
            "use_cpu": True,
            "save_strategy": "no",
            "logging_steps": 1,
            "report_to": "none",
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
            **arguments,
        }
        trainer = transformers.Trainer(
            model=tiny_model() if model is None else model,
            args=transformers.TrainingArguments(**given),
            train_dataset=rows,
            callbacks=list(callbacks),
        )
        trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
        trainer.train()
        return trainer

    return run


def test_it_is_a_name_of_the_package() -> None:
    assert lorarank.LoraRankCallback is LoraRankCallback


def test_it_measures_when_it_is_due_at_checkpoints_and_at_the_end(train: Callable[..., Any]) -> None:
    callback = LoraRankCallback(every=4)
    train(callback, save_strategy="steps", save_steps=5)
    assert [reading.step for reading in callback.readings] == [4, 5, 6]
    only = LoraRankCallback(every=0)
    train(only)
    assert [reading.step for reading in only.readings] == [6]


def test_the_numbers_are_those_of_the_saved_checkpoint(train: Callable[..., Any], tmp_path: Path) -> None:
    callback = LoraRankCallback(every=0)
    train(callback, save_strategy="steps", save_steps=3)
    for reading in callback.readings:
        spectra = measure(open_adapter(tmp_path / "out" / f"checkpoint-{reading.step}"))
        norms = {one.module: float(np.linalg.norm(one.singular_values)) for one in spectra}
        assert {one.name for one in reading.modules} == set(norms)
        for one in reading.modules:
            assert one.norm == pytest.approx(norms[one.name], rel=1e-5)


def test_estimate_describes_checkpoints_that_are_not_ours(train: Callable[..., Any], tmp_path: Path) -> None:
    train(save_strategy="steps", save_steps=3)
    folders = [tmp_path / "out" / f"checkpoint-{step}" for step in (3, 6)]
    answer = recommend(folders)
    assert (answer.kind, answer.r, answer.refused) == ("adapters", None, False)
    assert [one.modules for one in answer.adapters] == [4, 4]
    assert answer.replication is not None
    assert 0.5 < answer.replication.agreement <= 1


def listening(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, dict[str, Any]]]:
    """Make ``report_to="listener"`` a logger that keeps what it is given."""
    from transformers.integrations import integration_utils

    heard: list[tuple[int, dict[str, Any]]] = []

    class Keeps(transformers.TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, model: Any = None, **_: Any) -> None:
            assert model is not None
            heard.append((state.global_step, dict(logs)))

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "listener", Keeps)
    return heard


def test_what_the_trainer_reports_to_hears_it(train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    heard = listening(monkeypatch)
    callback = LoraRankCallback(every=3)
    trainer = train(callback, report_to=["listener"])
    spectra = [(step, logs) for step, logs in heard if "lora/energy_rank" in logs]
    assert [step for step, _ in spectra] == [3, 6]
    for (_, logs), reading in zip(spectra, callback.readings, strict=True):
        assert reading.logs.items() <= logs.items()
    assert {"lora/energy_rank/q_proj", "lora/energy_rank/down_proj", "lora/dead", "lora/norm"} <= set(spectra[0][1])
    losses = [step for step, logs in heard if "loss" in logs]
    assert losses == list(range(1, STEPS + 1))  # the trainer's own logs come as they would without it
    kept = [line for line in trainer.state.log_history if "lora/norm" in line]
    assert [line["step"] for line in kept] == [3, 6]


def test_tensorboard_shows_it(train: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    callback = LoraRankCallback(every=3)
    train(callback, report_to=["tensorboard"])
    assert len(list((tmp_path / "board").glob("events*"))) == 1
    board = EventAccumulator(str(tmp_path / "board"))
    board.Reload()
    shown = [(point.step, point.value) for point in board.Scalars("train/lora/norm")]
    assert [step for step, _ in shown] == [3, 6]
    assert [value for _, value in shown] == pytest.approx([one.logs["lora/norm"] for one in callback.readings])


def test_the_history_is_in_the_state_that_is_saved_and_diagnose_reads_it(
    train: Callable[..., Any], tmp_path: Path
) -> None:
    train(LoraRankCallback(every=2), save_strategy="steps", save_steps=6)
    path = tmp_path / "out" / "checkpoint-6" / "trainer_state.json"
    lines = json.loads(path.read_text())["log_history"]
    assert [line["step"] for line in lines if "lora/norm" in line] == [2, 4, 6]
    from lorarank.diagnose import diagnose

    found = diagnose(tmp_path / "out")
    assert (found.rank, found.losses, found.verdict) == (4, 6, "cannot tell")


def test_it_can_keep_quiet(train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    heard = listening(monkeypatch)
    callback = LoraRankCallback(every=3, report=False)
    trainer = train(callback, report_to=["listener"])
    assert len(callback.readings) == 2
    assert not any("lora/norm" in logs for _, logs in heard)
    assert not any("lora/norm" in line for line in trainer.state.log_history)


def test_it_changes_nothing(train: Callable[..., Any]) -> None:
    losses = []
    for callbacks in ((), (LoraRankCallback(every=1),)):
        trainer = train(*callbacks, seed=3)
        losses.append([line["loss"] for line in trainer.state.log_history if "loss" in line])
    assert losses[0] == losses[1]


def test_modules_that_do_not_train_are_warned_of_once(
    train: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_model()
    for name, parameter in model.named_parameters():
        if "layers.1.mlp.down_proj.lora_B" in name:
            parameter.requires_grad_(False)
    callback = LoraRankCallback(every=2)
    with caplog.at_level(logging.WARNING, logger="lorarank"):
        train(callback, model=model)
    dead = [warned for warned in callback.warnings if warned.kind == "dead"]
    assert [(warned.step, warned.modules) for warned in dead] == [(2, ("model.layers.1.mlp.down_proj",))]
    assert sum("have no update at all" in record.getMessage() for record in caplog.records) == 1
    assert callback.readings[-1].logs["lora/dead"] == 1


def test_factors_that_are_no_numbers_are_warned_of_and_stop_nothing(train: Callable[..., Any]) -> None:
    model = tiny_model()
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if "layers.0" in name and "lora_B" in name).fill_(torch.nan)
    callback = LoraRankCallback(every=2)
    train(callback, model=model)
    assert callback.warnings[0].kind == "nan"
    assert [reading.step for reading in callback.readings] == [2, 4, 6]


def test_a_model_without_lora_is_said_once(train: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    model = tiny_model().unload()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    callback = LoraRankCallback(every=2)
    with caplog.at_level(logging.WARNING, logger="lorarank"):
        train(callback, model=model)
    assert callback.readings == []
    assert sum("sees no LoRA module" in record.getMessage() for record in caplog.records) == 1


def test_live_factors_are_those_of_peft() -> None:
    model = tiny_model(r=2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    found = {one.name: one for one in live_modules(model)}
    assert len(found) == 4
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    mine = found["model.layers.0.self_attn.q_proj"]
    delta = mine.scaling * mine.lora_B @ mine.lora_A
    assert np.allclose(delta, layer.get_delta_weight("default").detach().numpy(), atol=1e-6)


def test_negative_steps_are_refused() -> None:
    with pytest.raises(OptionError):
        LoraRankCallback(every=-1)


def test_in_trls_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TRL averages metrics between two logs; what the callback logs must not take them."""
    pytest.importorskip("trl")
    script = tmp_path / "sft.py"
    script.write_text(TRL.format(output=str(tmp_path / "out")), encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    steps, losses = json.loads(done.stdout.splitlines()[-1])
    assert steps == [2, 4]
    assert losses == [[4, True]]


TRL = (
    """
import json, sys
sys.path[:0] = {path!r}
""".replace("{path!r}", repr([str(Path(lorarank.__file__).parents[1])]))
    + """
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from peft import LoraConfig
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer
from lorarank import LoraRankCallback

words = ["<unk>", "<pad>", "<eos>", *"abcdefgh"]
inner = Tokenizer(models.WordLevel({{word: i for i, word in enumerate(words)}}, unk_token="<unk>"))
inner.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=inner, unk_token="<unk>", pad_token="<pad>", eos_token="<eos>")
config = LlamaConfig(
    vocab_size=16, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
callback = LoraRankCallback(every=2)
trainer = SFTTrainer(
    model=LlamaForCausalLM(config),
    args=SFTConfig(
        output_dir={output!r}, max_steps=4, per_device_train_batch_size=2, logging_steps=4, use_cpu=True, bf16=False,
        report_to="none", disable_tqdm=True, save_strategy="no", dataloader_pin_memory=False),
    train_dataset=Dataset.from_list([{{"text": "a b c d e f g h"}}] * 16),
    processing_class=tokenizer,
    peft_config=LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM"),
    callbacks=[callback],
)
trainer.train()
history = trainer.state.log_history
print(json.dumps([
    [line["step"] for line in history if "lora/norm" in line],
    [[line["step"], "mean_token_accuracy" in line] for line in history if "loss" in line],
]))
"""
)
