"""The same adapter with its modules named by their paths in a model of transformers or diffusers (floor 1).

Writers of PEFT's, diffusers' and kohya's layouts need these paths, and formats of other tools have names of their own.
Some of those are fixed by the tools' code (*language*, *flux*, *diffusion*, *underscored*), some only the base model
tells (*base*).
Where a tool has fused or turned what transformers and diffusers have not, a module becomes several, or has its rows in
another order (*pieces*): ΔW is then that of the model it is named in.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from lorarank.adapters.adapter import Adapter, LoraModule
from lorarank.adapters.components import COMFY, component, named_part
from lorarank.adapters.names import diffusion, flux, language, mlx
from lorarank.adapters.names.base import Base
from lorarank.adapters.names.pieces import Piece
from lorarank.adapters.names.underscored import by_underscores, dotted
from lorarank.adapters.peft_keys import FACTOR
from lorarank.errors import AdapterError

BY_PATH = frozenset({"peft", "diffusers", "attention-processors", "ai-toolkit", "longcat", "mlx", "adapterhub"})
"""Formats that name modules by their paths in a model of transformers or diffusers; others have names of their own."""

OF_PIPELINES = frozenset({"diffusers", "attention-processors", "ai-toolkit"})
"""Those of them that name modules of pipelines, and hold names of the models' first code as well."""

TRANSFORMER = "transformer."
"""What diffusers calls a pipeline's transformer, before such names too."""

FLATTENED = re.compile(r"(?:lora_(?P<part>unet|te[123]?|transformer)__?|lycoris_)(?P<name>.+)")
"""A name of kohya's: the path of its module with underscores for dots; behind two of them in Wan-Fun's files
(``convert_lora_wan_fun``, comfyanonymous/ComfyUI ``comfy/lora_convert.py``). LyCORIS names no part where it is put on a
single model, as SimpleTuner does (``LORA_PREFIX``, KohakuBlueleaf/LyCORIS ``lycoris/wrapper.py``)."""

PARAMETER = re.compile(r"(?!.*\.parametrizations\.).+\.lora_[AB]")
"""A factor that is a parameter of its layer, as in microsoft/LoRA ``loralib/layers.py``."""

ARCHITECTURE = ("ss_base_model_version", "modelspec.architecture")
"""Metadata of kohya's tools that name the model (kohya-ss/musubi-tuner: ``hunyuan_video``, ``hunyuan-video/lora``)."""

PARTS = {"unet": "unet", "transformer": "transformer", "te": "text_encoder", "te1": "text_encoder"} | {
    "te2": "text_encoder_2",
    "te3": "text_encoder_3",
}
"""Prefix of kohya's → part of a pipeline; ``unet`` is said of transformers too."""

Renamer = Callable[[LoraModule], "tuple[Piece, ...] | None"]
"""A stored module → the modules of the model that it is; ``None`` where that is not known."""


def by_path(adapter: Adapter, base: Base | None = None, form: str = "peft") -> Adapter:
    """Name the modules by their paths; those of a pipeline's part behind ``unet.``, ``transformer.`` and so on.

    Parameters
    ----------
    adapter : of any format.
    base : the model that it is for, where its names or number of heads are needed.
    form : format that is to be written: bare names may be paths in the model's own code, which PEFT can be put on, and
        not in diffusers'.

    Raises
    ------
    AdapterError
        A name, or the order of its rows, is not known; what tells it, or which tool does.
    ModelError
        ``base`` lacks what is needed of it.
    """
    if adapter.format == "longcat" and len({module.keys[0] for module in adapter.modules}) < len(adapter.modules):
        raise AdapterError(
            adapter.source,
            "layers of it are in parts with factors of their own",
            why="no other format has modules for those",
            do="merge it into its model with LongCat-Video's own code",
        )
    flattened = any(FLATTENED.fullmatch(module.name) for module in adapter.modules)
    comfy = any(module.name.startswith(COMFY) for module in adapter.modules)
    bare = adapter.format == "pairs" and all(map(_is_path, adapter.modules))
    if (adapter.format in BY_PATH or bare) and not (comfy or flattened):
        if adapter.format == "mlx":
            return _of_mlx(adapter)
        of_pipeline = form != "peft" and (bare or adapter.format in OF_PIPELINES)
        renamed = _renamed(adapter, _own_names(adapter)) if of_pipeline else None
        return adapter if renamed is None else _doubted(adapter, renamed, base)
    if adapter.format in ("torchtune", "gguf"):
        rename = _language(adapter, base)
    elif flattened or (adapter.format == "kohya" and base is not None):
        rename = _underscored(adapter, base)
    else:
        rename = _own_names(adapter)
    renamed = _renamed(adapter, rename)
    if renamed is None:
        raise _unknown(adapter, next(module for module in adapter.modules if rename(module) is None), base, flattened)
    return _doubted(adapter, renamed, base)


def _is_path(module: LoraModule) -> bool:
    """Whether its name is a path in a model: bare factors of PEFT have its paths, and parameters of layers like
    loralib's are called by the model they lie in."""
    of_layer = PARAMETER.fullmatch(module.keys[0]) is not None and not module.name.replace(".", "").isdecimal()
    return of_layer or FACTOR.fullmatch(module.keys[0]) is not None


def _of_mlx(adapter: Adapter) -> Adapter:
    modules = tuple(replace(module, name=mlx.path(module.name)) for module in adapter.modules)
    doubts = (mlx.DOUBT,) if mlx.is_doubtful(module.name for module in modules) else ()
    return replace(adapter, modules=modules, notes=(*adapter.notes, *doubts))


def _doubted(adapter: Adapter, renamed: Adapter, base: Base | None) -> Adapter:
    """The renamed adapter, with a note where the names of the old one are not Flux.1's alone."""
    doubtful = adapter.format != "xlabs" and flux.is_doubtful(_flat(_bare(one.name))[1] for one in adapter.modules)
    if doubtful and base is None and not _trained_for(adapter):
        return replace(renamed, notes=(*renamed.notes, flux.DOUBT))
    return renamed


def _bare(name: str) -> str:
    """A name in a model's first code without what is put before it.

    >>> _bare("diffusion_model.blocks.0.self_attn.q"), _bare("transformer.double_blocks.0.img_attn.qkv")
    ('blocks.0.self_attn.q', 'double_blocks.0.img_attn.qkv')
    """
    return name.removeprefix(COMFY).removeprefix(TRANSFORMER)


def _trained_for(adapter: Adapter) -> str:
    """What a trainer's metadata call the model that an adapter is for, in lower case; empty where they do not."""
    return " ".join(str(adapter.config.get(key, "")) for key in ARCHITECTURE).strip().lower()


def _is_hunyuan(adapter: Adapter) -> bool:
    """Whether they say HunyuanVideo, whose layers have names of Flux.1's."""
    return "hunyuan" in _trained_for(adapter)


def _renamed(adapter: Adapter, rename: Renamer) -> Adapter | None:
    """The adapter with all modules under other names; ``None`` where one of them is not known."""
    modules: list[LoraModule] = []
    for module in adapter.modules:
        found = rename(module)
        if found is None:
            return None
        modules += [piece.of(module) for piece in found]
    return replace(adapter, modules=tuple(modules))


def _language(adapter: Adapter, base: Base | None) -> Renamer:
    kind = language.architecture(adapter.format, adapter.config, base, adapter.source)
    return lambda module: (language.piece(module, adapter.format, kind, base, adapter.source),)


def _own_names(adapter: Adapter) -> Renamer:
    """By the names in the code of Flux.1 and of other diffusion transformers."""
    z_image = diffusion.is_z_image(_bare(module.name).replace(".", "_") for module in adapter.modules)
    maybe_flux = not _is_hunyuan(adapter)

    def rename(module: LoraModule) -> tuple[Piece, ...] | None:
        if named_part(module.name):
            return (Piece(module.name),)
        name = _bare(module.name)
        found = flux.pieces(module, name) if maybe_flux and module.expert is None else None
        path = diffusion.path(name.replace(".", "_"), z_image=z_image) if found is None else None
        return found if path is None else (Piece(f"transformer.{path}"),)

    return rename


def _underscored(adapter: Adapter, base: Base | None) -> Renamer:
    """By the names of the base, of Flux.1 and its like, or of what diffusers' UNets and text encoders consist of."""
    named = {} if base is None else by_underscores(base.modules)
    stems = [_flat(module.name) for module in adapter.modules]
    of_flux = any(flux.is_flux(stem) for _, stem in stems) and not _is_hunyuan(adapter)
    z_image = diffusion.is_z_image(stem for _, stem in stems)

    def rename(module: LoraModule) -> tuple[Piece, ...] | None:
        prefix, stem = _flat(module.name)
        part = PARTS.get(prefix, "")
        path = named.get(f"{part}_{stem}") or named.get(stem)
        if path is not None:
            return (Piece(path),)
        if prefix == "unet" and of_flux:
            return flux.pieces(module, stem)
        path = diffusion.path(stem, z_image=z_image) if prefix == "unet" else None
        if path is not None:
            return (Piece(f"transformer.{path}"),)
        path = dotted(stem)
        if path is not None and not part:
            with suppress(AdapterError):
                part = component(path)[0]
        return (Piece(f"{part}.{path}"),) if path is not None and part else None

    return rename


def _flat(name: str) -> tuple[str, str]:
    """kohya's prefix, and the rest with underscores alone.

    >>> _flat("lora_unet_input_blocks.4.1.proj_in"), _flat("lycoris_model_layers.0.mlp_up_proj")
    (('unet', 'input_blocks_4_1_proj_in'), ('', 'model_layers_0_mlp_up_proj'))
    """
    match = FLATTENED.fullmatch(name)
    return ("", name.replace(".", "_")) if match is None else (match["part"] or "", match["name"].replace(".", "_"))


def _unknown(adapter: Adapter, module: LoraModule, base: Base | None, flattened: bool) -> AdapterError:
    where = f"{adapter.source}: {module.keys[0]}"
    if flattened:
        told = "" if base is None else f", nor does {base.path} tell"
        what = f"where the dots were in this name is not known{told}"
        return AdapterError(
            where,
            what,
            why="it is none of a UNet, of a transformer that is known here or of CLIP",
            do="name the model that it is for with --base MODEL, or convert it with the tool that loads the model",
        )
    keep = "leave --to out, or "
    if module.name.startswith(COMFY):
        what, do = "not named by its path in diffusers' model", "load it with diffusers, which renames it, and save it"
        return AdapterError(where, what, do=keep + do + " from there")
    return AdapterError(
        adapter.source,
        f"its modules ({module.name}, …) are not named by their paths in a model",
        why="only a tool that loads the model can tell where they belong",
        do=keep + "convert it with the tool it is from",
    )
