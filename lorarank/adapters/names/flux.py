"""Names of Flux.1's own code in diffusers' ``FluxTransformer2DModel`` (floor 1).

Black Forest Labs' code has queries, keys and values in one layer, and in the blocks of one stream the first layer of
the MLP beside them; diffusers has a layer for each. Facts from ``_convert_kohya_flux_lora_to_diffusers`` and
``_convert_xlabs_flux_lora_to_diffusers`` in ``diffusers.loaders.lora_conversion_utils``. HunyuanVideo and Flux.2 have
blocks of the same names and other layers in them: what has not Flux.1's shapes is not taken for it.
"""

from __future__ import annotations

import re

import numpy as np

from lorarank.adapters.adapter import LoraModule
from lorarank.adapters.names.pieces import Piece, split

BLOCK = re.compile(r"(?P<kind>double|single)_blocks[._](?P<index>[0-9]{1,4})[._](?P<name>.+)")

DOUBLE = {
    "img_attn_proj": ("attn.to_out.0", 1, 1),
    "img_mlp_0": ("ff.net.0.proj", 4, 1),
    "img_mlp_2": ("ff.net.2", 1, 4),
    "img_mod_lin": ("norm1.linear", 6, 1),
    "txt_attn_proj": ("attn.to_add_out", 1, 1),
    "txt_mlp_0": ("ff_context.net.0.proj", 4, 1),
    "txt_mlp_2": ("ff_context.net.2", 1, 4),
    "txt_mod_lin": ("norm1_context.linear", 6, 1),
}
"""In a block of two streams: name → path in diffusers, and how many to how many out and in are."""

SINGLE = {"linear2": ("proj_out", 1, 5), "modulation_lin": ("norm.linear", 3, 1)}
"""The same in a block of one stream."""

FUSED = {
    "img_attn_qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn_qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "linear1_qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),  # what x-flux adapts of linear1
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
}
"""Layers that are several in diffusers; out is a multiple of in for each: one, and four of ``proj_mlp``."""

OUTSIDE = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in_in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in_out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in_in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in_out_layer": "time_text_embed.text_embedder.linear_2",
    "guidance_in_in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in_out_layer": "time_text_embed.guidance_embedder.linear_2",
    "final_layer_linear": "proj_out",
    "final_layer_adaLN_modulation_1": "norm_out.linear",
}


def is_flux(name: str) -> bool:
    """Whether a name is one of Flux' blocks, with dots or underscores.

    >>> is_flux("double_blocks.0.img_attn.qkv"), is_flux("single_blocks_7_linear1"), is_flux("blocks.0.self_attn.q")
    (True, True, False)
    """
    return BLOCK.match(name) is not None


def pieces(module: LoraModule, name: str) -> tuple[Piece, ...] | None:
    """The modules of diffusers that a stored one is, behind ``transformer.``; ``None`` where it is none of Flux.1's.

    Parameters
    ----------
    module : as it is stored.
    name : of it in Black Forest Labs' code, with dots or underscores.

    >>> qkv = LoraModule("", "linear", 1, 2, 6, 1.0, "float32", 8, ("a", "b"), read=lambda: (None, None))
    >>> [piece.name for piece in pieces(qkv, "double_blocks.3.txt_attn.qkv")][:2]
    ['transformer.transformer_blocks.3.attn.add_q_proj', 'transformer.transformer_blocks.3.attn.add_k_proj']
    >>> pieces(qkv, "double_blocks.3.txt_attn.proj") is None  # its shape is another layer's
    True
    """
    match = BLOCK.fullmatch(name)
    if match is None:
        return _outside(module, name.replace(".", "_"))
    stem = "transformer." + ("transformer_blocks" if match["kind"] == "double" else "single_transformer_blocks")
    stem, last = f"{stem}.{match['index']}.", match["name"].replace(".", "_")
    width = module.in_features
    if last in FUSED and (match["kind"] == "single") == last.startswith("linear1"):
        names = FUSED[last]
        sizes = tuple(4 * width if path == "proj_mlp" else width for path in names)
        return split(tuple(stem + path for path in names), sizes) if sum(sizes) == module.out_features else None
    path, out, in_ = (DOUBLE if match["kind"] == "double" else SINGLE).get(last, ("", 0, 1))
    return (Piece(stem + path),) if path and in_ * module.out_features == out * width else None


def _outside(module: LoraModule, name: str) -> tuple[Piece, ...] | None:
    path = OUTSIDE.get(name)
    if path is None:
        return None
    if path != "norm_out.linear":
        return (Piece(f"transformer.{path}"),)
    half, rest = divmod(module.out_features, 2)  # shift before scale there, scale before shift in diffusers
    return None if rest else (Piece(f"transformer.{path}", np.roll(np.arange(2 * half), half)),)
