"""axolotl: a YAML configuration (``src/axolotl/utils/schemas/peft.py``, ``training.py`` and ``model.py`` at 067b021 of
2026-07-24; https://docs.axolotl.ai/docs/config-reference.html). Its 4-bit base is nf4 with double quantisation and the
training dtype by itself (``src/axolotl/loaders/model.py``) (floor 3)."""

from __future__ import annotations

from typing import Any

from lorarank.export.settings import Settings
from lorarank.export.translate import base, translate, whole

KEYS = {
    "r": "lora_r",
    "lora_alpha": "lora_alpha",
    "lora_dropout": "lora_dropout",
    "target_modules": "lora_target_modules",
    "target_parameters": "lora_target_parameters",
    "fan_in_fan_out": "lora_fan_in_fan_out",
    "rank_pattern": "lora_rank_pattern",
    "alpha_pattern": "lora_alpha_pattern",
    "modules_to_save": "lora_modules_to_save",
    "layers_to_transform": "peft_layers_to_transform",
    "layers_pattern": "peft_layers_pattern",
    "use_dora": "peft_use_dora",
    "use_rslora": "peft_use_rslora",
    "init_lora_weights": "peft_init_lora_weights",
}
"""Field of ``LoraConfig`` → key of axolotl."""


def write(settings: Settings) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Everything about the adapter; data and batches are the user's."""
    notes: list[str] = []
    taken, lost = translate(settings, KEYS, "axolotl")
    taken["lora_alpha"] = whole(taken["lora_alpha"], "axolotl")
    if "lora_alpha_pattern" in taken:
        taken["lora_alpha_pattern"] = {k: whole(a, "axolotl") for k, a in taken["lora_alpha_pattern"].items()}
    document: dict[str, Any] = {"base_model": base(settings, notes), "adapter": "qlora" if settings.qlora else "lora"}
    if settings.qlora:
        document |= {"load_in_4bit": True, "bf16": True}
    document |= taken
    if settings.learning_rate is not None:
        document |= {"learning_rate": settings.learning_rate, "lr_scheduler": "linear"}
    return document, (*lost, *notes)
