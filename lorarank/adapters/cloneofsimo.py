"""LoRA of cloneofsimo's lora_diffusion, the first for Stable Diffusion: modules are counted, not named (floor 1).

A safetensors file names ``unet:12:up`` and ``unet:12:down``, with textual-inversion embeddings beside them; a ``.pt``
file is a bare list, up before down for every module in turn, of the U-Net where its name does not say
``text_encoder``. ΔW is ``up @ down``: the scale of 1 is an argument of the one who applies it (``_text_lora_path`` and
``weight_apply_lora``, cloneofsimo/lora ``lora_diffusion/lora.py``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

from lorarank.adapters.adapter import Adapter
from lorarank.adapters.candidate import Candidate
from lorarank.adapters.factors import assemble, build, factor_shape, is_narrow
from lorarank.adapters.named_factors import Named, Role, collect
from lorarank.adapters.tensors import Store
from lorarank.errors import AdapterError

HUB_FILES = ("*[lL][oO][rR][aA]*.safetensors", "*[lL][oO][rR][aA]*.pt")
"""What is fetched of an adapter on the hub."""

NAMED = re.compile(r"(?P<part>[^:]+):(?P<place>[0-9]{1,6}):(?P<side>up|down)")

PLACE = re.compile(r"[0-9]{1,6}")
"""Of a tensor in a list."""

TEXT_ENCODER = "text_encoder"
"""In the name of the file of its list; ``lora.text_encoder.pt`` beside ``lora.pt``."""

COUNTED = "Modules are stored by their place in the model, not by name; so are they called here. Scaling is 1."

DOWN_FIRST = "By their shapes the first of each two is lora_A, (r, in), and the second lora_B, (out, r)."

UNNAMED = "A bare list does not say which model it is of: by the name of the file these are modules of the {}."


def recognises(candidate: Candidate) -> bool:
    """Whether the tensors are a list, or any is named as lora_diffusion names factors.

    >>> NAMED.fullmatch("text_encoder:0:up").groups()
    ('text_encoder', '0', 'up')
    """
    keys = list(candidate.keys)
    return any(NAMED.fullmatch(key) for key in keys) or (bool(keys) and all(map(PLACE.fullmatch, keys)))


def role_of(key: str, part: str = "unet") -> Role | None:
    """What a tensor is, by its name or its place in a list of the modules of a part of the pipeline.

    >>> role_of("unet:12:down"), role_of("24"), role_of("25", "text_encoder"), role_of("<s1>")
    (('unet.12', 'A'), ('unet.12', 'B'), ('text_encoder.12', 'A'), None)
    """
    match = NAMED.fullmatch(key)
    if match:
        return f"{match['part']}.{match['place']}", "A" if match["side"] == "down" else "B"
    if PLACE.fullmatch(key):
        return f"{part}.{int(key) // 2}", "A" if int(key) % 2 else "B"
    return None


def _is_up_first(store: Store, found: Sequence[Named]) -> bool:
    """Whether the pairs of a list are up before down, or fit at least no better the other way round."""
    shapes = [(factor_shape(store, one.B), factor_shape(store, one.A)) for one in found]
    if not all(len(first) == len(second) == 2 for first, second in shapes):
        return True
    up_first = all(is_narrow(second, first, "") for first, second in shapes)
    return up_first or not all(is_narrow(first, second, "") for first, second in shapes)


def read(candidate: Candidate) -> Adapter:
    """Read an adapter of lora_diffusion.

    Raises
    ------
    AdapterError
        Factors that do not fit, or a list of an odd number of tensors.
    """
    store = candidate.tensors
    listed = all(map(PLACE.fullmatch, store.tensors))
    if listed and len(store.tensors) % 2:
        raise AdapterError(
            store.path, f"a list of {len(store.tensors)} tensors, which are no pairs", do="name an adapter's file"
        )
    part = TEXT_ENCODER if TEXT_ENCODER in store.path.name else "unet"
    found, carried = collect(store.tensors, partial(role_of, part=part), store.path)
    notes = [COUNTED, UNNAMED.format(part)] if listed else [COUNTED]
    if listed and not _is_up_first(store, found):
        found = [one._replace(A=one.B, B=one.A) for one in found]
        notes.append(DOWN_FIRST)
    return assemble(candidate, "cloneofsimo", [build(store, one, 1.0) for one in found], carried, notes=notes)
