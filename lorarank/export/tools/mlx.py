"""MLX-LM: a YAML configuration for ``mlx_lm.lora --config`` (floor 3).

Its keys, at d78bf58 of 2026-08-22: CONFIG_DEFAULTS, an example, and ``linear_to_lora_layers`` and ``build_schedule``:

- https://github.com/ml-explore/mlx-lm/blob/d78bf58/mlx_lm/lora.py
- https://github.com/ml-explore/mlx-lm/blob/d78bf58/mlx_lm/examples/lora_config.yaml
- https://github.com/ml-explore/mlx-lm/blob/d78bf58/mlx_lm/tuner/utils.py

``keys`` are paths inside a layer, or whole ones, matched exactly; ``scale`` is what PEFT calls scaling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lorarank.export.settings import Settings
from lorarank.export.translate import base, translate
from lorarank.module_names import layer_index

ALL_LAYERS = -1
"""``num_layers`` counts from the last; anything below 1 is all of them."""


def write(settings: Settings) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Model, method and ``lora_parameters``; data and batches are the user's."""
    notes: list[str] = []
    handled = ("r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora", "use_dora", "layers_to_transform")
    _, lost = translate(settings, {}, "MLX-LM", handled)
    lora = settings.lora
    document: dict[str, Any] = {
        "model": base(settings, notes),
        "train": True,
        "fine_tune_type": "dora" if lora.get("use_dora") else "lora",
        "num_layers": ALL_LAYERS,
    }
    if settings.learning_rate is not None:
        document["learning_rate"] = settings.learning_rate
        notes.append(
            "MLX-LM's linear schedule needs the number of steps: left out, so the learning rate stays as it is. Add "
            f"lr_schedule with name: linear_schedule and arguments: [{settings.learning_rate!r}, 0.0, STEPS]."
        )
    document["lora_parameters"] = {
        "keys": list(keys(settings.modules)),
        "rank": settings.r,
        "scale": settings.scaling,
        "dropout": float(lora.get("lora_dropout", 0.0)),
    }
    if settings.kind == "run":
        notes.append("For completions and chats add mask_prompt: true, which puts the loss where the probe had it.")
    if settings.qlora:
        notes.append(
            "MLX-LM trains QLoRA where model is quantised: mlx_lm.convert --hf-path MODEL -q --q-bits 4. It has no nf4."
        )
    return document, (*lost, *notes)


def keys(modules: Sequence[str]) -> tuple[str, ...]:
    """Paths inside a layer where all layers have the same, else whole paths.

    >>> keys(["model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj"])
    ('self_attn.q_proj',)
    >>> keys(["model.layers.0.mlp.up_proj", "model.layers.1.self_attn.q_proj"])
    ('model.layers.0.mlp.up_proj', 'model.layers.1.self_attn.q_proj')
    """
    layers: dict[int | None, list[str]] = {}
    for name in modules:
        index = layer_index(name)
        inside = name if index is None else name.partition(f".{index}.")[2]
        layers.setdefault(index, []).append(inside)
    first, *others = layers.values()
    alike = None not in layers and all(set(other) == set(first) for other in others)
    return tuple(dict.fromkeys(first)) if alike else tuple(modules)
