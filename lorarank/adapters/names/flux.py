"""Names of Flux.1's own code in diffusers' ``FluxTransformer2DModel`` (floor 1).

Black Forest Labs' code has queries, keys and values in one layer, and in the blocks of one stream the first layer of
the MLP beside them; diffusers has a layer for each. Facts from ``_convert_kohya_flux_lora_to_diffusers`` and
``_convert_xlabs_flux_lora_to_diffusers`` in ``diffusers.loaders.lora_conversion_utils``. HunyuanVideo and Flux.2 have
blocks of the same names and other layers in them: what has not Flux.1's shapes is not taken for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

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

DIFFUSERS = re.compile(r"(?P<single>single_)?transformer_blocks\.(?P<index>[0-9]{1,4})\.(?P<name>.+)")
"""A module of a block in diffusers' code."""

BLOCKS = {"double": 19, "single": 38}
"""How many blocks of each kind there are. HunyuanVideo, whose attention is called the same, has one and two more."""

HUNYUAN = re.compile(r"double_blocks\.[0-9]{1,4}\.(?:img|txt)_attn_(?:qkv|proj)")
"""HunyuanVideo's names with their dots, of which Flux.1 has one more (``hyvideo/modules/models.py``,
Tencent/HunyuanVideo)."""

SHARED = frozenset({"img_attn_qkv", "img_attn_proj", "txt_attn_qkv", "txt_attn_proj", "linear1", "linear2"})
"""Layers that both have under these names with underscores, and of the same shapes: both are 3072 wide."""

DOUBT = (
    "Taken for Flux.1's: HunyuanVideo has attention of these names and shapes too, and nothing in the file tells which "
    "it is for."
)

PLACES = {
    "double": {path: (name, 0) for name, (path, _, _) in DOUBLE.items()}
    | {path: (name, part) for name in ("img_attn_qkv", "txt_attn_qkv") for part, path in enumerate(FUSED[name])},
    "single": {path: (name, 0) for name, (path, _, _) in SINGLE.items()}
    | {path: ("linear1", part) for part, path in enumerate(FUSED["linear1"])},
}
"""Kind of a block → path in diffusers → the layer that it is in, and which of its parts."""


def is_flux(name: str) -> bool:
    """Whether a name is one of Flux' blocks, with dots or underscores.

    >>> is_flux("double_blocks.0.img_attn.qkv"), is_flux("single_blocks_7_linear1"), is_flux("blocks.0.self_attn.q")
    (True, True, False)
    """
    return BLOCK.match(name) is not None


def is_doubtful(names: Iterable[str]) -> bool:
    """Whether modules may be HunyuanVideo's as well: layers that both have, none of them in Flux.1's last blocks, which
    adapters of all blocks end with.

    >>> is_doubtful(["double_blocks_0_img_attn_qkv"]), is_doubtful(["double_blocks_18_img_attn_qkv"])
    (True, False)
    """
    found = [match for match in map(BLOCK.fullmatch, names) if match]
    return bool(found) and all(
        match["name"].replace(".", "_") in SHARED and int(match["index"]) + 1 < BLOCKS[match["kind"]] for match in found
    )


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
    if int(match["index"]) >= BLOCKS[match["kind"]] or HUNYUAN.fullmatch(name):
        return None
    stem = "transformer." + ("transformer_blocks" if match["kind"] == "double" else "single_transformer_blocks")
    stem, last = f"{stem}.{match['index']}.", match["name"].replace(".", "_")
    width = module.in_features
    if last in FUSED and (match["kind"] == "single") == last.startswith("linear1"):
        sizes = _sizes(last, width)
        whole = sum(sizes) == module.out_features
        return split(tuple(stem + path for path in FUSED[last]), sizes) if whole else None
    path, out, in_ = (DOUBLE if match["kind"] == "double" else SINGLE).get(last, ("", 0, 1))
    return (Piece(stem + path),) if path and in_ * module.out_features == out * width else None


def place(path: str) -> tuple[str, int] | None:
    """Where a module of diffusers' transformer is in Black Forest Labs' code: the layer, with underscores, and which of
    its parts; ``None`` where it is none of Flux.1's.

    >>> place("single_transformer_blocks.7.proj_mlp"), place("transformer_blocks.3.attn.to_add_out")
    (('single_blocks_7_linear1', 3), ('double_blocks_3_txt_attn_proj', 0))
    >>> place("norm_out.linear"), place("transformer_blocks.19.attn.to_q")
    (('final_layer_adaLN_modulation_1', 0), None)
    """
    match = DIFFUSERS.fullmatch(path)
    if match is None:
        return next(((name, 0) for name, outside in OUTSIDE.items() if outside == path), None)
    kind = "single" if match["single"] else "double"
    found = PLACES[kind].get(match["name"])
    if found is None or int(match["index"]) >= BLOCKS[kind]:
        return None
    return f"{kind}_blocks_{match['index']}_{found[0]}", found[1]


def joined(module: LoraModule, name: str) -> LoraModule:
    """The layer of Black Forest Labs' code that a module of diffusers is in, by its shape.

    >>> k = LoraModule("k", "linear", 1, 2, 2, 1.0, "float32", 4, ("a", "b"), read=lambda: (None, None))
    >>> joined(k, "double_blocks_3_img_attn_qkv").out_features, joined(k, "double_blocks_3_img_attn_proj").out_features
    (6, 2)
    """
    match = BLOCK.fullmatch(name)
    sizes = _sizes(match["name"], module.in_features) if match else ()
    return replace(module, name=name, out_features=sum(sizes) or module.out_features)


def _sizes(layer: str, width: int) -> tuple[int, ...]:
    """Outputs of the parts of a layer; empty where it has none."""
    return tuple(4 * width if path == "proj_mlp" else width for path in FUSED.get(layer, ()))


def _outside(module: LoraModule, name: str) -> tuple[Piece, ...] | None:
    path = OUTSIDE.get(name)
    if path is None:
        return None
    if path != "norm_out.linear":
        return (Piece(f"transformer.{path}"),)
    half, rest = divmod(module.out_features, 2)  # shift before scale there, scale before shift in diffusers
    return None if rest else (Piece(f"transformer.{path}", np.roll(np.arange(2 * half), half)),)
