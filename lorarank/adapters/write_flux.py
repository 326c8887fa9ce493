"""diffusers' modules of Flux.1 joined to the layers that kohya's layout has (floor 1).

Black Forest Labs' code, which kohya's names follow, has queries, keys and values in one layer. The factors of several
modules become those of one: every ``lora_A`` below the other, every ``lora_B`` in rows and columns of its own, zeros
elsewhere, so that r is the sum of theirs (``convert_to_sd_scripts_cat``, kohya-ss/sd-scripts
``networks/convert_flux_lora.py``). Modules that were one layer before have one ``lora_A`` between them, and still do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from lorarank.adapters.adapter import Adapter, Factors, LoraModule
from lorarank.adapters.components import component
from lorarank.adapters.names import flux
from lorarank.adapters.names.pieces import Rows
from lorarank.adapters.replacement import Replacement
from lorarank.adapters.write_peft import path_of
from lorarank.errors import AdapterError

JOINED = (
    "Queries, keys and values, with the MLP beside them, are one layer in kohya's layout of Flux.1: where they have "
    "factors of their own, these lie side by side, with zeros between, and r adds up."
)
"""What to know of a file in which any are."""

UNSCALED = "final_layer"
"""Layers for which diffusers takes alpha = r, whatever is stored (``_convert_kohya_flux_lora_to_diffusers``)."""

Parts = Mapping[int, Replacement]
"""Which part of a layer → what is written for it."""


def layers(adapter: Adapter, replacements: Sequence[Replacement]) -> dict[str, Replacement]:
    """Name of a layer in Black Forest Labs' code, with underscores → what is written for it.

    Parameters
    ----------
    adapter : the old one.
    replacements : of modules of a transformer.

    Raises
    ------
    AdapterError
        It is not Flux.1's, or its names and shapes do not show whether it is.
    """
    found: dict[str, dict[int, Replacement]] = {}
    for one in replacements:
        home = flux.place(component(path_of(one.module), named=adapter.format != "peft")[1])
        if home is None:
            raise _unknown(adapter, one.module, "a module that Flux.1 does not have")
        found.setdefault(home[0], {})[home[1]] = one
    if replacements and not any(name.startswith("single_blocks") for name in found):
        raise _unknown(
            adapter, replacements[0].module, "without a block of one stream, Flux.1 cannot be told by its names"
        )
    return {name: _layer(adapter, name, parts) for name, parts in found.items()}


def _layer(adapter: Adapter, name: str, parts: Parts) -> Replacement:
    first = parts[min(parts)]
    whole = flux.joined(first.module, name)
    pieces = flux.pieces(whole, name)
    rows: dict[int, Rows] = {}
    for part, one in parts.items():
        own = None if pieces is None else pieces[part].rows
        rows[part] = np.arange(whole.out_features) if own is None else own
        if pieces is None or (one.module.in_features, one.module.out_features) != (whole.in_features, len(rows[part])):
            raise _unknown(adapter, one.module, "its shape is not that of Flux.1's")
    alike = {one.scaling for one in parts.values()}
    scaling = first.scaling if len(alike) == 1 and not name.startswith(UNSCALED) else 1.0
    dtypes = {one.dtypes for one in parts.values()}
    once = len({one.module.keys for one in parts.values()}) == 1 and all(
        one.r == one.module.r for one in parts.values()
    )
    return Replacement(
        module=whole,
        r=first.r if once else sum(one.r for one in parts.values()),
        scaling=scaling,
        dtypes=first.dtypes if len(dtypes) == 1 else ("float32", "float32"),
        read=partial(_side_by_side, whole, parts, rows, scaling, once),
    )


def _side_by_side(whole: LoraModule, parts: Parts, rows: Mapping[int, Rows], scaling: float, once: bool) -> Factors:
    """``lora_A`` (r, in) and ``lora_B`` (out, r) of a layer, whose product is multiplied by ``scaling``."""
    all_A, r = [], 0 if once else sum(one.r for one in parts.values())
    lora_B = np.zeros((whole.out_features, r or parts[min(parts)].r))
    start = 0
    for part, one in sorted(parts.items()):
        lora_A, own_B = one.read()
        lora_B[rows[part], start : start + one.r] = own_B * (one.scaling / scaling)
        all_A.append(lora_A)
        start += 0 if once else one.r
    return all_A[0] if once else np.concatenate(all_A), lora_B


def _unknown(adapter: Adapter, module: LoraModule, what: str) -> AdapterError:
    return AdapterError(
        f"{adapter.source}: {module.name}",
        what,
        why="kohya joins and renames the layers of transformers, and how is known for Flux.1 alone",
        do="write --to diffusers",
    )
