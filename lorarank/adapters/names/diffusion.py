"""Names of Wan's, Qwen-Image's, LTX-Video's and Z-Image's modules in diffusers' transformers (floor 1).

ComfyUI, ai-toolkit and kohya's musubi-tuner name them as the models' own code does, behind ``diffusion_model.`` or with
underscores for dots. Wan's layers have other names in diffusers and are otherwise the same; the others have the same
names there. Facts from ``_convert_non_diffusers_wan_lora_to_diffusers``, ``_convert_musubi_wan_lora_to_diffusers`` and
its kin for ``qwen``, ``ltxv`` and ``z_image`` in ``diffusers.loaders.lora_conversion_utils``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

WAN_BLOCK = re.compile(r"blocks_(?P<index>[0-9]{1,4})_(?P<name>.+)")

WAN = {
    **{
        f"{theirs}_{one}": f"{ours}.{layer}"
        for theirs, ours in (("self_attn", "attn1"), ("cross_attn", "attn2"))
        for one, layer in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("o", "to_out.0"))
    },
    "cross_attn_k_img": "attn2.add_k_proj",
    "cross_attn_v_img": "attn2.add_v_proj",
    "ffn_0": "ffn.net.0.proj",
    "ffn_2": "ffn.net.2",
}
"""In a block: name with underscores → path in diffusers."""

WAN_OUTSIDE = {
    "head_head": "proj_out",
    "time_projection_1": "condition_embedder.time_proj",
    "text_embedding_0": "condition_embedder.text_embedder.linear_1",
    "text_embedding_2": "condition_embedder.text_embedder.linear_2",
    "time_embedding_0": "condition_embedder.time_embedder.linear_1",
    "time_embedding_2": "condition_embedder.time_embedder.linear_2",
    "img_emb_proj_1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb_proj_3": "condition_embedder.image_embedder.ff.net.2",
}

BLOCK = re.compile(
    r"transformer_blocks_(?P<index>[0-9]{1,4})_(?P<name>(?:attn[12]?_(?P<attn>to_[qkv]|to_out_0|to_add_out|add_[qkv]_proj))"
    r"|(?P<ff>(?:ff|img_mlp|txt_mlp)_net)_(?P<net>0_proj|2)|(?P<mod>(?:img|txt)_mod)_1)"
)
"""A layer of Qwen-Image or LTX-Video, with underscores."""

Z_BLOCK = re.compile(
    r"(?P<stack>layers|noise_refiner|context_refiner)_(?P<index>[0-9]{1,4})_"
    r"(?:attention_(?P<attn>to_[qkv]|to_out_0|out)|feed_forward_(?P<ff>w[123])|(?P<mod>adaLN_modulation)_(?P<place>[01]))"
)
"""A layer of Z-Image, with underscores."""

Z_IMAGE = re.compile(r"(?:layers|noise_refiner|context_refiner)_[0-9]+_attention_to_[qkv]")
"""What only Z-Image has: Lumina's blocks are called the same, and have queries, keys and values in one layer."""


def is_z_image(names: Iterable[str]) -> bool:
    """Whether modules are Z-Image's, by their names with underscores.

    >>> is_z_image(["layers_0_attention_out", "layers_0_attention_to_q"]), is_z_image(["layers_0_attention_qkv"])
    (True, False)
    """
    return any(map(Z_IMAGE.fullmatch, names))


def path(name: str, *, z_image: bool = False) -> str | None:
    """The path in diffusers' transformer; ``None`` where the name is none that is known.

    Parameters
    ----------
    name : in the model's own code, with underscores for all dots.
    z_image : whether the adapter is for Z-Image.

    >>> path("blocks_3_cross_attn_o"), path("transformer_blocks_0_attn_to_add_out"), path("blocks_0_attn_qkv")
    ('blocks.3.attn2.to_out.0', 'transformer_blocks.0.attn.to_add_out', None)
    >>> path("layers_7_attention_out", z_image=True), path("layers_7_feed_forward_w1")
    ('layers.7.attention.to_out.0', None)
    """
    match = WAN_BLOCK.fullmatch(name)
    if match and match["name"] in WAN:
        return f"blocks.{match['index']}.{WAN[match['name']]}"
    match = BLOCK.fullmatch(name)
    if match:
        return f"transformer_blocks.{match['index']}.{_inside(match)}"
    match = Z_BLOCK.fullmatch(name) if z_image else None
    if match:
        return f"{match['stack']}.{match['index']}.{_inside_z(match)}"
    return WAN_OUTSIDE.get(name)


def _inside(match: re.Match[str]) -> str:
    if match["attn"]:
        attention = match["name"].removesuffix(f"_{match['attn']}")
        return f"{attention}.{match['attn'].replace('to_out_0', 'to_out.0')}"
    if match["ff"]:
        return f"{match['ff'].removesuffix('_net')}.net.{match['net'].replace('_', '.')}"
    return f"{match['mod']}.1"


def _inside_z(match: re.Match[str]) -> str:
    if match["attn"]:
        return f"attention.{'to_out.0' if match['attn'] in ('out', 'to_out_0') else match['attn']}"
    return f"feed_forward.{match['ff']}" if match["ff"] else f"{match['mod']}.{match['place']}"
