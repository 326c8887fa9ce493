"""Which part of a diffusion pipeline a module belongs to, by its path (floor 1).

The names are those of diffusers' ``UNet2DConditionModel`` and transformers, and of the CLIP text encoders beside them;
prefixes of parts are those in ``StableDiffusionLoraLoaderMixin`` and its kin (``diffusers.loaders.lora_pipeline``).
"""

from __future__ import annotations

import re

from lorarank.adapters.adapter import Adapter
from lorarank.errors import AdapterError

PARTS = (
    *("unet", "transformer", "transformer_2", "text_encoder", "text_encoder_2", "text_encoder_3"),
    *("transformer_ref", "connectors", "text_conditioner"),
)
"""Parts that a path may name itself; the last are of MiniMax-H3, LTX-2 and Anima (``_lora_loadable_modules`` in
``diffusers.loaders.lora_pipeline``, 0.42)."""

COMFY = "diffusion_model."
"""How names of tensors begin in ComfyUI's checkpoints of diffusion models: those of the models' first code follow."""

STARTS = {
    "unet": ("down_blocks.", "mid_block.", "up_blocks.", "conv_in", "conv_out", "time_embedding.", "add_embedding."),
    "transformer": (
        *("transformer_blocks.", "single_transformer_blocks.", "x_embedder", "context_embedder"),
        *("norm_out.", "time_text_embed."),
    ),
    "text_encoder": ("text_model.",),
}
"""Part → what the paths of its modules begin with."""

ATTENTION = re.compile(
    r"(?:blocks|layers|\w+_blocks|(?:noise|context)_refiner)\.[0-9]{1,4}\.(?:block\.)?(?:\w+_)?att(?:n|ention)[12]?\."
    r"(?:to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)"
)
"""A layer of attention in other transformers of diffusers (``diffusers.models.attention_processor``): those of Wan,
Lumina 2, Z-Image, AuraFlow, HiDream, ACE-Step and more."""

CLIP = re.compile(r"encoder\.layers\.\d+\.(?:self_attn\.(?:q|k|v|out)_proj|mlp\.fc[12])")
"""Modules of CLIP's text model since transformers 5, which leaves ``text_model.`` out."""

CLIP_ROOT = "text_model."

LANGUAGE = re.compile(
    r"transformer\.(?:(?:h|layer|encoder\.layers)\.[0-9]"
    r"|layers\.[0-9]{1,6}\.(?:self_attn(?!\.(?:to_[qkv]|to_out)\b)|gating|attention\.(?:query_key_value|dense))\b"
    r"|blocks\.[0-9]{1,6}\.(?:attn\.(?:Wqkv|out_proj)|ffn\.(?:up|down)_proj))"
)
"""Modules of language models, whose whole body is called as a part of a pipeline is: those of GPT-2, Bloom and Falcon,
XLNet, ChatGLM, Moshi, and MPT. ACE-Step's, in diffusers, begin like Moshi's, and have ``to_q`` and its like."""

ELSEWHERE = "leave --to out, or write --to peft"
"""What to do where a format of diffusion pipelines cannot hold an adapter."""

MORE_NAMES = "leave --to out, or load it with diffusers, which knows more names, and save it from there"
"""The same, where what an adapter of another format carries is in the way: PEFT has no names for that."""


def parts_of(adapter: Adapter) -> frozenset[str]:
    """What its modules' names begin with, where that is the name of a part of a pipeline at least once; else empty.

    An adapter of PEFT is of one model and names no part.
    """
    if adapter.format == "peft" or any(LANGUAGE.match(module.name) for module in adapter.modules):
        return frozenset()
    found = frozenset(module.name.partition(".")[0] for module in adapter.modules)
    return frozenset() if found.isdisjoint(PARTS) else found


def for_carried(adapter: Adapter) -> str:
    """What to do where a format has no place for what an adapter carries.

    >>> for_carried(Adapter("in", "peft", None, {}, ()))
    'leave --to out, or write --to peft'
    """
    return ELSEWHERE if adapter.format == "peft" else MORE_NAMES


def common_part(adapter: Adapter) -> str:
    """The part of a pipeline before the names of all modules, with its dot; empty where there is none."""
    parts = parts_of(adapter)
    return f"{min(parts)}." if len(parts) == 1 else ""


def named_part(path: str) -> str:
    """The part of a pipeline that a path names before what is known to be of it; empty where there is none.

    >>> named_part("transformer.transformer_blocks.0.attn.to_q"), named_part("transformer.double_blocks.0.img_attn.qkv")
    ('transformer', '')
    """
    first, _, rest = path.partition(".")
    starts = STARTS.get(first.rstrip("_23").removesuffix("_ref"), ()) if first in PARTS else ()
    return first if rest.startswith(starts) and starts else ""


def component(path: str, *, named: bool = True) -> tuple[str, str]:
    """The part, and the path within it.

    Parameters
    ----------
    path : of a module.
    named : whether the path may begin with the name of the part; of a single model ``transformer.`` means another.

    Raises
    ------
    AdapterError
        The path is of no diffusion model.

    >>> component("unet.mid_block.attentions.0.proj_in"), component("text_model.encoder.layers.0.mlp.fc1")
    (('unet', 'mid_block.attentions.0.proj_in'), ('text_encoder', 'text_model.encoder.layers.0.mlp.fc1'))
    >>> component("encoder.layers.0.mlp.fc1")
    ('text_encoder', 'text_model.encoder.layers.0.mlp.fc1')
    >>> component("blocks.0.attn2.to_out.0"), component("transformer.layers.0.self_attn.to_q")
    (('transformer', 'blocks.0.attn2.to_out.0'), ('transformer', 'layers.0.self_attn.to_q'))
    """
    first, _, rest = path.partition(".")
    if named and first in PARTS and rest and not LANGUAGE.match(path):
        return first, rest
    if CLIP.fullmatch(path):
        return "text_encoder", CLIP_ROOT + path
    for part, starts in STARTS.items():
        if path.startswith(starts):
            return part, path
    if ATTENTION.fullmatch(path):
        return "transformer", path
    raise AdapterError(
        path,
        "a module of no part of a diffusion pipeline that is known here",
        why="by their names alone UNets, CLIP and the attention of diffusers' transformers are known",
        do=ELSEWHERE,
    )
