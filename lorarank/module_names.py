"""What the path of a module says about it (floor 0)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

QV_NAMES = frozenset(
    {"q_proj", "v_proj", "q", "v", "query", "value"} | {"c_attn", "query_key_value", "qkv_proj", "qkv", "Wqkv"}
)
"""Query and value projections, or the fused matrix that holds them, by the names of common architectures."""

ATTENTION_PARTS = ("attn", "attention")
"""A linear module is part of attention when a component of its path contains one of these."""

TARGET_SETS: Mapping[str, Callable[[str], bool]] = MappingProxyType(
    {
        "qv": lambda name: module_type(name) in QV_NAMES,
        "attention": lambda name: any(part in name.lower() for part in ATTENTION_PARTS),
        "all-linear": lambda name: True,
    }
)
"""Words for a target that stand for modules → whether they hold the linear module at a path. The output layer is none
of these modules."""

MAMBA_TYPES = frozenset({"mamba", "mamba2", "falcon_mamba", "falcon_h1", "nemotron_h"})
MAMBA_REFUSED = frozenset({"out_proj", "conv1d"})
"""``model_type`` of models with Mamba layers, and the modules in them that PEFT attaches no LoRA to
(``peft.tuners.tuners_utils._check_lora_target_modules_mamba``, 0.21)."""


def peft_refuses(kind: str, model_type: str) -> bool:
    """Whether PEFT ends with an error where LoRA is to go on modules called ``kind``, the last part of their path.

    >>> peft_refuses("out_proj", "mamba2"), peft_refuses("in_proj", "mamba2"), peft_refuses("out_proj", "opt")
    (True, False, False)
    """
    return kind in MAMBA_REFUSED and model_type in MAMBA_TYPES


def module_type(name: str) -> str:
    """The last component of a module path, with its parent where it is only a number.

    A number behind a single component is a place in a list of modules, and no type; ``weight`` is said of a parameter,
    whose module tells more.

    >>> module_type("model.layers.0.self_attn.q_proj"), module_type("attn.to_out.0"), module_type("unet.139")
    ('q_proj', 'to_out.0', 'unet')
    >>> module_type("model.layers.0.mlp.gate.weight")
    'gate'
    """
    parts = name.removesuffix(".weight").split(".")
    if len(parts) == 2 and parts[1].isdecimal():
        return parts[0]
    return ".".join(parts[-2:]) if parts[-1].isdecimal() and len(parts) > 1 else parts[-1]


def layer_index(name: str) -> int | None:
    """The first whole number among the components of a module path; ``None`` where there is none.

    >>> layer_index("model.layers.11.mlp.experts.3.up_proj"), layer_index("lm_head")
    (11, None)
    """
    return next((int(part) for part in name.split(".") if part.isascii() and part.isdecimal()), None)


def layer_stack(name: str) -> str:
    """The components before the first whole number: the list of layers that a module lies in. Empty where there is no
    number, or nothing before it.

    >>> layer_stack("encoder.layers.0.fc1"), layer_stack("decoder.layers.0.fc1"), layer_stack("lm_head")
    ('encoder.layers', 'decoder.layers', '')
    """
    parts = name.split(".")
    place = next((i for i, part in enumerate(parts) if part.isascii() and part.isdecimal()), 0)
    return ".".join(parts[:place])
