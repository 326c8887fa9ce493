"""PEFT: ``LoraConfig`` (https://huggingface.co/docs/peft/package_reference/lora; ``src/peft/tuners/lora/config.py`` of
0.21.2), and the QLoRA base as in https://huggingface.co/docs/peft/developer_guides/quantization (floor 3)."""

from __future__ import annotations

from typing import Any

from lorarank.export.document import Call, Name, Script
from lorarank.export.settings import Settings
from lorarank.export.translate import base, other_model
from lorarank.heuristics import QLORA_BASE


def write(settings: Settings) -> tuple[Script, tuple[str, ...]]:
    """``peft_config``; with QLoRA the model too."""
    notes: list[str] = []
    imports = ["from peft import LoraConfig"]
    calls = [lora_config(settings)]
    if settings.qlora:
        notes += own_class(settings)
        imports = [
            "import torch",
            "from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training",
            "from transformers import AutoModelForCausalLM, BitsAndBytesConfig",
        ]
        calls += [
            *quantized(base(settings, notes)),
            Call("model", "prepare_model_for_kbit_training", {}, (Name("model"),)),
            Call("model", "get_peft_model", {}, (Name("model"), Name("peft_config"))),
        ]
    return Script(tuple(imports), tuple(calls)), tuple(notes)


def lora_config(settings: Settings) -> Call:
    """``peft_config = LoraConfig(...)``."""
    return Call("peft_config", "LoraConfig", settings.lora)


def own_class(settings: Settings) -> tuple[str, ...]:
    """A sentence on the class that loads the model, where it is not the one that is written."""
    if not (shown := other_model(settings)):
        return ()
    return (f"The adapter is for no causal language model ({shown}): put its class for AutoModelForCausalLM.",)


def quantized(model: str) -> list[Call]:
    """``quantization_config`` and ``model``, with :data:`lorarank.heuristics.QLORA_BASE`."""
    options: dict[str, Any] = {name: value for name, value in QLORA_BASE.items() if name != "device_map"}
    options["bnb_4bit_compute_dtype"] = Name(f"torch.{options['bnb_4bit_compute_dtype']}")
    loading = {"quantization_config": Name("quantization_config"), "device_map": QLORA_BASE["device_map"]}
    return [
        Call("quantization_config", "BitsAndBytesConfig", options),
        Call("model", "AutoModelForCausalLM.from_pretrained", loading, (model,)),
    ]
