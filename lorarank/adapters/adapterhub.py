"""LoRA of AdapterHub's library ``adapters``: factors under ``loras``, an ``adapter_config.json`` of its own (floor 1).

The configuration of the method lies under ``config``. ΔW = alpha/r · ``lora_B`` @ ``lora_A``; but versions before 1.1.0
left alpha/r out, and so the library still loads what they have trained (adapter-hub/adapters
``src/adapters/methods/lora.py``, ``_fix_backward_compat`` in ``src/adapters/loading.py``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lorarank.adapters.adapter import Adapter
from lorarank.adapters.candidate import Candidate
from lorarank.adapters.factors import assemble, build, by_side, collect, factor_shape
from lorarank.adapters.peft_config import FILE_NAME, OTHER_METHOD, usable_alpha
from lorarank.adapters.untrusted import read_json
from lorarank.errors import AdapterError

HUB_FILES = (FILE_NAME, "pytorch_adapter.bin", "adapter.safetensors")
"""What is fetched of an adapter on the hub."""

FACTOR = re.compile(r"(?P<module>.+)\.loras\.[^.]+\.lora_(?P<side>[AB])")

UNSCALED_VERSION = re.compile(r"adapters\.(?:0\..*|1\.0\..*)")

UNSCALED = "Of a version of AdapterHub's library before 1.1.0, which left alpha/r out: scaling 1, as it still loads it."

role_of = by_side(FACTOR)
"""What a tensor is, by its name."""


def recognises(candidate: Candidate) -> bool:
    """Whether the configuration beside the weights is of this library.

    >>> role_of("bert.encoder.layer.0.attention.self.query.loras.sst.lora_A")
    ('bert.encoder.layer.0.attention.self.query', 'A')
    """
    return candidate.config is not None and _is_ours(read_json(candidate.config))


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
    modules = [build(store, one, 1.0 if unscaled else alpha / factor_shape(store, one.A)[0]) for one in found]
    return assemble(
        candidate,
        "adapterhub",
        modules,
        carried,
        notes=[UNSCALED] if unscaled and any(module.r != alpha for module in modules) else [],
        base_model=raw["model_name"] if isinstance(raw["model_name"], str) else None,
        config=raw,
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
