"""New factors as diffusers saves and loads them: ``pytorch_lora_weights.safetensors`` (floor 1).

Keys are ``unet.<path>.lora_A.weight`` and ``.lora_B.weight``, with ``transformer``, ``text_encoder`` and so on for the
other parts (``LoraBaseMixin.pack_weights``, diffusers.loaders.lora_base); the configuration of each part stands as JSON
in the file's metadata under ``lora_adapter_metadata`` with the part before every field
(``_pack_dict_with_prefix``, since diffusers 0.34).

A version that does not read the metadata takes alpha = r for every module (``get_peft_kwargs``,
diffusers.utils.peft_utils). So the scaling is always multiplied into the factors here, and the metadata says the same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from lorarank.adapters.adapter import Adapter
from lorarank.adapters.components import CLIP_ROOT, ELSEWHERE, component, for_carried
from lorarank.adapters.layout import Block, Layout, Slot
from lorarank.adapters.patterns import pattern_keys
from lorarank.adapters.replacement import Replacement, is_plain, kernel
from lorarank.adapters.verbatim import copied
from lorarank.adapters.write_peft import computed, path_of, stored_path
from lorarank.errors import AdapterError

WEIGHTS = "pytorch_lora_weights.safetensors"
"""``LORA_WEIGHT_NAME_SAFE`` of diffusers.loaders.lora_base."""

METADATA = "lora_adapter_metadata"
"""``LORA_ADAPTER_METADATA_KEY`` of the same."""

UNET_BLOCKS = ("down_blocks.", "mid_block.", "up_blocks.")
"""How most names of a UNet's modules begin, and none of a transformer's."""

MAGNITUDE, BIAS = "lora_magnitude_vector", "lora_B.bias"
"""What diffusers knows beside the factors."""


def layout(adapter: Adapter, replacements: Sequence[Replacement]) -> Layout:
    """The file that diffusers loads these replacements from; their scaling has to be 1, their names paths in a model.

    Raises
    ------
    AdapterError
        The adapter is of no diffusion model, or holds what the format has no place for.
    """
    parts: dict[str, dict[str, int]] = {}
    blocks = []
    for one in replacements:
        module = one.module
        where = f"{adapter.source}: {module.name}"
        if module.kind in ("embedding", "parameter") or not is_plain(adapter, module):
            raise AdapterError(where, f"diffusers has no place for this kind ({module.kind})", do=ELSEWHERE)
    places = _places([path_of(one.module) for one in replacements], named=adapter.format != "peft")
    for one in replacements:
        part, path = places[path_of(one.module)]
        # as a suffix, which fits with and without CLIP's root
        parts.setdefault(part, {})[path.removeprefix(CLIP_ROOT)] = one.r
        blocks.append(_block(adapter, one, f"{part}.{path}"))
    extra = set()
    # of a file of its own whose names stay, so that the tool that wrote it finds again what diffusers passes over
    stays = adapter.format == "diffusers" and all(m.keys[0].startswith(f"{m.name}.") for m in adapter.modules)
    for key in adapter.carried:
        path = stored_path(key)
        found = next((name for name in (MAGNITUDE, BIAS) if name in path), None)
        if found is None and stays:
            blocks.append(copied(adapter, key))
            continue
        if found is None:
            what = "it is no LoRA factor, and diffusers has no place for it"
            raise AdapterError(f"{adapter.source}: {key}", what, do=for_carried(adapter))
        stem, mark, rest = path.partition(f".{found}")
        if stem not in places:
            what = "it belongs to a layer that diffusers calls otherwise or has in parts"
            raise AdapterError(f"{adapter.source}: {key}", what, do=for_carried(adapter))
        extra.add(found)
        blocks.append(copied(adapter, key, ".".join(places[stem]) + mark + rest))
    fields = {f"{part}.{name}": value for part, ranks in parts.items() for name, value in _config(ranks, extra).items()}
    return Layout(
        weights=WEIGHTS,
        blocks=tuple(blocks),
        metadata={"format": "pt", METADATA: json.dumps(fields, indent=2, sort_keys=True)},
        notes=("The scaling is multiplied into the factors: diffusers without their metadata takes alpha = r.",),
    )


def _places(paths: Sequence[str], *, named: bool) -> dict[str, tuple[str, str]]:
    """The part of a pipeline that each module belongs to, and its path in there. Where names tell no part, as PEFT's of
    one model, some of them tell for all whether it is a transformer or a UNet: those of a UNet's blocks before others,
    some of which transformers have too.

    >>> _places(["time_embedding.linear_1", "proj_out", "blocks.0.attn1.to_q"], named=False)["proj_out"]
    ('transformer', 'proj_out')
    """
    found: dict[str, tuple[str, str]] = {}
    for path in paths:
        with suppress(AdapterError):
            found[path] = component(path, named=named)
    parts = {part for part, _ in found.values()}
    if named or not parts or not parts <= {"transformer", "unet"}:
        return {path: found.get(path) or component(path, named=named) for path in paths}  # an error where unknown
    of_unet = "transformer" not in parts or any(path.startswith(UNET_BLOCKS) for path in paths)
    return {path: ("unet" if of_unet else "transformer", path) for path in paths}


def _block(adapter: Adapter, one: Replacement, prefix: str) -> Block:
    tail = kernel(adapter, one.module)
    slots = (
        Slot(f"{prefix}.lora_A.weight", one.dtypes[0], (one.r, *tail)),
        Slot(f"{prefix}.lora_B.weight", one.dtypes[1], (one.module.out_features, one.r, *(1,) * (len(tail) - 1))),
    )
    return Block(slots, partial(computed, slots, [one]))


def _config(ranks: dict[str, int], extra: set[str]) -> dict[str, Any]:
    """Arguments of ``LoraConfig`` for one part, scaling 1 everywhere."""
    r = max(set(ranks.values()), key=lambda rank: (list(ranks.values()).count(rank), rank))
    keys = pattern_keys(ranks)
    pattern = {keys[path]: rank for path, rank in ranks.items() if rank != r}
    return {
        "r": r,
        "lora_alpha": r,
        "rank_pattern": pattern,
        "alpha_pattern": pattern,
        "target_modules": list(ranks),
        "use_dora": MAGNITUDE in extra,
        "lora_bias": BIAS in extra,
    }
