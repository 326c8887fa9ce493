"""From PEFT's names to a tool's (floor 3), with a sentence on whatever has none there."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from lorarank.errors import OptionError, printable
from lorarank.export.options import ANY_MODEL, NAMES
from lorarank.export.settings import Settings

PATTERNS = ("rank_pattern", "alpha_pattern")

HARMLESS: Mapping[str, Any] = {"task_type": "CAUSAL_LM", "bias": "none", "fan_in_fan_out": True}
"""Values that every one of these tools has by itself where it has no key for them."""

OTHER_TASKS = ("SEQ_CLS", "SEQ_2_SEQ_LM", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION")
"""Values of PEFT's ``TaskType`` beside CAUSAL_LM."""

IMAGE = re.compile(
    r"(?:.*[._])?(?:unet|(?:down|up|input|output|single|double)_blocks|(?:mid|middle)_block|single_transformer_blocks)[._]"
    r"|(?:.*[._])?transformer_blocks[._]\d+[._](?:attn\d?[._](?:to|add)_|ff(?:_context)?[._]net)"
    r"|diffusion_model\.|text_encoder(?:_\d)?\.|lora_te\d?_"
    r"|(?:.*\.encoder\.)?stages\.\d|(?:vit|deit|beit|swin|swinv2|dinov2)\."
)
"""Modules of UNets and diffusion transformers with their text encoders, and of image classifiers."""

ENCODER = re.compile(r"(?:distilbert|bert|roberta|albert|electra|deberta|mpnet)\.")
STACK = re.compile(r"(?:model\.|transformer\.)?(encoder|decoder)\.")
CROSS = re.compile(r".*\.(?:encoder_attn|EncDecAttention)\.")
"""The attention from a decoder to its encoder."""


def other_model(settings: Settings) -> str | None:
    """What shows that this is no causal language model's; ``None`` where nothing does.

    Image models are known by most of their modules, so that a language model with an image tower stays one.

    >>> def shown(*modules, **lora):
    ...     return other_model(Settings("a", "adapter", None, lora, modules))
    >>> shown("down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k")
    'its modules are those of an image model'
    >>> shown("bert.encoder.layer.0.attention.self.query", task_type="SEQ_CLS")
    'its task_type is SEQ_CLS'
    >>> shown("model.encoder.layers.0.self_attn.q_proj", "model.decoder.layers.0.encoder_attn.q_proj")
    'its modules are those of an encoder with a decoder'
    >>> shown("transformer.h.0.attn.c_attn"), shown("model.decoder.layers.0.self_attn.q_proj")
    (None, None)
    """
    modules, task = settings.modules, settings.lora.get("task_type")
    if 2 * sum(bool(IMAGE.match(name)) for name in modules) > len(modules):
        return "its modules are those of an image model"
    if task in OTHER_TASKS:
        return f"its task_type is {task}"
    if task is not None:
        return None
    stacks = {found[1] if (found := STACK.match(name)) else "" for name in modules}
    if stacks == {"encoder", "decoder"} or any(CROSS.match(name) for name in modules):
        return "its modules are those of an encoder with a decoder"
    if 2 * sum(bool(ENCODER.match(name)) for name in modules) > len(modules):
        return "its modules are those of an encoder"
    return None


def require_causal(settings: Settings, tool: str) -> None:
    """Nothing, where what is written for the tool can hold for this model.

    Raises
    ------
    OptionError
        The tool is for causal language models, and this is none.

    >>> require_causal(Settings("a", "adapter", None, {"task_type": "SEQ_CLS"}, ()), "mlx")
    Traceback (most recent call last):
        ...
    lorarank.errors.OptionError: --to mlx: what is written for MLX-LM is for causal language models, and the adapter \
is not for one: its task_type is SEQ_CLS. Take --to peft.
    """
    if tool not in ANY_MODEL and (shown := other_model(settings)):
        raise OptionError(
            f"--to {tool}",
            f"what is written for {NAMES[tool]} is for causal language models, and the adapter is not for one: {shown}",
            do="take --to peft",
        )


def translate(
    settings: Settings, keys: Mapping[str, str], tool: str, handled: Collection[str] = ()
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The fields that a tool reads, under its own keys, and sentences on the others.

    Parameters
    ----------
    keys : field of ``LoraConfig`` → key of the tool.
    handled : fields that the caller puts elsewhere.

    >>> lora = {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], "use_dora": True}
    >>> translate(Settings("a", "adapter", None, lora, ()), {"r": "rank"}, "Tool", ("lora_alpha", "target_modules"))
    ({'rank': 8}, ('Tool has no key for use_dora = True: left out.',))
    """
    lora = settings.lora
    taken = {keys[name]: value for name, value in lora.items() if name in keys}
    left = [name for name in lora if name not in keys and name not in handled and HARMLESS.get(name) != lora[name]]
    notes = []
    patterns = [name for name in left if name in PATTERNS]
    if patterns:
        count = len(set().union(*(lora[name] for name in patterns)))
        notes.append(
            f"{tool} reads one rank for all modules: {' and '.join(patterns)} ({count:,} modules) left out, so "
            f"r = {settings.r} and a scaling of {settings.scaling:.3g} hold everywhere."
        )
    notes += [
        f"{tool} has no key for {name} = {printable(lora[name], 80)}: left out."
        for name in left
        if name not in patterns
    ]
    return taken, tuple(notes)


def whole(value: float, tool: str) -> int:
    """``lora_alpha`` for a tool that takes whole numbers alone.

    Raises
    ------
    OptionError
        It is none.

    >>> whole(16.0, "axolotl")
    16
    """
    if float(value).is_integer():
        return int(value)
    raise OptionError(
        f"--to {tool}",
        f"the adapter's lora_alpha is {value:g}, and {tool} takes whole numbers alone",
        do="give another --rank, or --to peft",
    )


def base(settings: Settings, notes: list[str]) -> str:
    """The base model, or a word to be replaced and a note that says so.

    What begins with a dash is no name: in the place of one it would be an option of the command that is pasted.
    """
    if settings.base_model and not settings.base_model.startswith("-"):
        return settings.base_model
    notes.append("The adapter does not name its base model: replace BASE_MODEL.")
    return "BASE_MODEL"
