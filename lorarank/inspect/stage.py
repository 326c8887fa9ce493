"""From a model's name to what LoRA costs on it (floor 2)."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lorarank.adapters.tensors import FLOATS
from lorarank.errors import ModelError, printable
from lorarank.inspect.layers import EXPERT, LINEAR, Layer, Layers, from_headers
from lorarank.inspect.options import InspectOptions
from lorarank.inspect.result import Cost, Inspection, TargetSet, TypeRow
from lorarank.inspect.skeleton import from_configuration
from lorarank.inspect.targets import (
    FUSED,
    FUSED_MATRICES,
    SET_RULES,
    WITH_EXPERTS,
    Pattern,
    in_set,
    missing,
    named_set,
    parse,
    with_experts,
)
from lorarank.model_shapes import config_or_empty, instead, read_headers
from lorarank.module_names import TARGET_SETS, peft_refuses
from lorarank.numerics.ladder import LADDER
from lorarank.sources import folder_at, locate

PARAMETERS = frozenset({"experts", "router"})
"""Kinds that are parameters, which target_modules does not reach."""

HUB_FILES = ["config.json"]
"""What is fetched of a model on the hub: never its weights."""


def inspect(model: str | Path, options: InspectOptions | None = None) -> Inspection:
    """Everything that LoRA can be put on in a model, and what ranks cost there. No weights are loaded.

    Parameters
    ----------
    model : a folder, a ``config.json``, a safetensors file, or a hub id ``owner/name[@revision]``. Where there are
        safetensors files their headers tell the shapes, without torch; else transformers builds the model from its
        configuration on the meta device.
    options : what to ask; defaults where left out.

    Raises
    ------
    SourceError
        There is no such model.
    ModelError
        Its shapes cannot be told, or it has nothing to adapt.
    MissingExtraError
        It takes transformers, which is not installed.
    OptionError
        A pattern that is none.
    """
    options = options or InspectOptions()
    path = locate(model, allow_patterns=HUB_FILES)
    pattern = None if options.target is None else parse(options.target)
    config = config_or_empty(path if path.suffix == ".json" else folder_at(path) / "config.json")
    found = _read(path, config)
    model_type = str(config.get("model_type") or "")
    refused = [layer for layer in found.layers if peft_refuses(layer.type, model_type)]
    taken = [layer for layer in found.layers if layer not in refused]
    if not any(layer.kind in LINEAR for layer in found.layers):
        raise ModelError(path, "no linear layer was found in it", do="give a base model")
    ranks = LADDER if options.rank is None else (options.rank,)
    sets = [_set(name, [x for x in taken if in_set(x, name)], ranks, found.parameters) for name in TARGET_SETS]
    if found.family:
        sets.append(_set(WITH_EXPERTS, with_experts(found), ranks, found.parameters, fused=True))
    notes = [*_notes(found), *_refused_notes(refused)]
    rule = None
    if pattern is not None:
        named = named_set(pattern.text, found.family)
        if named is None:
            rule = pattern.rule
            hit = [layer for layer in taken if layer.kind not in PARAMETERS and pattern.hits(layer.name)]
            sets.append(_set(pattern.text, hit, ranks, found.parameters))
            notes += _pattern_notes(pattern, hit, found, [x for x in refused if pattern.hits(x.name)])
        else:
            rule = SET_RULES.get(named, SET_RULES["all-linear"])
            sets.sort(key=lambda one: one.name == named)  # the one asked for is the last
            notes += [] if sets[-1].modules else [f"No layer of the model is one of {named}. {_linear_types(found)}"]
    return Inspection(
        source=str(model),
        model_type=printable(config.get("model_type") or "", 80),
        basis=found.basis,
        parameters=found.parameters,
        layers=found.layers,
        types=_types(found.layers, refused),
        sets=tuple(one for one in sets if one.modules or (pattern is not None and one is sets[-1])),
        ranks=tuple(ranks),
        rule=rule,
        notes=tuple(notes),
    )


def _read(path: Path, config: Mapping[str, Any]) -> Layers:
    """By the headers of weights, where there are plain ones whose names are those of the loaded model."""
    if path.suffix == ".json" and path.is_file():
        return from_configuration(path)
    folder = folder_at(path)
    if path.is_dir() and not (folder / "config.json").is_file() and (folder / "adapter_config.json").is_file():
        raise ModelError(path, "it is an adapter", do="give its base model; lorarank audit looks into adapters")
    try:
        tensors = read_headers(folder)
    except ModelError as damaged:
        return instead(from_configuration, folder, damaged)
    matrices = {key: tensor for key, tensor in tensors.items() if len(tensor.shape) > 1}
    plain = matrices and all(tensor.dtype in FLOATS for tensor in matrices.values())
    has_config = (folder / "config.json").is_file()
    mixture = any(".experts." in key for key in matrices)  # stored otherwise than loaded, in older files
    if plain and not (mixture and has_config and importlib.util.find_spec("transformers") is not None):
        return from_headers(tensors, config)
    if not has_config:
        what = "its weights are packed and there is no config.json" if tensors else "neither weights nor config.json"
        raise ModelError(path, what, do="give the folder of a model")
    return from_configuration(folder)


def _set(
    name: str, layers: Sequence[Layer], ranks: Sequence[int], parameters: int, *, fused: bool = False
) -> TargetSet:
    """``fused`` counts a stack of two matrices an expert at twice the rank, as PEFT does."""
    times = [FUSED_MATRICES if fused and layer.kind == "experts" and layer.type == FUSED else 1 for layer in layers]
    per_rank = sum(count * layer.parameters_per_rank for count, layer in zip(times, layers, strict=True))
    return TargetSet(
        name,
        tuple(sorted({layer.type for layer in layers})),
        tuple(layer.name for layer in layers),
        per_rank,
        tuple(Cost(r, r * per_rank, r * per_rank / parameters if parameters else 0.0) for r in ranks),
    )


def _types(layers: Sequence[Layer], refused: Sequence[Layer]) -> tuple[TypeRow, ...]:
    groups: dict[tuple[str, str, int, int, int, tuple[str, ...]], list[Layer]] = {}
    for layer in layers:
        # dense of BERT stands inside and outside attention
        sets = tuple(name for name in TARGET_SETS if in_set(layer, name) and layer not in refused)
        key = layer.type, layer.kind, layer.stack, layer.out_features, layer.in_features, sets
        groups.setdefault(key, []).append(layer)
    return tuple(
        TypeRow(
            kind,
            sort,
            len(group),
            stack,
            out_features,
            in_features,
            sum(layer.parameters_per_rank for layer in group),
            sets,
            group[0].name,
        )
        for (kind, sort, stack, out_features, in_features, sets), group in groups.items()
    )


def _notes(found: Layers) -> list[str]:
    notes = []
    if any(layer.kind == "Conv1D" for layer in found.layers):
        notes.append(
            "Its linear layers are Conv1D, with weights as (in, out): fan_in_fan_out=True goes into LoraConfig."
        )
    if any(layer.kind == "experts" for layer in found.layers):
        notes.append(
            "Its experts are stacked in one parameter a layer: qv, attention and all-linear do not hold them, and PEFT "
            "adapts them with target_parameters instead of target_modules, without dropout."
        )
    if found.family:
        notes.append(
            'PEFT 0.21 adapts what "with experts" counts where target_modules="all-linear": all experts and routers, '
            f"{FUSED} at twice the rank since it holds two matrices an expert, and no shared experts."
        )
    if any(EXPERT.search(layer.name) for layer in found.layers):
        notes.append(
            "Its files store every expert by itself; transformers 5 stacks them on loading, and then target_modules do "
            "not reach them. With transformers installed the loaded model is shown."
        )
    return notes


def _refused_notes(refused: Sequence[Layer]) -> list[str]:
    """What PEFT puts no LoRA on."""
    if not refused:
        return []
    kinds = ", ".join(sorted({layer.type for layer in refused}))
    return [
        f"PEFT refuses LoRA on {kinds} in Mamba models, so no target set holds them; its own "
        'target_modules="all-linear" ends in an error there.'
    ]


def _linear_types(found: Layers) -> str:
    return f"Linear layers end in: {', '.join(sorted({x.type for x in found.layers if x.kind in LINEAR}))}."


def _pattern_notes(pattern: Pattern, hit: Sequence[Layer], found: Layers, refused: Sequence[Layer]) -> list[str]:
    """What PEFT would refuse or silently leave out."""
    notes = []
    if refused:
        notes.append(
            f"PEFT would refuse this pattern: it also hits {len(refused):,} layers that get no LoRA, "
            f"{refused[0].name} the first of them. They are not counted."
        )
    containers = [path for path in found.containers if pattern.hits(path)]
    if containers:
        notes.append(
            f"PEFT would refuse this pattern: it also hits {len(containers):,} modules that are no layers, "
            f"{containers[0]} the first of them."
        )
    if not hit and not refused:
        notes.append(f"The pattern hits no layer, which PEFT refuses. {_linear_types(found)}")
    elif lost := missing(pattern, found.layers):
        notes.append(f"Nothing ends in {', '.join(lost)}; PEFT leaves such names out without a word.")
    experts = [layer.name for layer in found.layers if layer.kind == "experts" and pattern.hits(layer.name)]
    if experts:
        notes.append(f"It would hit {len(experts):,} stacks of experts if given as target_parameters.")
    heads = [layer.name for layer in hit if layer.kind in ("head", "embedding")]
    if heads:
        notes.append(f"It hits {', '.join(heads)}: output layers and embeddings are large, and may be tied.")
    return notes
