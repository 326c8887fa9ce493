"""Scalings that trainers leave for factors without an alpha, in their file or in one beside it (floor 1)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from lorarank.adapters.adapter import LoraModule
from lorarank.adapters.peft_config import usable_alpha
from lorarank.adapters.tensors import Store
from lorarank.adapters.untrusted import parse_object, read_json
from lorarank.errors import AdapterError, SourceError


class Place(NamedTuple):
    """Where a trainer says which r and which scaling it has, with dots between the names of objects.

    Attributes
    ----------
    name : of the file, or of the object in the file of the factors.
    r, scaling : keys in there.
    power : of r that the latter is to be divided by, 1 for an alpha.
    """

    name: str
    r: str
    scaling: str
    power: float = 0.0


TRAINERS = (
    Place("lora_config.json", "r", "scaling"),
    Place("lora_config.json", "lora_params.lora_rank", "lora_params.lora_alpha", 1.0),
    Place("lora_config.json", "lora_config.r", "lora_config.alpha", 1.0),
    Place("params.json", "lora.rank", "lora.scaling"),
    Place("params.json", "lora_args.rank", "lora_args.scale"),
    Place("config.json", "lora_rank", "lora_scaling"),
    Place("config.json", "lora_r", "lora_alpha", 1.0),
)
"""Beside the factors, of PaddleNLP (``paddlenlp/peft/lora/lora_config.py``), FastVideo (``save_lora_checkpoint``,
``fastvideo/utils/checkpoint.py``, and its samples, which load with that weight), VoxCPM
(``scripts/train_voxcpm_finetune.py``), mistral-finetune (``model/args.py``, ``finetune/checkpointing.py``), Meta's
Llama 3.2 (meta-llama/llama-models ``models/llama3/args.py``), moshi-finetune (``finetune/wrapped_model.py``) and
OpenDelta (``opendelta/delta_models/lora.py``)."""

INSIDE = (Place("lora_config", "rank", "alpha", 1.0), Place("metadata", "r", "alpha", 0.5))
"""In their file, of Stable Audio 3 and Chatterbox (Stability-AI/stable-audio-3
``stable_audio_3/models/lora/utils.py``) and of CLIP-LoRA (MaxZanella/CLIP-LoRA ``loralib/utils.py`` and
``loralib/layers.py``)."""

OF_PARTS = "kwargs"
"""What Mochi's trainer says of its own, in the file: ranks and alphas of two kinds of projections (genmoai/mochi
``demos/fine_tuner/train.py``)."""

SCALING = re.compile(r"\.(?:lora_)?scaling$")
"""A number behind the name of a module, by which its product counts (mobiusml/hqq ``hqq/core/peft.py``)."""

KINDS = (("qkv_", "qkv"), ("proj_", "out"))
"""What their names begin with, and what that calls them."""

FILES = tuple(dict.fromkeys(place.name for place in TRAINERS))


def scaled(modules: Sequence[LoraModule], store: Store, unscaled: str) -> tuple[list[LoraModule], list[str]]:
    """Modules with the scaling that a trainer has left in or beside their file, where they have no alpha, and notes.

    Parameters
    ----------
    modules : of one file; 1 is the scaling of those that have no alpha.
    store : that file.
    unscaled : the note where nothing is told, and 1 it is.
    """
    if all(module.alpha is not None for module in modules):
        return list(modules), []
    of_parts = _of_parts(modules, store)
    if of_parts is not None:
        return of_parts, [f"No alpha is stored with the factors: the scalings are those of {OF_PARTS} in the file."]
    ranks = {module.r for module in modules}
    scaling, note = _inside(store, ranks) or _beside(store.path, ranks) or (1.0, unscaled)
    return [replace(one, scaling=scaling) if one.alpha is None else one for one in modules], [note]


def retold(store: Store, changed: Sequence[tuple[LoraModule, int, float]]) -> dict[str, str] | None:
    """Metadata by which the file of new factors tells their scaling, where the file of the old ones told it.

    Parameters
    ----------
    store : the old file.
    changed : a module as it was, its new r and its new scaling.

    Raises
    ------
    AdapterError
        It tells one r for modules that have got several.
    """
    without = [(module, r, scaling) for module, r, scaling in changed if module.alpha is None]
    modules = [module for module, _, _ in without]
    if not modules:
        return None
    if _of_parts(modules, store) is not None:
        told = dict(_told(store, OF_PARTS))
        for start, kind in KINDS:
            new = {(r, by) for module, r, by in without if module.name.rpartition(".")[2].startswith(start)}
            if new:
                r, scaling = _one(new, store)
                told |= {f"{kind}_proj_lora_rank": r, f"{kind}_proj_lora_alpha": scaling * r}
        return {OF_PARTS: json.dumps(told, default=str)}
    ranks = {module.r for module in modules}
    for place in INSIDE if len(ranks) == 1 else ():
        if _scaling(_told(store, place.name), ranks, place, f"{store.path}: {place.name}") is not None:
            r, scaling = _one({(r, by) for _, r, by in without}, store)
            new_values = {place.r: r, place.scaling: scaling * r**place.power}
            return {place.name: json.dumps({**_told(store, place.name), **new_values}, default=str)}
    return None


def _one(new: Set[tuple[int, float]], store: Store) -> tuple[int, float]:
    """The only r and scaling."""
    if len(new) > 1:
        raise AdapterError(store.path, "what it says of its scaling is for one r", do="leave --per-module out")
    (both,) = new
    return both


def _of_parts(modules: Sequence[LoraModule], store: Store) -> list[LoraModule] | None:
    """Modules of Mochi's, where all of them are of the two kinds and of the ranks that it tells."""
    told = _told(store, OF_PARTS)
    found = []
    for module in modules if told else ():
        last = module.name.rpartition(".")[2]
        kind = next((kind for start, kind in KINDS if last.startswith(start)), "")
        if _below(told, f"{kind}_proj_lora_rank") != module.r:
            return None
        key = f"{kind}_proj_lora_alpha"
        found.append(replace(module, scaling=usable_alpha(_below(told, key), f"{store.path}: {key}") / module.r))
    return found or None


def _inside(store: Store, ranks: Set[int]) -> tuple[float, str] | None:
    """The scaling that the file itself tells, and a note."""
    for place in INSIDE if len(ranks) == 1 else ():
        scaling = _scaling(_told(store, place.name), ranks, place, f"{store.path}: {place.name}")
        if scaling is not None:
            note = (
                f"No alpha is stored with the factors: the scaling of {scaling:g} is that of {place.name} in the file."
            )
            return scaling, note
    return None


def _beside(weights: Path, ranks: Set[int]) -> tuple[float, str] | None:
    """The scaling that a file beside it tells, and a note."""
    for place in TRAINERS if len(ranks) == 1 else ():
        with suppress(SourceError, AdapterError):  # it is missing, or another file of that name
            path = weights.parent / place.name
            scaling = _scaling(read_json(path), ranks, place, f"{path}")
            if scaling is not None:
                return scaling, f"No alpha is stored: the scaling of {scaling:g} is that of {place.name} beside it."
    return None


def _scaling(config: Mapping[str, Any], ranks: Set[int], place: Place, where: str) -> float | None:
    """What a configuration says; it is none of theirs where it tells another rank than the factors."""
    if {_below(config, place.r)} != ranks:
        return None
    value = usable_alpha(_below(config, place.scaling), f"{where}: {place.scaling}")
    return value / float(min(ranks) ** place.power)


def _told(store: Store, name: str) -> Mapping[str, Any]:
    """An object among the metadata of a safetensors file or in one of torch, else empty."""
    text = getattr(store, "metadata", {}).get(name)
    with suppress(AdapterError):  # no JSON, so it is not what a trainer left there
        return parse_object(text.encode(), store.path) if text else getattr(store, "plain", {}).get(name, {})
    return {}


def _below(config: Mapping[str, Any], path: str) -> Any:
    """What stands under names with dots between them; ``None`` where nothing or more than a number does.

    >>> _below({"lora": {"rank": 4}}, "lora.rank"), _below({"lora": {}}, "lora")
    (4, None)
    """
    found: Any = config
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, int | float) else None
