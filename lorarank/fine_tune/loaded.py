"""What transformers calls a module once a model is loaded, where its files call it otherwise (floor 3).

Since 4.52 its vision-language models hold everything but the head inside ``model``, and files of before, which it still
writes, do not (``transformers.conversion_mapping``; before 5, ``_checkpoint_conversion_mapping`` of the classes).
PEFT goes by the names of the loaded model.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from lorarank.inspect.layers import EXPERT

LLAVA = (
    (re.compile(r"^language_model\.lm_head"), "lm_head"),
    (re.compile(r"^language_model\.model"), "model.language_model"),
    (re.compile(r"^(?=(vision_tower|vision_model|image_tower|video_tower|multi_modal_projector)\b)"), "model."),
)

QWEN2_VL = (
    (re.compile(r"^visual"), "model.visual"),
    (re.compile(r"^model(?!\.(language_model|visual))"), "model.language_model"),
)

RENAMED = {
    **dict.fromkeys(("llava", "llava_next", "llava_next_video", "llava_onevision", "vipllava", "video_llava"), LLAVA),
    **dict.fromkeys(("aria", "aya_vision", "gemma3", "got_ocr2", "internvl", "mistral3", "mllama", "paligemma"), LLAVA),
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl"), QWEN2_VL),
}
"""``model_type`` → what begins the names, in files and loaded."""

ENCODERS = frozenset({"vit", "ast", "beit", "deit", "ijepa", "vit_mae", "vit_msn", "vivit"})
ENCODERS |= {"dinov2", "dinov2_with_registers"}
"""``model_type`` of encoders, also inside others, whose layers late versions of transformers 5 call otherwise, and
earlier ones do not."""

TOWERS = frozenset({"clip_vision_model", "clip_text_model", "siglip_vision_model", "siglip_text_model"})
"""The same of models that lose a prefix, where they stand alone."""


def loaded_name(module: str, config: Mapping[str, Any]) -> str:
    """The path of a module in the loaded model.

    >>> loaded_name("visual.blocks.0.attn.qkv", {"model_type": "qwen2_vl"})
    'model.visual.blocks.0.attn.qkv'
    >>> loaded_name("language_model.model.layers.0.mlp.up_proj", {"model_type": "llava"})
    'model.language_model.layers.0.mlp.up_proj'
    >>> loaded_name("model.layers.0.mlp.up_proj", {"model_type": "llama"})
    'model.layers.0.mlp.up_proj'
    """
    for start, instead in RENAMED.get(str(config.get("model_type")), ()):
        if start.search(module):
            return start.sub(instead, module, count=1)
    return module


def doubts(config: Mapping[str, Any], modules: Collection[str], *, gguf: bool) -> Iterator[str]:
    """What a loaded model may not have, or PEFT not do, in words.

    Parameters
    ----------
    modules : that a LoRA is for.
    gguf : whether their names are llama.cpp's.

    >>> list(doubts({"model_type": "llama"}, ["model.layers.0.mlp.up_proj"], gguf=False))
    []
    """
    kind = str(config.get("model_type"))
    nested = [str(part.get("model_type")) for part in config.values() if isinstance(part, dict)]
    unsure = [one for one in (kind, *nested) if one in ENCODERS] or [one for one in (kind,) if one in TOWERS]
    if gguf:
        yield "those of llama.cpp, which no model of transformers has: PEFT does not find its modules"
    elif kind in RENAMED:
        yield f"those of a {kind} model as transformers loads it from 4.52 on; its files have others"
    elif unsure:
        yield f"those in the files; late versions of transformers 5 load a {unsure[0]} model under others"
    if lost := _called_as_experts(modules):
        yield (
            f"{len(lost):,} modules outside the experts are called as those are, like {lost[0]}: "
            "PEFT 0.21 leaves them as they were in models of transformers 5"
        )


def _called_as_experts(modules: Collection[str]) -> list[str]:
    """Modules with the last name of a matrix of an expert, which PEFT takes for the stack of all experts
    (``_convert_peft_config_moe`` in ``peft.utils.transformers_weight_conversion``).

    >>> _called_as_experts(["mlp.experts.0.up_proj", "mlp.shared_experts.up_proj", "self_attn.q_proj"])
    ['mlp.shared_experts.up_proj']
    """
    last = {name.rpartition(".")[2] for name in modules if EXPERT.search(name)}
    return [name for name in modules if name.rpartition(".")[2] in last and not EXPERT.search(name)]
