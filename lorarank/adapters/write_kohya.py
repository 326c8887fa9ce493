"""New factors in kohya's layout, which ComfyUI and the web UIs read: one safetensors file (floor 1).

Keys are ``lora_unet_<path>.lora_down.weight``, ``.lora_up.weight`` and ``.alpha``, the path with underscores for dots;
``lora_te_`` before a text encoder's, ``lora_te1_`` and ``lora_te2_`` where there are two (``LoRANetwork`` in
networks/lora.py of kohya-ss/sd-scripts). Of Flux.1 the layers are those of its own code, which
:mod:`lorarank.adapters.write_flux` joins, and T5 is ``lora_te3_`` (networks/lora_flux.py). The product is multiplied by
alpha / r, and an alpha of 0 counts as r there, so that a scaling of 0 cannot be written as such.

Every module gets an alpha, which is r where the scaling is 1: for one without, networks/lora.py takes r
(``create_network_from_weights``), but sd-scripts' code for Flux, SD3 and Lumina, musubi-tuner's, LyCORIS 4.1 and what
diffusers 0.42 has for Wan and for OneTrainer's Flux (``_convert_musubi_wan_lora_to_diffusers``,
``_convert_mixture_state_dict_to_diffusers``) find none and stop.

Of a UNet and CLIP diffusers reads the same keys (``_convert_non_diffusers_lora_to_diffusers``,
diffusers.loaders.lora_conversion_utils), but up to 0.42 at least does not find the alpha of an attention's projection
again (``_get_alpha_name``), so that alphas that differ are lost there; hence a note. Where ranks differ and every
scaling is 1, no alpha at all is what it reads rightly, and so do the tools for those models.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial

import numpy as np

from lorarank.adapters import write_flux
from lorarank.adapters.adapter import Adapter, LoraModule
from lorarank.adapters.components import ELSEWHERE, component, for_carried
from lorarank.adapters.kohya import SPLIT
from lorarank.adapters.layout import Block, Layout, Raw, Slot, downcast
from lorarank.adapters.peft_config import alpha_for
from lorarank.adapters.replacement import Replacement, core_key, is_plain, kernel
from lorarank.adapters.verbatim import copied, kept_metadata
from lorarank.adapters.write_peft import computed, path_of
from lorarank.errors import AdapterError

WEIGHTS = "lora.safetensors"

DOWN = re.compile(r"(?P<stem>.+)\.lora_down(?:\.default)?\.weight")
"""A key that is in this layout already."""

UNET, TEXT = "lora_unet", "lora_te"
"""``LORA_PREFIX_UNET`` and ``LORA_PREFIX_TEXT_ENCODER``."""

STEM = re.compile(r"lora_(?:prior_)?(?:unet|te[123]?)_[^.]+")
"""What the names of a module's tensors begin with in this layout, up to their first dot; ``prior`` is Stable
Cascade's."""

OF_UNET = re.compile(r"lora_unet_(?:down_blocks|mid_block|up_blocks|input_blocks|middle_block|output_blocks)_")
OF_CLIP = re.compile(r"lora_te[12]?_")
"""What names of modules of a UNet begin with, in diffusers' code and in Stability AI's, and those of CLIP beside it."""

KINDS = frozenset({"linear", "conv2d"})
"""What sd-scripts has modules for."""

STORED_KINDS = KINDS | {"conv1d", "conv3d"}
"""The same and what else there is in files in this layout, of LyCORIS above all, which stays as it is there."""

MIXED = (
    "Alphas differ between modules: kohya's tools and ComfyUI take each as it is, but diffusers loses those of "
    "attention; for diffusers write --to diffusers, or add --bake-alpha."
)
"""What to know of a file with more than one alpha."""

DIM, ALPHA = "ss_network_dim", "ss_network_alpha"
"""Metadata of kohya's about r and alpha; ``Dynamic`` where modules differ, as its own resize writes."""


def layout(adapter: Adapter, replacements: Sequence[Replacement]) -> Layout:
    """The file that holds these replacements.

    Raises
    ------
    AdapterError
        The adapter is of no UNet and text encoder, or holds what the format has no place for.
    """
    ours = adapter.format == "kohya"
    if adapter.carried and not ours:
        raise AdapterError(
            f"{adapter.source}: {adapter.carried[0]}",
            "it is no LoRA factor, and kohya's layout has no place for it",
            do=for_carried(adapter),
        )
    of_flux: list[Replacement] = []
    others: list[Replacement] = []
    for one in replacements:
        module = one.module
        if SPLIT.search(module.keys[0]):
            raise AdapterError(
                f"{adapter.source}: {module.keys[0]}",
                "one of several parts of a layer, with one alpha between them",
                why="kohya's tools join them when they save",
                do="save it with them",
            )
        kinds = STORED_KINDS if ours and not one.plain else KINDS
        if module.kind not in kinds or not is_plain(adapter, module):
            raise AdapterError(
                f"{adapter.source}: {module.name}",
                f"kohya's layout has no place for this kind ({module.kind})",
                do=ELSEWHERE,
            )
        (others if _stem(adapter, module) or _part(adapter, module)[0] != "transformer" else of_flux).append(one)
    layers = write_flux.layers(adapter, of_flux)
    prefixes = _prefixes(adapter, [one.module for one in replacements])
    named = [(f"{UNET}_{name}", one) for name, one in layers.items()]
    named += [(_stem(adapter, one.module) or _named(adapter, one.module, prefixes), one) for one in others]
    of_unet = any(OF_UNET.match(stem) for stem, _ in named) or all(OF_CLIP.match(stem) for stem, _ in named)
    with_alpha = _has_alphas(adapter, [one for _, one in named], of_unet)
    blocks = [block for stem, one in named for block in _blocks(adapter, one, stem, with_alpha)]
    alphas = {alpha_for(one.r, one.scaling, rslora=False) for _, one in named} if with_alpha else {None}
    joined = len(layers) < len(of_flux)
    return Layout(
        weights=WEIGHTS,
        blocks=(*blocks, *(copied(adapter, key) for key in adapter.carried)),
        metadata=_metadata(adapter, [one for _, one in named]),
        notes=(write_flux.JOINED,) if joined else (MIXED,) if len(alphas) > 1 and of_unet else (),
        parameters=sum(slot.size for block in blocks for slot in block.slots[:2]) if joined else None,
    )


def stems(adapter: Adapter) -> dict[str, str]:
    """Name of each module → what the keys of its tensors begin with in this layout; without those it has no place for.

    >>> module = LoraModule("unet.mid_block.proj", "linear", 1, 3, 2, 0.5, "float32", 5, ("a", "b"),
    ...                     read=lambda: (None, None))
    >>> stems(Adapter("in", "diffusers", None, {}, (module,)))
    {'unet.mid_block.proj': 'lora_unet_mid_block_proj'}
    """
    prefixes = _prefixes(adapter, adapter.modules)
    found = {}
    for module in adapter.modules:
        with suppress(AdapterError):
            found[module.name] = _stem(adapter, module) or _named(adapter, module, prefixes)
    return found


def has_other_names(adapter: Adapter) -> bool:
    """Whether modules of an adapter read as kohya's have names that sd-scripts finds none of its own by: with dots in
    them (Mix-of-Show's ``unet.down_blocks.0…``, ComfyUI's ``diffusion_model.…``), or those of OneTrainer and LyCORIS.
    """
    kept = (_stem(adapter, module) for module in adapter.modules)
    return any(stem and STEM.fullmatch(stem) is None for stem in kept)


def _stem(adapter: Adapter, module: LoraModule) -> str:
    """What the keys of a module begin with where they stay."""
    match = DOWN.fullmatch(module.keys[0]) if adapter.format == "kohya" else None
    return match["stem"] if match else ""


def _part(adapter: Adapter, module: LoraModule) -> tuple[str, str]:
    return component(path_of(module), named=adapter.format != "peft")


def _prefixes(adapter: Adapter, modules: Sequence[LoraModule]) -> dict[str, str]:
    """Part of a pipeline → what kohya puts before the names of its modules."""
    firsts = {path_of(module).partition(".")[0] for module in modules}
    if "transformer" in firsts and adapter.format != "peft":  # Flux.1, whose second text encoder is T5
        return {"text_encoder": f"{TEXT}1", "text_encoder_2": f"{TEXT}3"}
    return {
        "unet": UNET,
        "text_encoder": f"{TEXT}1" if "text_encoder_2" in firsts else TEXT,
        "text_encoder_2": f"{TEXT}2",
    }


def _named(adapter: Adapter, module: LoraModule, prefixes: Mapping[str, str]) -> str:
    part, path = _part(adapter, module)
    if part not in prefixes:
        raise AdapterError(
            f"{adapter.source}: {module.name}",
            f"a module of a {part}",
            why="kohya joins and renames the layers of those, each architecture in its own way",
            do="write --to diffusers",
        )
    return f"{prefixes[part]}_{path.replace('.', '_')}"


def _has_alphas(adapter: Adapter, replacements: Sequence[Replacement], of_unet: bool) -> bool:
    """Whether modules get an alpha: all but where diffusers needs a UNet's to have none, or the file had none."""
    if any(one.scaling != 1 for one in replacements):
        return True
    ours = adapter.format == "kohya"
    stored = ours and any(module.alpha is not None for module in adapter.modules)
    if not of_unet or len({one.r for one in replacements}) == 1:
        return stored or not ours
    # LyCORIS needs them; and diffusers has not read those of several ranks rightly before
    by_lycoris = "lycoris" in kept_metadata(adapter).get("ss_network_module", "")
    mixed = len({module.r for module in adapter.modules}) > 1
    return stored and (by_lycoris or mixed) and not any(one.baked for one in replacements)


def _blocks(adapter: Adapter, one: Replacement, stem: str, with_alpha: bool) -> list[Block]:
    """The tensors of a module: of a convolution in Tucker form the stored ones, where nothing changes in it."""
    between = core_key(adapter, one.module)
    if between is None or one.changed or one.plain or stem != _stem(adapter, one.module):
        return [_block(adapter, one, stem, with_alpha)]
    alpha = [] if one.module.alpha is None else [one.module.alpha]
    return [copied(adapter, key) for key in (*one.module.keys, between, *alpha)]


def _block(adapter: Adapter, one: Replacement, stem: str, with_alpha: bool) -> Block:
    tail = kernel(adapter, one.module)
    slots = (
        Slot(f"{stem}.lora_down.weight", one.dtypes[0], (one.r, *tail)),
        Slot(f"{stem}.lora_up.weight", one.dtypes[1], (one.module.out_features, one.r, *(1,) * (len(tail) - 1))),
        *([Slot(f"{stem}.alpha", "float32", ())] if with_alpha else []),
    )
    return Block(slots, partial(_loaded, slots, one))


def _loaded(slots: Sequence[Slot], one: Replacement) -> list[Raw]:
    alpha = np.array(alpha_for(one.r, one.scaling, rslora=False), dtype=np.float64)
    return [*computed(slots[:2], [one]), *(downcast(alpha, slot.dtype, slot.key) for slot in slots[2:])]


def _metadata(adapter: Adapter, replacements: Sequence[Replacement]) -> dict[str, str]:
    """The file's own metadata, with r and alpha as they are now."""
    kept = kept_metadata(adapter) if adapter.format == "kohya" else {"format": "pt"}
    ranks = {one.r for one in replacements}
    alphas = {alpha_for(one.r, one.scaling, rslora=False) for one in replacements}
    kept[DIM] = str(ranks.pop()) if len(ranks) == 1 else "Dynamic"
    kept[ALPHA] = str(alphas.pop()) if len(alphas) == 1 else "Dynamic"
    return kept
