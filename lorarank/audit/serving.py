"""What a serving engine would make of an adapter (floor 3).

vLLM reads ``r``, ``lora_alpha`` and ``use_rslora`` of ``adapter_config.json`` and drops every field it does not know,
``rank_pattern`` and ``alpha_pattern`` among them: one scaling for all modules (vllm/lora/peft_helper.py). It refuses
an r above its ``max_lora_rank``, 16 unless its operator says otherwise (vllm/config/lora.py), and it refuses
``use_dora``, ``modules_to_save``, and biases: a ``bias`` other than none, and the ``lora_B.bias`` of ``lora_bias``, of
which it says that it is an unsupported LoRA weight (vllm/lora/utils.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorarank.adapters import Adapter
from lorarank.adapters.peft_config import DEFAULT_ALPHA, scaling
from lorarank.audit.figures import norm_of, norms_of, spectra_of
from lorarank.audit.modules import ModuleAudit

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM's ``max_lora_rank`` can be set to (vllm/config/lora.py, MaxLoRARanks)."""

REFUSED = ("use_dora", "modules_to_save", "bias", "lora_bias")
"""Fields of a configuration for which vLLM refuses an adapter."""


@dataclass(frozen=True)
class Serving:
    """An engine with a largest rank that knows no patterns.

    Attributes
    ----------
    rank : the largest r that it takes; ``needs`` is the smallest vLLM setting that takes this adapter, ``None`` where
        none does.
    too_large : modules whose r is above ``rank``.
    kept : share of the energy that is left when every module is cut to ``rank``.
    rescaled : modules that would get another scaling than their own.
    factors : smallest and largest of those scalings over the module's own.
    error : ‖ΔW served − ΔW‖ over ‖ΔW‖, from the scalings alone.
    refused : fields that vLLM refuses.
    """

    rank: int
    needs: int | None
    too_large: int
    kept: float
    rescaled: int
    factors: tuple[float, float]
    error: float
    refused: tuple[str, ...]


def serve(adapter: Adapter, modules: Sequence[ModuleAudit], rank: int) -> Serving:
    """How an engine that takes ranks up to ``rank`` and knows no patterns would serve these modules."""
    import numpy as np

    largest = max(module.r for module in modules)
    factors = [_factor(adapter, module) for module in modules]
    changed = [factor for factor in factors if not math.isclose(factor, 1.0, rel_tol=1e-6)]
    norms = np.array([module.figures.norm if module.figures is not None else 0.0 for module in modules])
    whole = norm_of(norms)
    wrong = norm_of(norms * np.abs(np.array(factors) - 1.0))
    spectra = spectra_of([module.figures for module in modules if module.figures is not None])
    cut = norm_of(norms_of(spectra[:, :rank])) if spectra.size else 0.0
    return Serving(
        rank=rank,
        needs=next((setting for setting in VLLM_RANKS if setting >= largest), None),
        too_large=sum(module.r > rank for module in modules),
        kept=(cut / whole) ** 2 if whole > 0 else 1.0,
        rescaled=len(changed),
        factors=(min(changed), max(changed)) if changed else (1.0, 1.0),
        error=wrong / whole if whole > 0 else 0.0,
        refused=refused(adapter.config),
    )


def refused(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields of a configuration for which vLLM refuses the adapter.

    >>> refused({"bias": "none", "use_dora": False}), refused({"bias": "all", "modules_to_save": ["head"]})
    ((), ('modules_to_save', 'bias'))
    """
    return tuple(name for name in REFUSED if config.get(name) and config[name] != "none")


def _factor(adapter: Adapter, module: ModuleAudit) -> float:
    """Scaling that the engine would use, over the module's own; 1 where the adapter has no patterns to ignore."""
    config = adapter.config
    if adapter.format != "peft" or not (config.get("rank_pattern") or config.get("alpha_pattern")):
        return 1.0
    alpha = float(config.get("lora_alpha", DEFAULT_ALPHA))
    served = scaling(int(config["r"]), alpha, rslora=bool(config.get("use_rslora")))
    return served / module.scaling if module.scaling else 1.0
