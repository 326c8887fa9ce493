"""Dictionaries in one another in a file of torch: which of them hold the adapter, and its tensors by name (floor 1)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lorarank.errors import AdapterError

INSIDE = (
    "state_dict",
    "model_state_dict",
    "model",
    "lora",
    "lora_state_dict",
    "module",
    "ip_adapter",
    "lora_weights",
)
"""Under which checkpoints of Lightning, LitGPT, Microsoft's loralib, DeepSpeed, IP-Adapter (FaceID: LoRA beside its own
projections) and PhotoMaker (beside its encoder) keep their tensors, where others lie beside them."""

NOT_INSIDE = re.compile(r"optim|scheduler|scaler|rng|callbacks|loops")
"""In what they call the tensors that only a training goes on with."""

MOST_LEVELS = 4
"""Of dictionaries in one another; Mix-of-Show has three, CLIP-LoRA too."""

MOST_PLAIN_LEVELS = 32
"""Of those without a tensor: configurations, which Lightning keeps beside the weights."""

MOST_ENTRIES = 100_000
"""In all dictionaries together: one that stands in many places is counted everywhere."""

LARGEST = 2**63
"""Whole numbers from here on are none that a configuration has, and float64 ends."""

CONVERT = "convert it to safetensors where it comes from"


class Spread:
    """The tensors of a file by name, whatever dictionaries they lie in."""

    def __init__(self, path: Path) -> None:
        self.plain: dict[str, Any] = {}
        self.left: tuple[str, ...] = ()
        self.copies: tuple[str, ...] = ()
        self._path = path
        self._entries = 0

    def tensors(self, loaded: dict[str, Any]) -> dict[str, Any]:
        """Tensors, and whatever else is of no plain kind, which the reader of the file refuses.

        >>> import torch
        >>> spread = Spread(Path("x.pt"))
        >>> list(spread.tensors({"weight": {"q": {"lora_A": torch.ones(1), "scaling": 2.0}}, "config": {"r": 8}}))
        ['q.lora_A', 'q.scaling']
        >>> spread.plain
        {'config': {'r': 8}}
        """
        below = {key: value for key, value in loaded.items() if isinstance(value, dict) and not NOT_INSIDE.search(key)}
        self.plain = {key: value for key, value in below.items() if not self._has_tensors(value)}
        held = [key for key in below if key not in self.plain]
        named = [key for key in INSIDE if key in held]
        if len(named) > 1:
            raise AdapterError(
                f"{self._path}: {named[0]}", f"a dict where a tensor is needed, beside {named[1]}", do=CONVERT
            )
        alone = len(held) == 1 and not any(map(_is_tensor, loaded.values()))
        if named and not self._is_whole(loaded, held, below[named[0]]):
            named = []
        if named or alone:
            return self._spread(below[(named or held)[0]])
        return self._spread({key: one for key, one in loaded.items() if key in held or not isinstance(one, dict)})

    def _is_whole(self, loaded: dict[str, Any], held: Sequence[str], chosen: dict[str, Any]) -> bool:
        """Whether the adapter is in one dictionary, and not in halves of which another has other factors."""
        others = {key: one for key, one in loaded.items() if key in held or (_is_tensor(one) and one.numel() > 1)}
        others = {key: one for key, one in others.items() if one is not chosen and not NOT_INSIDE.search(key)}
        copies = {key for key, one in others.items() if isinstance(one, dict) and not one.keys().isdisjoint(chosen)}
        if any(_has_factors(one) for key, one in others.items() if key not in copies):
            return False
        self.left = tuple(key for key in others if key not in copies)
        self.copies = tuple(key for key in others if key in copies)
        return True

    def _has_tensors(self, value: Any, level: int = 1) -> bool:
        """Whether there is a tensor in a dictionary, or in one in it."""
        if not isinstance(value, dict):
            return _is_tensor(value)
        self._count(value, level, MOST_PLAIN_LEVELS)
        return any(self._has_tensors(one, level + 1) for one in value.values())

    def _spread(self, loaded: dict[Any, Any], start: str = "", level: int = 1) -> dict[str, Any]:
        import torch

        self._count(loaded, level)
        found: dict[str, Any] = {}
        for key, value in loaded.items():
            name = f"{start}{key}"
            if isinstance(value, dict):
                below = self._spread(value, f"{name}.", level + 1)
            elif type(value) is float or (type(value) is int and abs(value) < LARGEST):
                below = {name: torch.tensor(value, dtype=torch.float64)}
            else:
                below = {} if _is_setting(value) else {name: value}
            if not found.keys().isdisjoint(below):
                raise AdapterError(f"{self._path}: {name}", "two tensors have one name", do=CONVERT)
            found |= below
        return found

    def _count(self, loaded: dict[Any, Any], level: int, most: int = MOST_LEVELS) -> None:
        self._entries += len(loaded)
        if level > most or self._entries > MOST_ENTRIES:
            raise AdapterError(self._path, "more dictionaries in one another than any adapter has", do=CONVERT)


def _is_setting(value: Any) -> bool:
    """Whether it is no number and no tensor, but words about them, or a list of those.

    >>> _is_setting("linear"), _is_setting(["to_q", "to_k"]), _is_setting([1.0])
    (True, True, False)
    """
    if isinstance(value, list | tuple):
        return all(isinstance(one, str) for one in value)
    return value is None or isinstance(value, str | bool)


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _has_factors(value: Any) -> bool:
    return isinstance(value, dict) and any("lora" in str(key) for key in value)
