"""LoRA of XLabs' x-flux: pairs in the processors of Flux's blocks (floor 1).

In a block of both streams ``qkv_lora1`` and ``proj_lora1`` are added to what ``img_attn`` computes, those with a 2 to
``txt_attn``. In a block of one stream ``qkv_lora`` is added to the part of ``linear1`` that is the queries, keys and
values, ``proj_lora`` to ``linear2``. Scaling is 1 unless training was given a network alpha, which no file holds
(XLabs-AI/x-flux ``src/flux/modules/layers.py``).
"""

from __future__ import annotations

import re

from lorarank.adapters.adapter import Adapter
from lorarank.adapters.candidate import Candidate, ending
from lorarank.adapters.factors import assemble, build
from lorarank.adapters.named_factors import Role, collect

HUB_FILES = ("*[lL][oO][rR][aA]*.safetensors",)
"""What is fetched of an adapter on the hub."""

FACTOR = re.compile(
    r"(?P<block>(?:.+\.)?(?P<kind>double|single)_blocks\.[0-9]+)\.processor\.(?P<part>qkv|proj)_lora(?P<stream>[12]?)"
    r"\.(?P<side>down|up)\.weight"
)

STREAMS = {"1": "img_attn.", "2": "txt_attn.", "": ""}

UNSCALED = "No network alpha is stored: scaling 1, x-flux's default."


def recognises(candidate: Candidate) -> bool:
    """Whether any tensor is named as x-flux names factors.

    >>> bool(FACTOR.fullmatch("double_blocks.0.processor.qkv_lora1.down.weight"))
    True
    """
    return candidate.has(FACTOR)


def role_of(key: str) -> Role | None:
    """What a tensor is, by its name.

    >>> role_of("double_blocks.3.processor.proj_lora2.up.weight")
    ('double_blocks.3.txt_attn.proj', 'B')
    >>> role_of("single_blocks.7.processor.qkv_lora.down.weight")
    ('single_blocks.7.linear1.qkv', 'A')
    """
    start, end = ending(key)
    match = FACTOR.fullmatch(end)
    if match is None or (match["kind"] == "double") != bool(match["stream"]):
        return None
    if match["kind"] == "double":
        name = STREAMS[match["stream"]] + match["part"]
    else:
        name = "linear1.qkv" if match["part"] == "qkv" else "linear2"
    return f"{start}{match['block']}.{name}", "A" if match["side"] == "down" else "B"


def read(candidate: Candidate) -> Adapter:
    """Read an adapter in the layout of x-flux.

    Raises
    ------
    AdapterError
        Factors that do not fit, or names that are not of this layout.
    """
    store = candidate.tensors
    found, carried = collect(store.tensors, role_of, store.path)
    return assemble(candidate, "xlabs", [build(store, one, 1.0) for one in found], carried, notes=[UNSCALED])
