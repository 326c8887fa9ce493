"""TRL: ``SFTConfig``, and ``peft_config`` of ``SFTTrainer`` (https://huggingface.co/docs/trl/sft_trainer;
``trl/trainer/sft_config.py`` and ``sft_trainer.py`` of 1.16.0) (floor 3)."""

from __future__ import annotations

from typing import Any

from lorarank.export.document import Call, Script
from lorarank.export.settings import Settings
from lorarank.export.tools.peft import lora_config, own_class, quantized
from lorarank.export.translate import base, other_model

OUTPUT_DIR = "lora"
"""Where the adapter goes; ``SFTConfig`` has ``trainer_output`` otherwise."""


def write(settings: Settings) -> tuple[Script, tuple[str, ...]]:
    """``peft_config`` and ``args``, and how the trainer takes them."""
    notes: list[str] = []
    arguments: dict[str, Any] = {"output_dir": OUTPUT_DIR}
    if settings.learning_rate is not None:
        arguments |= {"learning_rate": settings.learning_rate, "lr_scheduler_type": "linear"}
    imports = ["from peft import LoraConfig", "from trl import SFTConfig, SFTTrainer"]
    calls = [lora_config(settings), Call("args", "SFTConfig", arguments)]
    model = base(settings, notes)
    named = f"model={model!a}"
    if shown := other_model(settings):
        notes.append(
            f"SFTTrainer is for language models, and the adapter is for no causal one ({shown}): peft_config goes "
            "with the trainer of its model too."
        )
    if settings.qlora:
        notes += own_class(settings)
        imports = ["import torch", imports[0], "from transformers import AutoModelForCausalLM, BitsAndBytesConfig"]
        imports.append("from trl import SFTConfig, SFTTrainer")
        calls += quantized(model)
        named = "model=model"
    after = (
        f"SFTTrainer({named}, args=args, train_dataset=YOUR_DATA, peft_config=peft_config).train()",
        "Loss where the probe had it: for prompt + completion data by itself, for messages with "
        "assistant_only_loss=True in SFTConfig, if the chat template has {% generation %} marks or TRL has them "
        "for it.",
    )
    return Script(tuple(imports), tuple(calls), after if settings.kind == "run" else after[:1]), tuple(notes)
