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
    named = adapter.format != "peft"
    blocks = []
    for one in replacements:
        module = one.module
        where = f"{adapter.source}: {module.name}"
        if module.kind in ("embedding", "parameter") or not is_plain(adapter, module):
            raise AdapterError(where, f"diffusers has no place for this kind ({module.kind})", do=ELSEWHERE)
        part, path = component(path_of(module), named=named)
        # as a suffix, which fits with and without CLIP's root
        parts.setdefault(part, {})[path.removeprefix(CLIP_ROOT)] = one.r
        blocks.append(_block(adapter, one, f"{part}.{path}"))
    extra, paths = set(), {path_of(one.module) for one in replacements}
    for key in adapter.carried:
        path = stored_path(key)
        found = next((name for name in (MAGNITUDE, BIAS) if name in path), None)
        if found is None:
            what = "it is no LoRA factor, and diffusers has no place for it"
            raise AdapterError(f"{adapter.source}: {key}", what, do=for_carried(adapter))
        stem, mark, rest = path.partition(f".{found}")
        if stem not in paths:
            what = "it belongs to a layer that diffusers calls otherwise or has in parts"
            raise AdapterError(f"{adapter.source}: {key}", what, do=for_carried(adapter))
        extra.add(found)
        blocks.append(copied(adapter, key, ".".join(component(stem, named=named)) + mark + rest))
    fields = {f"{part}.{name}": value for part, ranks in parts.items() for name, value in _config(ranks, extra).items()}
    return Layout(
        weights=WEIGHTS,
        blocks=tuple(blocks),
        metadata={"format": "pt", METADATA: json.dumps(fields, indent=2, sort_keys=True)},
        notes=("The scaling is multiplied into the factors: diffusers without their metadata takes alpha = r.",),
    )


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
