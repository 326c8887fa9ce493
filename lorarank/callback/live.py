"""The LoRA factors of a model in memory, as numpy arrays (floor 2).

PEFT's LoRA layers are told by what they have: ``lora_A`` and ``lora_B``, by adapter dictionaries of modules with
a ``weight``, and ``scaling``, a dictionary of numbers (PEFT 0.21, ``tuners/lora/layer.py``).
Nothing of torch is imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

PREFIXES = ("_orig_mod.", "module.", "base_model.model.")
"""What torch.compile, data parallelism and PEFT put before a module's path."""


class LiveModule(NamedTuple):
    """One module: ``lora_A`` (r, in) and ``lora_B`` (out, r) float32, on the CPU, as they are now."""

    name: str
    lora_A: NDArray[np.float32]
    lora_B: NDArray[np.float32]
    scaling: float


def live_modules(model: Any) -> Iterator[LiveModule]:
    """The active LoRA modules of a model; convolutions as matrices; factors sharded over processes are left out.

    Parameters
    ----------
    model : a ``torch.nn.Module`` with PEFT's layers somewhere below it.
    """
    for path, layer in model.named_modules():
        if not (
            hasattr(layer, "lora_A") and hasattr(layer, "lora_B") and isinstance(getattr(layer, "scaling", 0), dict)
        ):
            continue
        active = list(getattr(layer, "active_adapters", ()) or layer.lora_A.keys())
        for adapter in active:
            if adapter not in layer.lora_A or adapter not in layer.lora_B:
                continue
            factors = [_array(layer.lora_A[adapter]), _array(layer.lora_B[adapter])]
            if factors[0] is None or factors[1] is None:
                continue
            r = factors[0].shape[0]
            lora_A, lora_B = factors[0].reshape(r, -1), factors[1].reshape(factors[1].shape[0], -1)
            if lora_A.size and lora_B.shape[1] == r:
                name = _stripped(path) if len(active) == 1 else f"{_stripped(path)} ({adapter})"
                yield LiveModule(name, lora_A, lora_B, float(layer.scaling[adapter]))


def _array(part: Any) -> NDArray[np.float32] | None:
    """The weight of a factor; ``None`` where this process holds a part of it alone (DTensor, ZeRO-3, FSDP)."""
    weight = getattr(part, "weight", None)
    if weight is None or weight.dim() < 2 or hasattr(weight, "full_tensor") or weight.device.type == "meta":
        return None
    array: NDArray[np.float32] = weight.detach().float().cpu().numpy()
    return array


def _stripped(path: str) -> str:
    """Path in the base model.

    >>> _stripped("module.base_model.model.model.layers.0.q_proj")
    'model.layers.0.q_proj'
    """
    for prefix in PREFIXES:
        path = path.removeprefix(prefix)
    return path
