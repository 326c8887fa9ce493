"""New factors as a folder of PEFT: ``adapter_config.json`` and ``adapter_model.safetensors`` (floor 1).

What PEFT reads back has the scaling asked for, module by module: r and alpha that differ from the most common ones go
into ``rank_pattern`` and ``alpha_pattern`` under keys that match one module alone by PEFT's rule.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from lorarank.adapters.adapter import Adapter, LoraModule
from lorarank.adapters.components import common_part, parts_of
from lorarank.adapters.layout import Block, Layout, Raw, Slot, downcast
from lorarank.adapters.magnitudes import MAGNITUDE, magnitude, magnitude_keys, stem
from lorarank.adapters.patterns import pattern_keys
from lorarank.adapters.peft_config import RESIDUAL_INITS, alpha_for
from lorarank.adapters.peft_keys import FACTOR, ROOT, WRAPPER
from lorarank.adapters.replacement import Replacement, is_plain, kernel, stacked, stacks
from lorarank.adapters.verbatim import copied, kept_metadata
from lorarank.errors import AdapterError

WRAPPED_ROOT = re.compile(r"^(?:(?:module\.)*base_model\.model\.)?")
"""The same in a stored name; ``module.`` is of data-parallel training."""

WEIGHTS = "adapter_model.safetensors"

EXPERT = re.compile(r"(?:^|\.)experts\.[0-9]+\.")
"""In the path of a module of one expert, where experts are modules. As PEFT 0.21 loads them into transformers 5, which
stacks them, it gives all of them the ``r`` and ``lora_alpha`` of the configuration, whatever patterns say
(``_convert_peft_config_moe`` in ``peft.utils.transformers_weight_conversion``)."""

ONE_FOR_EXPERTS = (
    "Experts that are modules of their own keep one rank among them: PEFT 0.21 stacks them as it loads them into "
    "transformers 5, and takes r of the configuration for all."
)

COUNTED = re.compile(r"\.parameter_\d+$")
"""The end of a name that only counts the wrappers of a module; see :mod:`lorarank.adapters.peft_experts`."""

Setting = tuple[int, float]
"""r and alpha of a module."""

Paths = Mapping[str, tuple[str, str]]
"""Name of a module → the path that PEFT stores it under, and the one that it matches patterns with."""


def path_of(module: LoraModule) -> str:
    """The path under which PEFT stores a module, wrappers of its own (``base_layer``) included."""
    match = FACTOR.fullmatch(module.keys[0])
    inside = match is not None and (module.kind == "parameter" or ".base_layer" in match["module"])
    return stored_path(match["module"]) if match is not None and inside else module.name


def stored_path(key: str) -> str:
    """A stored name without what training wraps around modules and without PEFT's root.

    >>> stored_path("module.base_model.model.h.0._fsdp_wrapped_module.attn.base_layer")
    'h.0.attn.base_layer'
    """
    return WRAPPED_ROOT.sub("", WRAPPER.sub("", key))


def pattern_path(module: LoraModule) -> str:
    """What PEFT matches ``rank_pattern`` with. Modules that share it cannot have different ranks.

    >>> keys = ("base_model.model.attn.base_layer.out_proj.lora_A.weight", "b")
    >>> pattern_path(LoraModule("attn.out_proj", "linear", 1, 1, 1, 1.0, "float32", 2, keys, read=lambda: (None, None)))
    'attn'
    """
    if module.kind == "parameter":
        parts = module.name.split(".")
        return ".".join(parts if module.expert is None else [*parts[:-2], parts[-1]])
    return path_of(module).partition(".base_layer")[0]


def shared_ranks(modules: Sequence[LoraModule]) -> list[str]:
    """For each module what it shares its rank with: experts that are modules with one another, where they do so now.

    >>> def module(name: str, r: int) -> LoraModule:
    ...     return LoraModule(name, "linear", r, 1, 1, 1.0, "float32", 2, (name, name), read=lambda: (None, None))
    >>> shared_ranks([module("q", 2), module("experts.0.up", 2), module("experts.1.up", 2)])
    ['q', 'experts', 'experts']
    >>> shared_ranks([module("experts.0.up", 2), module("experts.1.up", 4)])
    ['experts.0.up', 'experts.1.up']
    """
    paths = [pattern_path(module) for module in modules]
    one = len({module.r for module, path in zip(modules, paths, strict=True) if EXPERT.search(path)}) == 1
    return ["experts" if one and EXPERT.search(path) else path for path in paths]


def staying(adapter: Adapter) -> frozenset[str]:
    """Names of modules that cannot be left out: the adapter carries something of theirs (a magnitude of DoRA, a bias),
    or PEFT tells the factors of their parameters apart by how many wrappers there are."""
    owners = {
        ".".join(parts[:end])
        for parts in (key.split(".") for carried in adapter.carried for key in {carried, stored_path(carried)})
        for end in range(1, len(parts))
    }
    return frozenset(
        m.name for m in adapter.modules if m.kind == "parameter" or path_of(m) in owners or stem(m) in owners
    )


def layout(adapter: Adapter, replacements: Sequence[Replacement]) -> Layout:
    """The folder that PEFT loads these replacements from.

    Parameters
    ----------
    adapter : the old one; its configuration and what it carries are kept.
    replacements : of its modules, named by their paths; one without a replacement gets no adapter any more.

    Raises
    ------
    AdapterError
        PEFT's layout cannot hold them, or would compute something else than they say.
    """
    magnitudes = magnitude_keys(adapter)
    paths = _paths(adapter, magnitudes)
    changed = any(one.changed for one in replacements) or len(replacements) < len(adapter.modules)
    blocks = [_block(adapter, stack, paths[stack[0].module.name][0], changed) for stack in stacks(replacements)]
    blocks += [
        magnitude(adapter, one.module, magnitudes[one.module.name], f"{ROOT}{paths[one.module.name][0]}.{MAGNITUDE}")
        for one in replacements
        if one.module.name in magnitudes
    ]
    taken = frozenset(magnitudes.values())
    blocks += [copied(adapter, key) for key in adapter.carried if key not in taken]
    config = _config(adapter, replacements, paths, changed) | ({"use_dora": True} if magnitudes else {})
    metadata = kept_metadata(adapter) if adapter.format == "peft" else {"format": "pt"}
    apart = len({one.r for one in replacements}) > 1 and "experts" in shared_ranks([one.module for one in replacements])
    notes = (ONE_FOR_EXPERTS,) if apart else ()
    return Layout(weights=WEIGHTS, blocks=tuple(blocks), metadata=metadata, config=config, notes=notes)


def _paths(adapter: Adapter, magnitudes: Mapping[str, str]) -> Paths:
    """PEFT adapts one model: the part of a pipeline that all modules of another format belong to is left out."""
    if adapter.format == "peft":
        return {module.name: (path_of(module), pattern_path(module)) for module in adapter.modules}
    known = frozenset(magnitudes.values())
    unknown = [key for key in adapter.carried if key not in known]
    if unknown:
        raise AdapterError(
            f"{adapter.source}: {unknown[0]}",
            "it is no LoRA factor, and PEFT's name for it is not known",
            do="leave --to out, or merge it into its model with the tool that it is from",
        )
    if magnitudes and len(magnitudes) < len(adapter.modules):
        raise AdapterError(
            adapter.source,
            f"{len(magnitudes)} of its {len(adapter.modules)} modules have DoRA magnitudes",
            why="PEFT gives them to all or to none",
            do="leave --to out",
        )
    common, parts = common_part(adapter), parts_of(adapter)
    if len(parts) > 1:
        raise AdapterError(
            adapter.source,
            f"it is for several models ({', '.join(sorted(parts))})",
            why="an adapter of PEFT is for one",
            do="write --to diffusers",
        )
    return {module.name: (module.name.removeprefix(common),) * 2 for module in adapter.modules}


def check_base(adapter: Adapter) -> None:
    """Refuse an adapter whose base weight depends on its r and its format: AdapterError."""
    init = adapter.config.get("init_lora_weights")
    if isinstance(init, str) and init.lower().startswith(RESIDUAL_INITS):
        raise AdapterError(
            adapter.source,
            f"it was initialised with {init}",
            why="on loading PEFT takes as many components out of the base weight as r says, and other tools take none",
            do="save it with PEFT's path_initial_model_for_weight_conversion first",
        )


def _block(adapter: Adapter, stack: Sequence[Replacement], path: str, changed: bool) -> Block:
    """The two tensors of a module, or of all experts of a stack."""
    first = stack[0]
    module = first.module
    if module.expert is not None and adapter.format != "peft":
        raise AdapterError(
            f"{adapter.source}: {module.name}",
            "an expert of a stack, and how transformers stacks those of this model is not known",
            do="leave --to out",
        )
    if (
        module.expert is not None
        and adapter.store is not None
        and len(adapter.store.tensors[module.keys[0]].shape) == 3
    ):
        return _loose(stack, f"{ROOT}{path}")
    # a fused projection of PEFT before 0.3 becomes an ordinary linear layer as soon as anything is written anew
    if not is_plain(adapter, module) and not (changed and module.kind == "linear"):
        if adapter.format != "peft" or any(one.changed for one in stack):
            raise AdapterError(
                f"{adapter.source}: {module.name}",
                "a layer in groups, each with columns of its own",
                why="factors of another rank, scaling or dtype do not fit into that",
                do="leave this adapter as it is, or merge it into its model",
            )
        old = [copied(adapter, key) for key in module.keys]
        return Block(
            tuple(slot for block in old for slot in block.slots), lambda: [raw for block in old for raw in block.load()]
        )
    prefix, rows = f"{ROOT}{path}", first.r * len(stack)
    tail = kernel(adapter, module)
    ones = (1,) * (len(tail) - 1)
    names = (
        ("lora_embedding_A", "lora_embedding_B") if module.kind == "embedding" else ("lora_A.weight", "lora_B.weight")
    )
    slots = (
        Slot(f"{prefix}.{names[0]}", first.dtypes[0], (rows, *tail)),
        Slot(f"{prefix}.{names[1]}", first.dtypes[1], (module.out_features, rows, *ones)),
    )
    return Block(slots, partial(computed, slots, stack))


def _loose(stack: Sequence[Replacement], prefix: str) -> Block:
    """The two tensors of a stack in three dimensions, (E, r, in) and (E, out, r), as Tinker keeps them."""
    first = stack[0]
    slots = (
        Slot(f"{prefix}.lora_A.weight", first.dtypes[0], (len(stack), first.r, first.module.in_features)),
        Slot(f"{prefix}.lora_B.weight", first.dtypes[1], (len(stack), first.module.out_features, first.r)),
    )

    def load() -> list[Raw]:
        pairs = zip(zip(*(one.read() for one in stack), strict=True), slots, strict=True)
        return [downcast(np.stack(factors), slot.dtype, slot.key) for factors, slot in pairs]

    return Block(slots, load)


def computed(slots: Sequence[Slot], stack: Sequence[Replacement]) -> list[Raw]:
    """The numbers of a ``lora_A`` and a ``lora_B``, in their slots' dtypes."""
    pairs = zip(stacked(stack), slots, strict=True)
    return [downcast(factor, slot.dtype, slot.key) for factor, slot in pairs]


def _config(adapter: Adapter, replacements: Sequence[Replacement], paths: Paths, changed: bool) -> dict[str, Any]:
    """The old configuration with what has changed; a plain one where the adapter was of another format."""
    ours = adapter.format == "peft"
    config: dict[str, Any] = dict(adapter.config) if ours else _fresh(adapter, [path for path, _ in paths.values()])
    kept = {one.module.name for one in replacements}
    dropped = [module for module in adapter.modules if module.name not in kept]
    if ours and not changed:
        return config
    config.pop("enable_lora", None)
    if dropped or any(one.r != one.module.r for one in replacements):
        check_base(adapter)
    rslora = bool(config.get("use_rslora"))
    settings: dict[str, Setting] = {}
    for one in replacements:
        found = one.r, alpha_for(one.r, one.scaling, rslora=rslora)
        if settings.setdefault(paths[one.module.name][1], found) != found:
            raise AdapterError(f"{adapter.source}: {one.module.name}", "PEFT gives it and its siblings one r and alpha")
    config.update(_patterns(adapter, settings))
    if dropped:
        # whole paths, where a suffix would bring back modules without factors
        left = {paths[one.module.name][1]: None for one in replacements if one.module.kind != "parameter"}
        config["target_modules"] = list(left)
    return config


def _patterns(adapter: Adapter, settings: Mapping[str, Setting]) -> dict[str, Any]:
    """``r`` and ``lora_alpha`` most modules have, or most experts, and patterns for the others."""
    experts = [found for path, found in settings.items() if EXPERT.search(path)]
    (r, alpha), _ = max(Counter(experts or settings.values()).items(), key=lambda item: (item[1], item[0]))
    others = {path: found for path, found in settings.items() if found != (r, alpha)}
    for path in others:
        if COUNTED.search(path):
            raise AdapterError(
                f"{adapter.source}: {path}",
                "it cannot be told which of the target_parameters it is for",
                why="it would need an entry of its own in rank_pattern or alpha_pattern",
                do="give all modules one rank",
            )
    keys = pattern_keys(settings)
    return {
        "r": r,
        "lora_alpha": alpha,
        "rank_pattern": {keys[path]: found[0] for path, found in others.items() if found[0] != r},
        "alpha_pattern": {keys[path]: found[1] for path, found in others.items() if found[1] != alpha},
    }


def _fresh(adapter: Adapter, targets: Sequence[str]) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": adapter.base_model,
        "target_modules": list(targets),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
        "init_lora_weights": True,
    }
