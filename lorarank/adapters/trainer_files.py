"""Scalings that trainers leave for factors without an alpha, in their file or in one beside it (floor 1)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from lorarank.adapters.adapter import LoraModule
from lorarank.adapters.network_alpha import by_network_alpha, network_alpha, told_again
from lorarank.adapters.peft_config import FILE_NAME, SWIFT, alpha_for, scaling, usable_alpha
from lorarank.adapters.tensors import Store
from lorarank.adapters.untrusted import parse_object, read_json, read_yaml
from lorarank.errors import AdapterError, SourceError


class Place(NamedTuple):
    """Where a trainer says which r and which scaling it has, with dots between the names of objects.

    Attributes
    ----------
    name : of the file, or of the object in the file of the factors.
    r, scaling : keys in there.
    alpha : whether the latter is an alpha, to be divided by r, or by its root where ``rslora``.
    mark : a key that it has besides, where others have a file of that name too.
    unless : a key that says, where it is set, that the scaling is another.
    """

    name: str
    r: str
    scaling: str
    alpha: bool = False
    rslora: bool = False
    mark: str = ""
    unless: str = ""


TRAINERS = (
    Place("lora_config.json", "r", "scaling"),
    Place("lora_config.json", "lora_params.lora_rank", "lora_params.lora_alpha", alpha=True),
    Place("lora_config.json", "lora_config.r", "lora_config.alpha", alpha=True),
    Place("params.json", "lora.rank", "lora.scaling"),
    Place("params.json", "lora_args.rank", "lora_args.scale"),
    Place("config.json", "lora_rank", "lora_scaling"),
    Place("config.json", "lora_r", "lora_alpha", alpha=True),
    Place("config.json", "lora_rank", "lora_alpha", alpha=True),
    Place("relora_config.json", "r", "lora_alpha", alpha=True, unless="trainable_scaling"),
    Place("hyperparameters.yaml", "lora_r", "lora_alpha", alpha=True),
    Place("model_config.yaml", "peft.lora_tuning.adapter_dim", "peft.lora_tuning.alpha", alpha=True),
    Place(FILE_NAME, "r", "lora_alpha", alpha=True, mark=SWIFT),
)
"""Beside the factors, of PaddleNLP (``paddlenlp/peft/lora/lora_config.py``), FastVideo (``save_lora_checkpoint``,
``fastvideo/utils/checkpoint.py``, and its samples, which load with that weight), VoxCPM
(``scripts/train_voxcpm_finetune.py``), mistral-finetune (``model/args.py``, ``finetune/checkpointing.py``), Meta's
Llama 3.2 (meta-llama/llama-models ``models/llama3/args.py``), moshi-finetune (``finetune/wrapped_model.py``),
OpenDelta (``opendelta/delta_models/lora.py``), jina-embeddings-v3 (jinaai/xlm-roberta-flash-implementation
``modeling_lora.py``), ReLoRA (Guitaricet/relora ``peft_pretraining/relora.py``), LitGPT (Lightning-AI/litgpt
``litgpt/finetune/lora.py``), NeMo 1 (``parallel_adapters.py``) and ms-swift before 1.5 (``swift/tuners/lora.py``)."""

INSIDE = (
    Place("lora_config", "rank", "alpha", alpha=True),
    Place("lora_config", "r", "lora_alpha", alpha=True),
    Place("lora_config", "r", "alpha", alpha=True),
    Place("config", "model.lora_rank", "model.lora_alpha", alpha=True),
    Place("metadata", "r", "alpha", alpha=True, rslora=True),
)
"""In their file, of Stable Audio 3 and Chatterbox (Stability-AI/stable-audio-3
``stable_audio_3/models/lora/utils.py``), of what people save by themselves, of SALMONN (bytedance/SALMONN) and of
CLIP-LoRA (MaxZanella/CLIP-LoRA ``loralib/utils.py`` and ``loralib/layers.py``)."""

OF_PARTS = "kwargs"
"""What Mochi's trainer says of its own, in the file: ranks and alphas of two kinds of projections (genmoai/mochi
``demos/fine_tuner/train.py``)."""

SCALING = re.compile(r"\.(?:(?:lora_)?scaling|___\.alpha)$")
"""A number behind the name of a module, by which its product counts (mobiusml/hqq ``hqq/core/peft.py``;
IrisRainbowNeko/HCP-Diffusion ``hcpdiff/models/lora_base_patch.py``)."""

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
    by_entry = by_network_alpha(modules, store)
    if by_entry is not None:
        return by_entry[0], [by_entry[1]]
    of_parts = _of_parts(modules, store)
    if of_parts is not None:
        return of_parts, [f"No alpha is stored with the factors: the scalings are those of {OF_PARTS} in the file."]
    by, note = 1.0, unscaled
    inside = _found(INSIDE, modules, partial(_told, store))
    beside = None if inside else _found(TRAINERS, modules, lambda name: _read(store.path.parent / name))
    if inside is not None:
        place, by = inside
        note = f"No alpha is stored with the factors: the scaling of {by:g} is that of {place.name} in the file."
    elif beside is not None:
        place, by = beside
        note = f"No alpha is stored: the scaling of {by:g} is that of {place.name} beside it."
    return [replace(one, scaling=by) if one.alpha is None else one for one in modules], [note]


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
    if network_alpha(store) is not None:
        return told_again(store, [(r, by) for _, r, by in without])
    if _of_parts(modules, store) is not None:
        told = dict(_told(store, OF_PARTS))
        for start, kind in KINDS:
            new = {(r, by) for module, r, by in without if module.name.rpartition(".")[2].startswith(start)}
            if new:
                r, wanted = _one(new, store)
                told |= {f"{kind}_proj_lora_rank": r, f"{kind}_proj_lora_alpha": alpha_for(r, wanted, rslora=False)}
        return {OF_PARTS: json.dumps(told, default=str)}
    inside = _found(INSIDE, modules, partial(_told, store))
    if inside is None:
        return None
    place, _ = inside
    r, wanted = _one({(r, by) for _, r, by in without}, store)
    value = alpha_for(r, wanted, rslora=place.rslora) if place.alpha else wanted
    return {place.name: json.dumps({**_told(store, place.name), place.r: r, place.scaling: value}, default=str)}


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
        place = Place(OF_PARTS, f"{kind}_proj_lora_rank", f"{kind}_proj_lora_alpha", alpha=True)
        of_kind = _found([place], [module], lambda _: told)
        if of_kind is None:
            return None
        found.append(replace(module, scaling=of_kind[1]))
    return found or None


def _found(
    places: Sequence[Place], modules: Sequence[LoraModule], config_of: Callable[[str], Mapping[str, Any]]
) -> tuple[Place, float] | None:
    """The first place that tells a scaling for the r of all modules; one that tells another r is none of theirs."""
    ranks = {module.r for module in modules}
    for place in places if len(ranks) == 1 else ():
        with suppress(SourceError, AdapterError):  # it is missing, or another thing of that name
            config = config_of(place.name)
            if {_below(config, place.r)} != ranks or (place.mark and place.mark not in config):
                continue
            if not config.get(place.unless):
                value = usable_alpha(_below(config, place.scaling), f"{place.name}: {place.scaling}")
                return place, scaling(min(ranks), value, rslora=place.rslora) if place.alpha else value
    return None


def _read(path: Path) -> Mapping[str, Any]:
    return read_yaml(path) if path.suffix == ".yaml" else read_json(path)


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
