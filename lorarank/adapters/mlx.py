"""LoRA of MLX-LM: ``adapters.safetensors``, at first ``adapters.npz``, beside an ``adapter_config.json`` of its own
(floor 1).

``lora_a`` is (in, r) and ``lora_b`` (r, out), and ΔWᵀ = scale · ``lora_a`` @ ``lora_b``: the scale is used as it is,
not divided by r. Of experts, ``lora_a`` is (E, r, in), or (E·r, in) in older files, and ``lora_b`` (E, out, r). Of an
embedding, ``lora_a`` is (tokens, r) (ml-explore/mlx-lm ``mlx_lm/tuner/lora.py``, ``mlx_lm/tuner/utils.py``). An alpha
beside the scale counts for nothing: until June 2024 MLX-LM multiplied by scale·alpha/r, and until April 2025 its
defaults still had one. MLX-VLM named the factors ``A`` and ``B`` at first, with r and an alpha in the configuration:
it loads them with alpha over that r for all modules, and its versions before 2026-03 multiplied by alpha as it is
(``LoRaLayer``, Blaizzy/mlx-vlm ``mlx_vlm/trainer/lora.py``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lorarank.adapters.adapter import Adapter, LoraModule
from lorarank.adapters.candidate import Candidate
from lorarank.adapters.factors import assemble, build, factor_shape, turned
from lorarank.adapters.foreign import refuse_other_methods
from lorarank.adapters.named_factors import Role, by_side, collect
from lorarank.adapters.peft_config import FILE_NAME, NOTES, usable_alpha
from lorarank.adapters.stacks import Stacks, before_last
from lorarank.adapters.store import TORCH_SUFFIXES
from lorarank.errors import AdapterError

HUB_FILES = (FILE_NAME, "adapters.safetensors", "adapters.npz")
"""What is fetched of an adapter on the hub."""

FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<side>[ab])")

FUSED = re.compile(r"(?P<module>.+)\.lora_(?P<side>[ab])\.(?P<part>[0-9]{1,3})")
"""A factor of one part of a fused projection, whose lists MLX saves (``FusedLoRALinear`` in ``mlx_lm/models/afm7.py``):
the parts' updates lie one below the other."""

VISION_FACTOR = re.compile(r"(?P<module>.+)\.(?:lora_)?(?P<side>[ABab])")
"""In a file of MLX-VLM's."""

EMBEDDING = re.compile(r"(?:^|\.)(?:embed_tokens|wte|tok_embeddings|word_embeddings|embedding)$")
"""Names of embeddings, whose factors nothing else tells apart."""

CONFIGURED = frozenset({"fine_tune_type", "lora_parameters", "lora_layers"})
"""Fields that only MLX-LM's configuration has."""

UNSCALED = f"No scale is stored, which {FILE_NAME} would hold: scaling 1 is assumed."

UNSCALED_ARRAYS = (
    "No scale is stored: scaling 1 is assumed. The scripts of mlx-examples, which write such files, multiply by 20 "
    "where nobody has changed that."
)
"""Of ``adapters.npz`` (ml-explore/mlx-examples ``lora/models.py``)."""

VISION_SCALE = (
    "A configuration of MLX-VLM: scaling is alpha/r, as it loads this now; its versions before March 2026 did not "
    "divide by r, so what they have trained had r times this scaling."
)

OLD_SCALE = (
    "The configuration has an alpha, which MLX-LM passes over: scaling is the scale alone, as it loads this now. Its "
    "versions before June 2024 multiplied by alpha/r too, and this may be of one of them."
)

DATED = ("fine_tune_type", "num_layers")
"""Fields that configurations have since September 2024."""


_of_a_layer, _of_a_part = by_side(FACTOR), by_side(FUSED)


def role_of(key: str) -> Role | None:
    """What a tensor is, by its name; a part of a fused projection counts as a module.

    >>> role_of("qkv_proj.lora_a"), role_of("qkv_proj.lora_b.2")
    (('qkv_proj', 'A'), ('qkv_proj.2', 'B'))
    """
    part = _of_a_part(key)
    return _of_a_layer(key) if part is None else (f"{part[0]}.{key.rpartition('.')[2]}", part[1])


def part_of_fused(key: str) -> bool:
    """Whether a tensor is a factor of one part of a fused projection.

    >>> part_of_fused("qkv_proj.lora_a"), part_of_fused("qkv_proj.lora_a.0")
    (False, True)
    """
    return _of_a_part(key) is not None


def recognises(candidate: Candidate) -> bool:
    """Whether any tensor is named as MLX-LM names factors, or the configuration is MLX-LM's.

    >>> FACTOR.fullmatch("model.layers.0.self_attn.q_proj.lora_a")["side"]
    'a'
    >>> role_of("model.layers.0.self_attn.q_proj.lora_b"), role_of("model.norm.weight")
    (('model.layers.0.self_attn.q_proj', 'B'), None)
    """
    if candidate.has(FACTOR) and not (candidate.weights and candidate.weights.name.endswith(TORCH_SUFFIXES)):
        return True
    config = candidate.settings
    return "peft_type" not in config and (not CONFIGURED.isdisjoint(config) or _is_vision(candidate, config))


def _is_vision(candidate: Candidate, config: Mapping[str, Any]) -> bool:
    """Whether it is an adapter of MLX-VLM: r and alpha stand in its configuration, and in nothing below."""
    ours = {"rank", "alpha"} <= config.keys() and config.keys().isdisjoint({"peft_type", "lora_parameters"})
    return ours and candidate.has(VISION_FACTOR)


def read(candidate: Candidate) -> Adapter:
    """Read an adapter of MLX-LM.

    Raises
    ------
    AdapterError
        Factors that do not fit, a configuration that makes no sense, or a quantised adapter.
    """
    config = candidate.settings
    if candidate.store is None:
        raise AdapterError(candidate.path, f"holds {FILE_NAME} but no weights", do=f"put {HUB_FILES[1]} there")
    store = candidate.tensors
    if config.get("fine_tune_type") == "full":
        raise AdapterError(store.path, "whole weights that MLX-LM has fine-tuned", why="they are no adapter")
    refuse_other_methods(store.path, store.tensors)
    vision = _is_vision(candidate, config)
    found, carried = collect(store.tensors, by_side(VISION_FACTOR) if vision else role_of, store.path)
    scaling = _vision_scale(candidate, config) if vision else _scale(candidate, config)
    stacks = Stacks(store)
    modules: list[LoraModule] = []
    for one in found:
        if len(factor_shape(store, one.B)) == 3:
            modules += stacks.modules(one, scaling, before_last(one.module))
        else:
            kind = "embedding" if EMBEDDING.search(one.module) else ""
            modules.append(build(store, one, scaling, transposed=turned(store, one, "AB"), kind=kind))
    parameters = config.get("lora_parameters")
    notes = [OLD_SCALE] if parameters and "alpha" in parameters and config.keys().isdisjoint(DATED) else []
    if parameters is None:
        arrays = store.path.suffix == ".npz"
        notes = [VISION_SCALE if vision else UNSCALED_ARRAYS if arrays else UNSCALED]
    if any(key.endswith(".m") for key in carried):
        notes.append(NOTES["use_dora"])
    base = config.get("model")
    base_model = base if isinstance(base, str) and base else None
    return assemble(candidate, "mlx", modules, carried, notes=notes, base_model=base_model, config=config)


def _vision_scale(candidate: Candidate, config: Mapping[str, Any]) -> float:
    where, rank = f"{candidate.config}", config["rank"]
    if type(rank) is not int or rank < 1:
        raise AdapterError(f"{where}: rank", f"{rank!r} is no rank", do="give a whole number from 1 up")
    return usable_alpha(config["alpha"], f"{where}: alpha") / rank


def _scale(candidate: Candidate, config: Mapping[str, Any]) -> float:
    where = f"{candidate.config}: lora_parameters"
    parameters = config.get("lora_parameters")
    if parameters is None:
        return 1.0
    if not isinstance(parameters, dict) or "scale" not in parameters:
        raise AdapterError(where, "its scale is missing", do=f"take the {FILE_NAME} that was saved with the weights")
    return usable_alpha(parameters["scale"], f"{where} scale")
