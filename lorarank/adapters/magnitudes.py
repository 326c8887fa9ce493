"""DoRA's magnitudes on their way into PEFT's layout (floor 1).

W + ΔW has each of its rows brought to the norm that is stored for it; so do PEFT (``DoraLinearLayer``,
peft.tuners.lora.dora), torchtune (``DoRALinear``, pytorch/torchtune ``torchtune/modules/peft/dora.py``), MLX-LM, and
LyCORIS where it decomposes on the output; its older files have a norm for each column instead
(``apply_weight_decompose``, KohakuBlueleaf/LyCORIS ``lycoris/modules/locon.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile

import numpy as np

from lorarank.adapters.adapter import Adapter, LoraModule
from lorarank.adapters.layout import Block, Raw, Slot
from lorarank.adapters.replacement import kernel
from lorarank.adapters.verbatim import copied
from lorarank.errors import AdapterError

MAGNITUDE = "lora_magnitude_vector"
"""What PEFT calls them, behind the path of their module."""

ENDINGS = ("m", MAGNITUDE, f"{MAGNITUDE}.weight", "magnitude", "dora_scale")
"""What MLX, diffusers, torchtune and LyCORIS call them, behind what a module's keys begin with."""


def stem(module: LoraModule) -> str:
    """What the stored names of its factors begin with, up to the dot.

    >>> keys = ("lora_unet_mid_proj.lora_down.weight", "lora_unet_mid_proj.lora_up.weight")
    >>> stem(LoraModule("q", "linear", 1, 1, 1, 1.0, "float32", 2, keys, read=lambda: (None, None)))
    'lora_unet_mid_proj'
    """
    parts = zip(*(key.split(".") for key in module.keys), strict=False)
    return ".".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], parts))


def magnitude_keys(adapter: Adapter) -> Mapping[str, str]:
    """Module of another format → key of its DoRA magnitudes."""
    found, carried = {}, frozenset(adapter.carried)
    for module in adapter.modules if adapter.format != "peft" and carried else ():
        start = stem(module)
        starts = dict.fromkeys((start, start.removesuffix(".lora")))  # diffusers' old names: q.lora.down.weight
        keys = [key for one in starts for ending in ENDINGS if (key := f"{one}.{ending}") in carried]
        if keys and module.kind not in ("embedding", "parameter"):
            found[module.name] = keys[0]
    return found


def magnitude(adapter: Adapter, module: LoraModule, key: str, name: str) -> Block:
    """The DoRA magnitudes of a module, in its rows' order and PEFT's shape.

    Parameters
    ----------
    key : that they are stored under.
    name : that they are to be written under.

    Raises
    ------
    AdapterError
        They are of columns, or not one for each row.
    """
    stored, store, rows = copied(adapter, key), adapter.store, module.rows
    (slot,) = stored.slots
    where = f"{adapter.source}: {key}"
    if key.endswith(".dora_scale") and slot.shape[:1] == (1,) and module.out_features > 1:
        what = f"DoRA with a magnitude for each column, {slot.shape}"
        raise AdapterError(where, what, why="PEFT has one for each row", do="leave --to out")
    if store is None or slot.size != store.tensors[module.keys[1]].shape[-1 if "B" in module.transposed else 0]:
        raise AdapterError(where, f"its shape {slot.shape} is not that of one magnitude for each row")

    def load() -> list[Raw]:
        (raw,) = stored.load()
        numbers = np.frombuffer(raw, f"V{slot.bytes // slot.size}")
        return [(numbers if rows is None else numbers[rows]).tobytes()]

    ones = (1,) * (len(kernel(adapter, module)) - 1)
    shape = (1, module.out_features, *ones) if ones else (module.out_features,)
    return Block((Slot(name, slot.dtype, shape),), load)
