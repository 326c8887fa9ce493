"""torchtune: the ``model`` section of a LoRA recipe's configuration (floor 3).

Its keys, at bd2a0fc of 2026-04-23: a recipe's, LORA_ATTN_MODULES, the parameters of the ``lora_*`` builders (of one
model), and the schedules:

- https://github.com/pytorch/torchtune/blob/bd2a0fc/recipes/configs/llama3_1/8B_lora.yaml
- https://github.com/pytorch/torchtune/blob/bd2a0fc/torchtune/modules/peft/_utils.py
- https://github.com/pytorch/torchtune/blob/bd2a0fc/torchtune/models/llama3_1/_model_builders.py
- https://github.com/pytorch/torchtune/blob/bd2a0fc/torchtune/training/lr_schedulers.py

Its builders adapt any of four attention layers, all layers of the MLPs or none, and the output layer, at one rank.
"""

from __future__ import annotations

from typing import Any

from lorarank.errors import OptionError, printable
from lorarank.export.settings import Settings
from lorarank.export.translate import translate
from lorarank.module_names import module_type

KEYS = {"r": "lora_rank", "lora_alpha": "lora_alpha", "lora_dropout": "lora_dropout", "use_dora": "use_dora"}
"""Field of ``LoraConfig`` → parameter of the builders."""

ATTENTION = {
    "q_proj": ("q_proj",),
    "k_proj": ("k_proj",),
    "v_proj": ("v_proj",),
    "o_proj": ("output_proj",),
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
}
"""Layer of a model in transformers → those of torchtune that hold the same; LORA_ATTN_MODULES has them in order."""

MLP = ("gate_proj", "up_proj", "down_proj")
FUSED_MLP = ("gate_up_proj", "down_proj")
OUTPUT = "lm_head"
LORA_ATTN_MODULES = ("q_proj", "k_proj", "v_proj", "output_proj")


def write(settings: Settings) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The sections ``model`` and, with a learning rate, ``optimizer``.

    Raises
    ------
    OptionError
        A target that torchtune has no LoRA for.
    """
    types = {module_type(name) for name in settings.target_names}
    unknown = sorted(types - {*ATTENTION, *MLP, *FUSED_MLP, OUTPUT})
    if unknown:
        raise OptionError(
            "--to torchtune",
            f"it has no LoRA for {printable(', '.join(unknown))}",
            why=f"its builders know {', '.join(LORA_ATTN_MODULES)}, the MLPs as a whole and the output layer",
            do="export for another tool",
        )
    taken, lost = translate(settings, KEYS, "torchtune", ("target_modules",))
    attention = {ours for name in types if name in ATTENTION for ours in ATTENTION[name]}
    mlp = types & {*MLP, *FUSED_MLP}
    model = {
        "lora_attn_modules": [name for name in LORA_ATTN_MODULES if name in attention],
        "apply_lora_to_mlp": bool(mlp),
        **({"apply_lora_to_output": True} if OUTPUT in types else {}),  # Gemma's builders do not have it
        **taken,
    }
    notes = [_component(settings)]
    if mlp and not ({*MLP} <= mlp or {*FUSED_MLP} <= mlp):
        notes.append(f"torchtune adapts whole MLPs or none: here all of them, not {', '.join(sorted(mlp))} alone.")
    if mlp - {*MLP} or "qkv_proj" in types:
        notes.append("torchtune splits fused layers, so its adapter has more factors at the same rank.")
    if any("." in name for name in settings.target_names):
        notes.append("torchtune adapts all layers alike: which of them the targets named is left out.")
    document: dict[str, Any] = {"model": model}
    if settings.learning_rate is not None:
        document["optimizer"] = {"lr": settings.learning_rate}
        notes.append(
            "torchtune has a cosine schedule and no linear one: left out, so the configuration that this is merged "
            "into keeps its lr_scheduler."
        )
    return document, (*lost, *notes)


def _component(settings: Settings) -> str:
    kind = "qlora" if settings.qlora else "lora"
    return (
        f"To be merged into a configuration of torchtune (tune ls, tune cp): keep its model._component_, a {kind}_ "
        f"builder such as torchtune.models.llama3_1.{kind}_llama3_1_8b"
        + (", whose base is in NF4." if settings.qlora else ".")
    )
