"""LoRA as diffusers saves it: ``pytorch_lora_weights.safetensors`` and its forerunners (floor 1).

The names are those of :mod:`lorarank.adapters.attention_names`, each behind the component it belongs to (``unet``,
``transformer``, ``text_encoder``). Where the file carries ``lora_adapter_metadata``, that is a ``LoraConfig`` of PEFT
for every component, its fields behind the component's name; else alpha is r, and scaling 1, unless alphas are stored
(huggingface/diffusers ``loaders/lora_base.py``, ``utils/peft_utils.py``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lorarank.adapters.adapter import Adapter, LoraModule, natural_order
from lorarank.adapters.attention_names import NAMED, PEFT, PROCESSOR, role_of
from lorarank.adapters.candidate import Candidate, ending
from lorarank.adapters.components import LANGUAGE
from lorarank.adapters.factors import MAGNITUDE, alpha_scaling, assemble, build, kept
from lorarank.adapters.foreign import refuse_other_methods
from lorarank.adapters.named_factors import Named, collect
from lorarank.adapters.peft import modules as peft_modules
from lorarank.adapters.peft_config import NOTES, parse_config
from lorarank.adapters.peft_keys import Pair
from lorarank.adapters.tensors import Store
from lorarank.adapters.trainer_files import FILES, scaled
from lorarank.adapters.untrusted import parse_object
from lorarank.errors import AdapterError, printable

HUB_FILES = ("pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin", *FILES)
"""What is fetched of an adapter on the hub."""

METADATA = "lora_adapter_metadata"
"""Entry of the file's metadata that holds the configurations, as JSON."""

MOST_COMPONENTS = 8
"""Of a pipeline; a large one has two transformers and three text encoders."""

KOHYA = re.compile(r".+\.lora_(?:down|up)\.weight")
"""A factor in kohya's names."""

COMPONENTS = (
    *("unet.", "transformer.", "transformer_2.", "transformer_ref.", "connectors."),
    *("text_encoder", "text_conditioner.", "prior.", "controlnet."),
)
"""How names of tensors begin that are of a component of a pipeline."""

ROOT = re.compile(r"(?P<component>\w+\.)base_model\.model\.")
"""PEFT's root behind the name of a component, where its wrapper is saved as it is (``unwrap_model(unet)`` in
``examples/consistency_distillation/train_lcm_distill_lora_sd_wds.py``)."""

PARALLEL = re.compile(r"(?:module\.)+")
"""What data-parallel training puts before all names; AnimateDiff's motion LoRAs have it."""

TWICE = re.compile(r"(?P<attention>(?:.+\.)?attention)\.(?P<layer>to\.[qkv]|to_out\.0|qkv|out)")
"""A layer of Z-Image's attention in files that keep both its own code's layers and diffusers', with a dot in ``to.q``:
diffusers skips the former (``_convert_non_diffusers_z_image_lora_to_diffusers``, ``loaders/lora_conversion_utils.py``).
"""

SKIPPED = (
    "{} modules like {} are those of others once more, under the names of Z-Image's own code: they are left out, as "
    "diffusers does."
)


def recognises(candidate: Candidate) -> bool:
    """Whether any tensor is named as diffusers names factors, or the metadata hold its configurations: of names of
    kohya's SimpleTuner keeps these too, and an alpha beside each
    (``convert_diffusers_to_comfyui_sd_lora``, bghira/SimpleTuner ``simpletuner/helpers/training/lora_format.py``)."""
    return (
        (METADATA in candidate.metadata and not candidate.has(KOHYA))
        or candidate.has(NAMED)
        or candidate.has(PROCESSOR)
        or (candidate.has(PEFT, COMPONENTS) and not any(map(LANGUAGE.match, candidate.keys)))
    )


def read(candidate: Candidate) -> Adapter:
    """Read an adapter of diffusers.

    Raises
    ------
    AdapterError
        Factors that do not fit, metadata that contradict them, or parts of another method.
    """
    form = "attention-processors" if candidate.has(PROCESSOR) else "diffusers"
    if METADATA not in candidate.metadata:
        return read_plain(candidate, form, "No alpha is stored: scaling 1, as diffusers loads it.")
    store = candidate.tensors
    found, carried = _collected(store)
    path = Path(f"{store.path}: {METADATA}")
    raw = parse_object(candidate.metadata[METADATA].encode(), path)
    modules, notes = _configured(store, found, raw, path)
    if {one.alpha for one in found} - {None} > {module.alpha for module in modules} - {None}:
        notes.append(f"Alphas are stored beside {METADATA}: the latter counts.")
    return assemble(candidate, form, modules, carried, notes=notes, config=raw)


def read_plain(candidate: Candidate, form: str, unscaled: str) -> Adapter:
    """Read factors in diffusers' names that come without a configuration.

    Parameters
    ----------
    candidate : with tensors.
    form : name of the format.
    unscaled : note for the modules without an alpha.

    Raises
    ------
    AdapterError
        Factors that do not fit, an unusable alpha, or parts of another method.
    """
    store = candidate.tensors
    refuse_other_methods(store.path, store.tensors)
    found, carried = _collected(store)
    found, twice = _once(found)
    ways = [kept(store, one) for one in found]
    modules = [
        build(store, one, alpha_scaling(store, one, way), transposed=way) for one, way in zip(found, ways, strict=True)
    ]
    modules, notes = scaled(modules, store, unscaled)
    if twice:
        notes.append(SKIPPED.format(len(twice), printable(twice[0].module)))
    if any(map(MAGNITUDE.search, carried)):
        notes.append(NOTES["use_dora"])
    return assemble(candidate, form, modules, carried, notes=notes)


def _collected(store: Store) -> tuple[list[Named], tuple[str, ...]]:
    """Factors and what is carried, the former's modules without what training wraps around a component."""
    found, carried = collect(store.tensors, role_of, store.path)
    if all(PARALLEL.match(one.module) for one in found):
        found = [one._replace(module=PARALLEL.sub("", one.module, count=1)) for one in found]
    return [one._replace(module=_unrooted(one.module)) for one in found], carried


def _unrooted(module: str) -> str:
    """The path of a module without PEFT's root.

    >>> _unrooted("unet.base_model.model.mid_block.proj"), _unrooted("unet.mid_block.proj")
    ('unet.mid_block.proj', 'unet.mid_block.proj')
    """
    match = ROOT.match(module)
    return module if match is None else match["component"] + module[match.end() :]


def _once(found: Sequence[Named]) -> tuple[list[Named], list[Named]]:
    """The factors of a file without those that it holds twice, and these.

    >>> both = [Named(f"layers.0.attention.{name}", "a", "b") for name in ("qkv", "to.q", "to_out.0")]
    >>> [[one.module.rpartition("attention.")[2] for one in some] for some in _once(both)]
    [['to_out.0', 'to_q'], ['qkv']]
    """
    names = {one.module for one in found}
    layers = [_layer(one.module) for one in found]
    dotted = {attention for attention, layer in layers if layer.startswith("to.")}
    once: list[Named] = []
    twice: list[Named] = []
    for one, (attention, layer) in zip(found, layers, strict=True):
        if attention not in dotted:
            once.append(one)
        elif layer == "qkv" or (layer == "out" and f"{attention}.to_out.0" in names):
            twice.append(one)
        else:
            once.append(one._replace(module=f"{attention}.{layer.replace('to.', 'to_')}"))
    return sorted(once, key=lambda one: natural_order(one.module)), twice


def _layer(module: str) -> tuple[str, str]:
    """The attention that a module is a layer of, and which; empty where it is none of Z-Image's."""
    start, end = ending(module)
    match = TWICE.fullmatch(end)
    return (start + match["attention"], match["layer"]) if match else ("", "")


def _configured(
    store: Store, found: Sequence[Named], raw: Mapping[str, Any], path: Path
) -> tuple[list[LoraModule], list[str]]:
    """Modules by the configurations of their components, and notes."""
    prefixes = [""] if "r" in raw else sorted({f"{key.partition('.')[0]}." for key in raw})
    if len(prefixes) > MOST_COMPONENTS:
        raise AdapterError(path, f"configures {len(prefixes):,} components, more than any pipeline has")
    modules: list[LoraModule] = []
    notes: list[str] = []
    rest = list(found)
    for prefix in prefixes:
        config = parse_config(
            {"peft_type": "LORA", **{key.removeprefix(prefix): raw[key] for key in raw if key.startswith(prefix)}}, path
        )
        own = [one for one in rest if one.module.startswith(prefix)]
        rest = [one for one in rest if not one.module.startswith(prefix)]
        pairs = [Pair(one.module.removeprefix(prefix), False, one.A, one.B) for one in own]
        built, more = peft_modules(store, config, pairs)
        modules += [replace(module, name=prefix + module.name) for module in built]
        notes += [*config.notes, *more]
    if all(one.alpha for one in rest):
        modules += [build(store, one, alpha_scaling(store, one)) for one in rest]
    else:
        raise AdapterError(f"{store.path}: {rest[0].A}", f"{METADATA} configures no component that it belongs to")
    return modules, list(dict.fromkeys(notes))
