"""Unsloth: ``FastLanguageModel.from_pretrained`` and ``.get_peft_model`` (floor 3).

Their parameters, at 015bdef of 2026-08-22; they hand further fields on to PEFT's ``LoraConfig``:

- https://github.com/unslothai/unsloth/blob/015bdef/unsloth/models/loader.py
- https://github.com/unslothai/unsloth/blob/015bdef/unsloth/models/llama.py
- https://github.com/unslothai/unsloth/blob/015bdef/unsloth/models/vision.py
"""

from __future__ import annotations

from lorarank.export.document import Call, Name, Script
from lorarank.export.settings import Settings
from lorarank.export.translate import base, translate

KEYS = {
    name: name
    for name in (
        "r",
        "target_modules",
        "lora_alpha",
        "lora_dropout",
        "bias",
        "layers_to_transform",
        "use_rslora",
        "modules_to_save",
        "init_lora_weights",
        "target_parameters",
    )
}
"""Parameters of ``get_peft_model``, which are called as in PEFT."""

FORWARDED = {name: name for name in ("rank_pattern", "alpha_pattern", "use_dora", "exclude_modules")}
"""Fields of ``LoraConfig`` that it takes through ``**kwargs``."""

OPTIMIZED = frozenset({"lm_head", "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"})
"""Targets that it has kernels for (``accepted_modules``)."""


def write(settings: Settings) -> tuple[Script, tuple[str, ...]]:
    """``model`` and ``tokenizer``, the model with its adapter."""
    notes: list[str] = []
    taken, lost = translate(settings, KEYS | FORWARDED, "Unsloth")
    taken["target_modules"] = list(settings.target_names)
    others = sorted({name.rpartition(".")[2] for name in settings.target_names} - OPTIMIZED)
    if others:
        notes.append(f"Unsloth trains {', '.join(others)} without its fast kernels.")
    elif any("." in name for name in settings.target_names):
        notes.append("Unsloth trains targets that are given by their whole paths without its fast kernels.")
    if settings.lora.get("lora_dropout"):
        notes.append("Unsloth's kernels need lora_dropout = 0: with another value it trains correctly, and slower.")
    if taken.keys() & FORWARDED.keys():
        notes.append(f"Unsloth hands {', '.join(sorted(taken.keys() & FORWARDED.keys()))} on to PEFT's LoraConfig.")
    loading = {"model_name": base(settings, notes), "load_in_4bit": settings.qlora}
    calls = (
        Call("model, tokenizer", "FastLanguageModel.from_pretrained", loading),
        Call("model", "FastLanguageModel.get_peft_model", taken, (Name("model"),)),
    )
    after: tuple[str, ...] = ()
    if settings.learning_rate is not None:
        after = (f"SFTConfig(learning_rate={settings.learning_rate!r}, lr_scheduler_type='linear') goes with it.",)
    return Script(("from unsloth import FastLanguageModel",), calls, after), (*lost, *notes)
