"""LoRA of AdapterHub's library ``adapters``: factors under ``loras``, an ``adapter_config.json`` of its own (floor 1).

The configuration of the method lies under ``config``. ΔW = alpha/r · ``lora_B`` @ ``lora_A``; but versions before 1.1.0
left alpha/r out, and so the library still loads what they have trained (adapter-hub/adapters
``src/adapters/methods/lora.py``, ``_fix_backward_compat`` in ``src/adapters/loading.py``). A layer that computes q, k
and v in one has ``lora_A`` (n·r, in) and ``lora_B`` (n·out/3, r) for the n of them that ``attn_matrices`` names
(``LoRAMergedLinear``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from lorarank.adapters.adapter import Adapter, LoraModule
from lorarank.adapters.candidate import Candidate
from lorarank.adapters.factors import MOST_SPREAD, assemble, build, dtype_of, factor_shape, spread
from lorarank.adapters.named_factors import Named, by_side, collect
from lorarank.adapters.peft_config import FILE_NAME, OTHER_METHOD, usable_alpha
from lorarank.adapters.tensors import Store, read_finite
from lorarank.adapters.untrusted import read_json
from lorarank.errors import AdapterError

HUB_FILES = (FILE_NAME, "pytorch_adapter.bin", "adapter.safetensors")
"""What is fetched of an adapter on the hub."""

FACTOR = re.compile(r"(?P<module>.+)\.loras\.[^.]+\.lora_(?P<side>[AB])")

FUSED = re.compile(r"(?:^|\.)(?:c_attn|in_proj|query_key_value)$")
"""Layers of the models that the library knows which compute q, k and v in one."""

PARTS = ("q", "k", "v")
"""In the order of their outputs."""

UNSCALED_VERSION = re.compile(r"adapters\.(?:0\..*|1\.0\..*)")

UNSCALED = "Of a version of AdapterHub's library before 1.1.0, which left alpha/r out: scaling 1, as it still loads it."

role_of = by_side(FACTOR)
"""What a tensor is, by its name."""


def recognises(candidate: Candidate) -> bool:
    """Whether the configuration beside the weights is of this library.

    >>> role_of("bert.encoder.layer.0.attention.self.query.loras.sst.lora_A")
    ('bert.encoder.layer.0.attention.self.query', 'A')
    """
    return _is_ours(candidate.settings)


def _is_ours(config: Mapping[str, Any]) -> bool:
    inner = config.get("config")
    return "peft_type" not in config and isinstance(inner, dict) and {"model_type", "model_name"} <= config.keys()


def read(candidate: Candidate) -> Adapter:
    """Read an adapter of AdapterHub's library.

    Raises
    ------
    AdapterError
        It is no LoRA, its update depends on the input, or factors do not fit.
    """
    raw = read_json(candidate.folder / FILE_NAME)
    config = raw["config"]
    where = f"{candidate.folder / FILE_NAME}: config"
    _check_method(config, where)
    store = candidate.tensors
    found, carried = collect(store.tensors, role_of, store.path)
    unscaled = bool(UNSCALED_VERSION.fullmatch(str(raw.get("version"))))
    alpha = usable_alpha(config.get("alpha"), f"{where} alpha")
    named = config.get("attn_matrices")
    enabled = [isinstance(named, list) and part in named for part in PARTS]
    modules = [_module(store, one, enabled, None if unscaled else alpha) for one in found]
    return assemble(
        candidate,
        "adapterhub",
        modules,
        carried,
        notes=[UNSCALED] if unscaled and config.get("r") != alpha else [],
        base_model=raw["model_name"] if isinstance(raw["model_name"], str) else None,
        config=raw,
    )


def _module(store: Store, one: Named, enabled: Sequence[bool], alpha: float | None) -> LoraModule:
    """The module of a pair. ``enabled`` : of q, k and v, where one layer computes all; ``alpha`` : where it counts."""
    shape_A, shape_B = factor_shape(store, one.A), factor_shape(store, one.B)
    n = sum(enabled)
    if len(shape_A) != 2 or len(shape_B) != 2 or not FUSED.search(one.module) or shape_A[0] != n * shape_B[1] or not n:
        return build(store, one, 1.0 if alpha is None else alpha / shape_A[0])
    out_features, rest = divmod(len(PARTS) * shape_B[0], n)
    if rest or out_features * shape_A[0] > MOST_SPREAD:
        raise AdapterError(
            f"{store.path}: {one.B}", f"its shape {shape_B} does not fit {n} of {len(PARTS)} parts of a layer"
        )
    return LoraModule(
        name=one.module,
        kind="linear",
        r=shape_A[0],
        in_features=shape_A[1],
        out_features=out_features,
        scaling=1.0 if alpha is None else alpha / shape_B[1],
        dtype=dtype_of(store, one.A, one.B),
        parameters=prod(shape_A) + prod(shape_B),
        keys=(one.A, one.B),
        read=lambda: (read_finite(store, one.A), spread(read_finite(store, one.B), n, enabled)),
    )


def _check_method(config: Mapping[str, Any], where: str) -> None:
    """Refuse what is another method of the library: AdapterError."""
    method = config.get("architecture")
    if method != "lora" or config.get("vera_d") is not None:
        what = "VeRA" if method == "lora" else f"the method {method}" if method else "a bottleneck adapter"
        raise AdapterError(where, f"{what} of AdapterHub's library, not LoRA", do=OTHER_METHOD)
    if config.get("composition_mode", "add") != "add":
        raise AdapterError(where, "an (IA)³, which rescales activations", why="it has no rank", do=OTHER_METHOD)
    if config.get("use_gating"):
        raise AdapterError(where, "its updates are weighed by gates", why="they depend on the input", do=OTHER_METHOD)
