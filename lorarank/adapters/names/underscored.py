"""Where the dots were in kohya's names, which have underscores for them (floor 1).

The names of what a module can consist of are few: those of diffusers' UNets and transformers
(``models/unets/unet_2d_condition.py``, ``models/unets/unet_2d_blocks.py``, ``models/resnet.py``,
``models/attention.py``, ``models/transformers/transformer_flux.py``, ``transformer_sd3.py`` of huggingface/diffusers)
and of CLIP's text model in transformers. A name is read from the left, the longest of them first. Stability AI's own
code for the same UNets counts their blocks through, and diffusers gives each a level, two resnets long on the way down
(``_maybe_map_sgm_blocks_to_diffusers``, ``_convert_unet_lora_key`` in ``diffusers.loaders.lora_conversion_utils``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

BLOCKS = """
    down_blocks up_blocks mid_block attentions resnets motion_modules downsamplers upsamplers transformer_blocks
    single_transformer_blocks
"""

LAYERS = """
    conv_in conv_out conv conv1 conv2 conv_shortcut time_emb_proj proj_in proj_out proj proj_mlp norm norm1 norm2
    norm1_context norm_out linear linear_1 linear_2 time_embedding add_embedding class_embedding encoder_hid_proj
    attn attn1 attn2 to_q to_k to_v to_out to_add_out add_q_proj add_k_proj add_v_proj ff ff_context net
    x_embedder context_embedder time_text_embed timestep_embedder text_embedder guidance_embedder pos_embed
"""

CLIP = """
    text_model encoder layers self_attn q_proj k_proj v_proj out_proj mlp fc1 fc2 embeddings token_embedding
    position_embedding text_projection
"""

WORDS = frozenset((BLOCKS + LAYERS + CLIP).split())
"""What paths consist of, besides numbers."""

LONGEST = max(word.count("_") + 1 for word in WORDS)

COUNTED = re.compile(r"(input|output)_blocks_(\d+)_(\d+)_(\w+)|middle_block_([012])_(\w+)")
"""Blocks of Stability AI's code: their number, the place in them, and what is there."""

LEVEL = 3
"""Blocks of each level in there: two resnets and what changes the resolution, or three resnets on the way up."""

RESNET = {
    "in_layers_2": "conv1",
    "out_layers_3": "conv2",
    "emb_layers_1": "time_emb_proj",
    "skip_connection": "conv_shortcut",
}

AROUND = {
    "input_blocks_0_0": "conv_in",
    "out_2": "conv_out",
    "time_embed_0": "time_embedding_linear_1",
    "time_embed_2": "time_embedding_linear_2",
    "label_emb_0_0": "add_embedding_linear_1",
    "label_emb_0_2": "add_embedding_linear_2",
}


def dotted(name: str) -> str | None:
    """The path whose dots have become underscores; ``None`` where a word in it is not known.

    >>> dotted("down_blocks_0_attentions_1_transformer_blocks_0_attn1_to_out_0")
    'down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_out.0'
    >>> dotted("input_blocks_4_1_proj_in"), dotted("output_blocks_2_2_conv"), dotted("input_blocks_3_0_op")
    ('down_blocks.1.attentions.0.proj_in', 'up_blocks.0.upsamplers.0.conv', 'down_blocks.0.downsamplers.0.conv')
    >>> dotted("blocks_0_cross_attn_k") is None
    True
    """
    parts = _levelled(name).split("_")
    found, at = [], 0
    while at < len(parts):
        if parts[at].isdecimal():
            found.append(parts[at])
            at += 1
            continue
        for size in range(min(LONGEST, len(parts) - at), 0, -1):
            word = "_".join(parts[at : at + size])
            if word in WORDS:
                found.append(word)
                at += size
                break
        else:
            return None
    return ".".join(found)


def _levelled(name: str) -> str:
    """A name of Stability AI's as diffusers' would be with underscores; any other as it is.

    >>> _levelled("middle_block_0_in_layers_2"), _levelled("input_blocks_2_0_emb_layers_1")
    ('mid_block_resnets_0_conv1', 'down_blocks_0_resnets_1_time_emb_proj')
    """
    match = COUNTED.fullmatch(name)
    if match is None or name in AROUND:
        return AROUND.get(name, name)
    way, block, place, rest, middle, inside = match.groups()
    if middle is not None:
        kind, index = ("attentions", 0) if middle == "1" else ("resnets", int(middle) // 2)
        return f"mid_block_{kind}_{index}_{RESNET.get(inside, inside)}"
    count = int(block) - (way == "input")  # the first is conv_in
    level, index = divmod(count, LEVEL)
    blocks = "down_blocks" if way == "input" else "up_blocks"
    if rest in ("op", "conv"):
        return f"{blocks}_{level}_{'downsamplers' if way == 'input' else 'upsamplers'}_0_conv"
    kind = "resnets" if place == "0" else "attentions"
    return f"{blocks}_{level}_{kind}_{index}_{RESNET.get(rest, rest)}"


def by_underscores(paths: Iterable[str]) -> Mapping[str, str | None]:
    """Names with underscores → paths; ``None`` where several have the same.

    >>> by_underscores(["a.b_c", "a_b.c", "d.e"])
    {'a_b_c': None, 'd_e': 'd.e'}
    """
    found: dict[str, str | None] = {}
    for path in paths:
        flat = path.replace(".", "_")
        found[flat] = None if flat in found else path
    return found
