"""Names that diffusers gives to factors, old and new (floor 1).

Facts from huggingface/diffusers ``utils/state_dict_utils.py`` (the maps of old names to PEFT's) and
``loaders/lora_conversion_utils.py`` (alphas).
"""

from __future__ import annotations

import re

from lorarank.adapters.candidate import ending
from lorarank.adapters.named_factors import Role

PROCESSOR = re.compile(r"(?P<module>(?:.+\.)?)(?P<projection>\w+)_lora\.(?P<part>down|up)\.weight")
"""Old attention processors: the factors lie in the processor, one pair for each projection of the attention."""

NAMED = re.compile(r"(?P<module>.+)\.lora(?:_linear_layer)?\.(?P<part>down|up)\.weight")

PEFT = re.compile(r"(?P<module>.+)\.lora_(?P<part>[AB])(?:(?:\.[^.]+)?\.weight)?")
"""With the name of the adapter where it was kept, and bare where the factors are parameters themselves."""

ALPHA = re.compile(
    r"(?P<module>.+?)(?P<old>_lora)?(?:\.lora(?:_linear_layer|_[AB])?)?(?:\.(?:down|up))?(?:\.weight)?\.(?:lora_)?alpha"
)

SIDES = {"down": "A", "up": "B", "A": "A", "B": "B"}


def role_of(key: str) -> Role | None:
    """What a tensor is, by its name.

    >>> role_of("unet.mid_block.attn1.processor.to_out_lora.down.weight")
    ('unet.mid_block.attn1.to_out.0', 'A')
    >>> role_of("text_encoder.text_model.encoder.layers.0.self_attn.to_out_lora.up.weight")
    ('text_encoder.text_model.encoder.layers.0.self_attn.out_proj', 'B')
    >>> role_of("text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_linear_layer.up.weight")
    ('text_encoder.text_model.encoder.layers.0.mlp.fc1', 'B')
    >>> role_of("transformer.blocks.3.attn.to_q.lora_A.weight"), role_of("transformer.blocks.3.attn.to_q.alpha")
    (('transformer.blocks.3.attn.to_q', 'A'), ('transformer.blocks.3.attn.to_q', 'alpha'))
    """
    start, end = ending(key)
    for pattern in (NAMED, PEFT):
        match = pattern.fullmatch(end)
        if match:
            return start + match["module"], SIDES[match["part"]]
    match = PROCESSOR.fullmatch(end)
    if match:
        return _projection(start + match["module"] + match["projection"]), SIDES[match["part"]]
    match = ALPHA.fullmatch(end)
    if match:
        module = start + match["module"]
        return _projection(module) if match["old"] else module, "alpha"
    return None


def _projection(path: str) -> str:
    """The path of a projection whose factors lie in a processor.

    >>> _projection("mid_block.attn2.processor.to_q"), _projection("encoder.layers.0.self_attn.to_k")
    ('mid_block.attn2.to_q', 'encoder.layers.0.self_attn.k_proj')
    """
    parent, _, projection = path.rpartition(".")
    parent = parent.removesuffix(".processor") if parent != "processor" else ""
    if parent.endswith("self_attn"):  # of CLIP, whose own names differ from those of the U-Net
        projection = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}.get(
            projection, projection
        )
    elif projection == "to_out":
        projection = "to_out.0"
    return f"{parent}.{projection}" if parent else projection
