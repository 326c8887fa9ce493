"""LLaMA-Factory: a YAML configuration (floor 3).

Its keys are the fields of these files, at ff6d4d1 of 2026-08-18, and it builds ``LoraConfig`` from them alone
(``src/llamafactory/model/adapter.py``):

- https://github.com/hiyouga/LLaMA-Factory/blob/ff6d4d1/src/llamafactory/hparams/finetuning_args.py
- https://github.com/hiyouga/LLaMA-Factory/blob/ff6d4d1/src/llamafactory/hparams/model_args.py
- https://github.com/hiyouga/LLaMA-Factory/blob/ff6d4d1/examples/train_qlora/qwen3_lora_sft_otfq.yaml
"""

from __future__ import annotations

from typing import Any

from lorarank.export.settings import Settings
from lorarank.export.translate import base, translate, whole

KEYS = {
    "r": "lora_rank",
    "lora_alpha": "lora_alpha",
    "lora_dropout": "lora_dropout",
    "target_modules": "lora_target",
    "use_rslora": "use_rslora",
    "use_dora": "use_dora",
    "modules_to_save": "additional_target",
}
"""Field of ``LoraConfig`` → key of LLaMA-Factory."""


def write(settings: Settings) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Everything about the adapter; data, template and batches are the user's."""
    notes: list[str] = []
    taken, lost = translate(settings, KEYS, "LLaMA-Factory")
    taken["lora_alpha"] = whole(taken["lora_alpha"], "LLaMA-Factory")
    taken["lora_target"] = ",".join(settings.target_names)
    if "additional_target" in taken:
        taken["additional_target"] = ",".join(taken["additional_target"])
    document: dict[str, Any] = {"model_name_or_path": base(settings, notes)}
    if settings.qlora:
        document |= {"quantization_bit": 4, "quantization_method": "bnb", "quantization_type": "nf4"}
        document |= {"double_quantization": True, "bf16": True}
    document |= {"stage": "sft", "do_train": True, "finetuning_type": "lora"} | taken
    if settings.learning_rate is not None:
        document |= {"learning_rate": settings.learning_rate, "lr_scheduler_type": "linear"}
    return document, (*lost, *notes)
