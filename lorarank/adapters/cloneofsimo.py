"""LoRA of cloneofsimo's lora_diffusion, the first for Stable Diffusion: modules are counted, not named (floor 1).

A safetensors file names ``unet:12:up`` and ``unet:12:down``, with textual-inversion embeddings beside them; a ``.pt``
file is a bare list, up before down for every module in turn. ΔW is ``up @ down``: the scale of 1 is an argument of the
one who applies it (cloneofsimo/lora ``lora_diffusion/lora.py``).
"""

from __future__ import annotations

import re

from lorarank.adapters.adapter import Adapter
from lorarank.adapters.candidate import Candidate
from lorarank.adapters.factors import Role, assemble, build, collect
from lorarank.errors import AdapterError

HUB_FILES = ("*[lL][oO][rR][aA]*.safetensors", "*[lL][oO][rR][aA]*.pt")
"""What is fetched of an adapter on the hub."""

NAMED = re.compile(r"(?P<part>[^:]+):(?P<place>[0-9]{1,6}):(?P<side>up|down)")

PLACE = re.compile(r"[0-9]{1,6}")
"""Of a tensor in a list."""

COUNTED = "Modules are stored by their place in the model, not by name; so are they called here. Scaling is 1."


def recognises(candidate: Candidate) -> bool:
    """Whether the tensors are a list, or any is named as lora_diffusion names factors.

    >>> NAMED.fullmatch("text_encoder:0:up").groups()
    ('text_encoder', '0', 'up')
    """
    keys = list(candidate.keys)
    return any(NAMED.fullmatch(key) for key in keys) or (bool(keys) and all(map(PLACE.fullmatch, keys)))


def role_of(key: str) -> Role | None:
    """What a tensor is, by its name or its place in a list.

    >>> role_of("unet:12:down"), role_of("24"), role_of("25"), role_of("<s1>")
    (('unet.12', 'A'), ('modules.12', 'B'), ('modules.12', 'A'), None)
    """
    match = NAMED.fullmatch(key)
    if match:
        return f"{match['part']}.{match['place']}", "A" if match["side"] == "down" else "B"
    if PLACE.fullmatch(key):
        return f"modules.{int(key) // 2}", "A" if int(key) % 2 else "B"
    return None


def read(candidate: Candidate) -> Adapter:
    """Read an adapter of lora_diffusion.

    Raises
    ------
    AdapterError
        Factors that do not fit, or a list of an odd number of tensors.
    """
    store = candidate.tensors
    if all(map(PLACE.fullmatch, store.tensors)) and len(store.tensors) % 2:
        raise AdapterError(
            store.path, f"a list of {len(store.tensors)} tensors, which are no pairs", do="name an adapter's file"
        )
    found, carried = collect(store.tensors, role_of, store.path)
    return assemble(candidate, "cloneofsimo", [build(store, one, 1.0) for one in found], carried, notes=[COUNTED])
