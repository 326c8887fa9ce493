"""New factors under the names they had: what the tool that an adapter is from reads again (floor 1).

Keys, the way round of each factor, alphas and the file's metadata stay; what is no factor is copied. Where r or the
scaling stands in an ``adapter_config.json``, it is brought up to date. Some tools take less than the file could hold:

- x-flux builds every block with the r of the first (``get_lora_rank``, XLabs-AI/x-flux ``src/flux/xflux_pipeline.py``),
- torchtune every module with the ``lora_rank`` of its recipe, and misses none (pytorch/torchtune
  ``torchtune/modules/peft/_utils.py``),
- lora_diffusion counts the modules, and has the r of each in the metadata, beside the classes that the modules lie in
  (``parse_safeloras``, cloneofsimo/lora ``lora_diffusion/lora.py``). Its bare lists become such a file, as its own
  ``convert_loras_to_safeloras`` makes them one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np

from lorarank.adapters.adapter import Adapter, LoraModule
from lorarank.adapters.layout import Block, Layout, Raw, Slot, downcast
from lorarank.adapters.peft_config import alpha_for
from lorarank.adapters.replacement import Replacement, is_plain, stacks
from lorarank.adapters.stacks import turned_shape
from lorarank.adapters.store import INDEX_SUFFIX
from lorarank.adapters.tensors import FLOATS, Store
from lorarank.adapters.tool_names import names_of
from lorarank.adapters.trainer_files import SCALING, retold
from lorarank.adapters.verbatim import copied, kept_metadata
from lorarank.errors import AdapterError, NumericsError

FORMATS = ("ai-toolkit", "attention-processors", "xlabs", "cloneofsimo", "mlx", "torchtune", "pairs")
"""What can be written so."""

COMPLETE = frozenset({"cloneofsimo", "torchtune", "xlabs"})
"""Formats whose tools miss a module that is left out."""

ONE_RANK = {"torchtune": "torchtune", "xlabs": "x-flux"}
"""Format → the tool, which takes one r for all modules."""

TARGETS = {"unet": ("Attention", "CrossAttention", "GEGLU"), "text_encoder": ("CLIPAttention",)}
"""Part of a pipeline → classes whose layers lora_diffusion adapts; with convolutions ``ResnetBlock2D`` too
(``UNET_DEFAULT_TARGET_REPLACE``, ``UNET_EXTENDED_TARGET_REPLACE``)."""

UNSCALED = (
    "No alpha is stored: where the loader is given one, give it the old one times new r over old r, so that alpha/r "
    "stays what it was."
)

BESIDE = (
    "The scaling is not in this file: lay the trainer's configuration beside it, where it lay before, and have it say "
    "r = {} and a scaling of {}."
)


def layout(adapter: Adapter, replacements: Sequence[Replacement]) -> Layout:
    """The file, and the configuration beside it where there is one.

    Raises
    ------
    AdapterError
        The tool could not read that.
    """
    store = _store(adapter)
    ranks = {one.r for one in replacements}
    if adapter.format in ONE_RANK and len(ranks) > 1:
        raise AdapterError(
            adapter.source,
            f"{ONE_RANK[adapter.format]} takes one r for all modules",
            do="leave --per-module out, or write --to peft",
        )
    tool = names_of(store.tensors)
    if tool is not None and tool.alpha is not None and any(one.scaling != tool.alpha / one.r for one in replacements):
        raise AdapterError(
            adapter.source,
            f"the tool that it is from multiplies by {tool.alpha:g}/r, whatever is stored",
            why="factors of another r or scaling would be another update there",
            do="leave this adapter as it is",
        )
    blocks = [_block(adapter, store, stack) for stack in stacks(replacements)]
    blocks += [copied(adapter, key) for key in adapter.carried]
    unscaled = any(one.module.alpha is None and one.r != one.module.r for one in replacements)
    config = _config(adapter, replacements)
    notes = [UNSCALED] if unscaled and config is None and adapter.format != "cloneofsimo" else []
    scalings = {one.scaling for one in replacements if one.module.alpha is None and one.module.scaling != 1}
    inside = retold(store, [(one.module, one.r, one.scaling) for one in replacements])
    by_module = any(map(SCALING.search, adapter.carried))
    if by_module and any(one.scaling != one.module.scaling for one in replacements):
        raise AdapterError(adapter.source, "it keeps a scaling beside the factors of each module", do=_KEEP)
    if inside is not None or by_module:
        notes = []
    elif config is None and scalings:
        listed = ", ".join(f"{scaling:g}" for scaling in sorted(scalings))
        notes = [BESIDE.format(", ".join(map(str, sorted(ranks))), listed)]
    metadata = kept_metadata(adapter) | (inside or {})
    if adapter.format == "cloneofsimo":
        metadata = _counted(adapter, store, replacements) | metadata
        metadata |= {f"{':'.join(_keys(one.module)[0].split(':')[:2])}:rank": str(one.r) for one in replacements}
    return Layout(
        weights=store.path.name.removesuffix(INDEX_SUFFIX).removesuffix(store.path.suffix) + ".safetensors",
        blocks=tuple(blocks),
        metadata=metadata,
        config=config,
        notes=tuple(notes),
    )


def _store(adapter: Adapter) -> Store:
    if adapter.store is None:
        raise AdapterError(adapter.source, "its tensors are not at hand", do="open it again")
    return adapter.store


def _keys(module: LoraModule) -> tuple[str, str]:
    """The names of its factors; those of a bare list, which have none, as lora_diffusion would give them.

    >>> module = LoraModule("unet.12", "linear", 1, 3, 2, 1.0, "float32", 5, ("25", "24"), read=lambda: (None, None))
    >>> _keys(module)
    ('unet:12:down', 'unet:12:up')
    """
    if not all(key.isdecimal() for key in module.keys):
        return module.keys
    place = module.name.replace(".", ":")
    return f"{place}:down", f"{place}:up"


def _counted(adapter: Adapter, store: Store, replacements: Sequence[Replacement]) -> dict[str, str]:
    """What lora_diffusion needs to know of a bare list: the classes that its modules lie in."""
    if not all(key.isdecimal() for key in store.tensors):
        return {}
    part = adapter.modules[0].name.partition(".")[0]
    convolved = any(one.module.kind != "linear" for one in replacements)
    return {part: json.dumps([*TARGETS[part], *(["ResnetBlock2D"] if convolved else [])])}


def _block(adapter: Adapter, store: Store, stack: Sequence[Replacement]) -> Block:
    """The tensors of a module, or of all experts of a stack."""
    first = stack[0]
    module, r = first.module, first.r
    if not is_plain(adapter, module):
        raise AdapterError(
            f"{adapter.source}: {module.name}",
            "a layer in groups, each with columns of its own",
            why="factors of another rank, scaling or dtype do not fit into that",
            do="leave this adapter as it is, or merge it into its model",
        )
    tails = [store.tensors[key].shape for key in module.keys]
    if module.expert is None:
        tail_A = (module.in_features,) if "A" in module.transposed else tails[0][1:]
        shape_A, shape_B = (r, *tail_A), (module.out_features, r, *tails[1][2:])
    else:
        count = len(stack)
        shape_A = (count, r, module.in_features) if len(tails[0]) == 3 else (count * r, module.in_features)
        shape_B = (count, module.out_features, r) if len(tails[1]) == 3 else (count * module.out_features, r)
    shapes = [
        turned_shape(shape) if letter in module.transposed else shape
        for letter, shape in zip("AB", (shape_A, shape_B), strict=True)
    ]
    slots = [Slot(key, dtype, shape) for key, dtype, shape in zip(_keys(module), first.dtypes, shapes, strict=True)]
    alphas = [] if module.alpha is None else [_alpha(store, module.alpha, alpha_for(r, first.scaling, rslora=False))]
    return Block((*slots, *(slot for slot, _ in alphas)), partial(_computed, slots, stack, [raw for _, raw in alphas]))


def _alpha(store: Store, key: str, alpha: float) -> tuple[Slot, Raw]:
    """An alpha in its old dtype where that holds it exactly, else as float32."""
    stored = store.tensors[key]
    value = np.full(stored.shape, float(alpha))
    if stored.dtype in FLOATS:
        with suppress(NumericsError):  # float32 may hold it
            raw = downcast(value, stored.dtype, key)
            if (np.asarray(raw).astype(np.float64) == value).all():
                return Slot(key, stored.dtype, stored.shape), raw
    return Slot(key, "float32", stored.shape), downcast(value, "float32", key)


def _computed(slots: Sequence[Slot], stack: Sequence[Replacement], alphas: Sequence[Raw]) -> list[Raw]:
    pairs = [one.read() for one in stack]
    found: list[Raw] = []
    for slot, letter, factors in zip(slots, "AB", zip(*pairs, strict=True), strict=True):
        turned = letter in stack[0].module.transposed
        values = np.stack([factor.T if turned else factor for factor in factors])
        found.append(downcast(values.reshape(slot.shape), slot.dtype, slot.key))
    return [*found, *alphas]


def _config(adapter: Adapter, replacements: Sequence[Replacement]) -> Mapping[str, Any] | None:
    """The configuration as it is now; ``None`` where the format has none, or none lay beside the file."""
    if adapter.format not in ("mlx", "torchtune") or not adapter.config:
        return None
    config = dict(adapter.config)
    largest = max(replacements, key=lambda one: one.r)
    if adapter.format == "torchtune":
        return config | {"r": largest.r, "lora_alpha": alpha_for(largest.r, largest.scaling, rslora=False)}
    parameters = config.get("lora_parameters")
    if not isinstance(parameters, dict):  # of MLX-VLM, or of nothing that holds a scale
        of_vision = {"rank": largest.r, "alpha": alpha_for(largest.r, largest.scaling, rslora=False)}
        return config | of_vision if of_vision.keys() <= config.keys() else config
    return config | {"lora_parameters": {**parameters, "rank": largest.r, "scale": largest.scaling}}


_KEEP = "leave --bake-alpha out"
