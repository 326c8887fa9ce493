"""The alpha of all modules that files of MiniMax-H3's have in their metadata (floor 1).

Where no alpha is stored beside the factors, diffusers takes the entry ``alpha`` of a file's metadata for that of every
module, and multiplies by alpha / r (``MiniMaxH3LoraLoaderMixin.lora_state_dict``, diffusers.loaders.lora_pipeline,
0.42). Its loaders of other models pass over such an entry, so that the names of all modules have to be MiniMax-H3's
(``_convert_non_diffusers_minimax_h3_lora_to_diffusers``, diffusers.loaders.lora_conversion_utils).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

from lorarank.adapters.adapter import LoraModule
from lorarank.adapters.peft_config import alpha_for, usable_alpha
from lorarank.adapters.tensors import Store
from lorarank.errors import AdapterError

ENTRY = "alpha"
"""Of the metadata."""

MODULE = re.compile(
    r"(?:diffusion_model_|lora_unet_)?(?:"
    r"(?:token_refiner_)?blocks_[0-9]{1,4}_(?:attn_(?:qkv|out)_proj|mlp_fc[12]|adaln_proj_linear)"
    r"|(?:video|audio)_patch_proj|condition_proj|time_embedder_proj_(?:in|out)"
    r"|final_layer_(?:adaln_proj_linear|(?:video|audio)_out))"
)
"""A module of its first code, with underscores for dots as musubi-tuner has it."""

TOLD = (
    "No alpha is stored with the factors: scaling is alpha/r by the alpha of {:g} in the file's metadata, as diffusers "
    "takes it for MiniMax-H3."
)


def network_alpha(store: Store) -> float | None:
    """The alpha of all modules, where the metadata tell it of a file of MiniMax-H3's.

    Raises
    ------
    AdapterError
        It is a number that cannot be computed with.
    """
    text = getattr(store, "metadata", {}).get(ENTRY)
    if text is None or any(key.endswith(".alpha") for key in store.tensors) or not is_of_h3(store.tensors):
        return None
    with suppress(ValueError):  # no number: diffusers passes over it as well
        return usable_alpha(float(text), f"{store.path}: {ENTRY}")
    return None


def is_of_h3(keys: Iterable[str]) -> bool:
    """Whether the factors among some tensors are MiniMax-H3's, all of them, and some of its attention or modulation.

    >>> is_of_h3(["diffusion_model.blocks.0.attn.qkv_proj.lora_A.weight", "lora_unet_blocks_0_mlp_fc1.lora_up.weight"])
    True
    >>> is_of_h3(["blocks.0.mlp.fc1.lora_A.weight"]), is_of_h3(["diffusion_model.blocks.0.self_attn.q.lora_A.weight"])
    (False, False)
    """
    names = [key.partition(".lora_")[0].replace(".", "_") for key in keys if ".lora_" in key]
    return all(map(MODULE.fullmatch, names)) and any("_attn_" in name or "adaln_proj" in name for name in names)


def by_network_alpha(modules: Sequence[LoraModule], store: Store) -> tuple[list[LoraModule], str] | None:
    """Modules with the scaling by that alpha, and a note; ``None`` where there is none."""
    alpha = network_alpha(store)
    if alpha is None:
        return None
    return [replace(module, scaling=alpha / module.r) for module in modules], TOLD.format(alpha)


def told_again(store: Store, scalings: Iterable[tuple[int, float]]) -> dict[str, str]:
    """The entry for a file of modules with these r and scalings; none where all of these are 1, which it is without.

    Raises
    ------
    AdapterError
        They are by several alphas.
    """
    scalings = list(scalings)
    if all(scaling == 1 for _, scaling in scalings):
        return {}
    alphas = {alpha_for(r, scaling, rslora=False) for r, scaling in scalings}
    if len(alphas) > 1:
        raise AdapterError(
            store.path, "its metadata have one alpha for all modules, and now they would differ", do="add --bake-alpha"
        )
    return {ENTRY: str(alphas.pop())}
