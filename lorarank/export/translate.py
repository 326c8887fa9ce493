"""From PEFT's names to a tool's (floor 3), with a sentence on whatever has none there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from lorarank.errors import OptionError, printable
from lorarank.export.settings import Settings

PATTERNS = ("rank_pattern", "alpha_pattern")

HARMLESS: Mapping[str, Any] = {"task_type": "CAUSAL_LM", "bias": "none", "fan_in_fan_out": True}
"""Values that every one of these tools has by itself where it has no key for them."""


def translate(
    settings: Settings, keys: Mapping[str, str], tool: str, handled: Collection[str] = ()
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The fields that a tool reads, under its own keys, and sentences on the others.

    Parameters
    ----------
    keys : field of ``LoraConfig`` → key of the tool.
    handled : fields that the caller puts elsewhere.

    >>> lora = {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], "use_dora": True}
    >>> translate(Settings("a", "adapter", None, lora, ()), {"r": "rank"}, "Tool", ("lora_alpha", "target_modules"))
    ({'rank': 8}, ('Tool has no key for use_dora = True: left out.',))
    """
    lora = settings.lora
    taken = {keys[name]: value for name, value in lora.items() if name in keys}
    left = [name for name in lora if name not in keys and name not in handled and HARMLESS.get(name) != lora[name]]
    notes = []
    patterns = [name for name in left if name in PATTERNS]
    if patterns:
        count = len(set().union(*(lora[name] for name in patterns)))
        notes.append(
            f"{tool} reads one rank for all modules: {' and '.join(patterns)} ({count:,} modules) left out, so "
            f"r = {settings.r} holds everywhere."
        )
    notes += [
        f"{tool} has no key for {name} = {printable(lora[name], 80)}: left out."
        for name in left
        if name not in patterns
    ]
    return taken, tuple(notes)


def whole(value: float, tool: str) -> int:
    """``lora_alpha`` for a tool that takes whole numbers alone.

    Raises
    ------
    OptionError
        It is none.

    >>> whole(16.0, "axolotl")
    16
    """
    if float(value).is_integer():
        return int(value)
    raise OptionError(
        f"--to {tool}",
        f"the adapter's lora_alpha is {value:g}, and {tool} takes whole numbers alone",
        do="give another --rank, or --to peft",
    )


def base(settings: Settings, notes: list[str]) -> str:
    """The base model, or a word to be replaced and a note that says so."""
    if settings.base_model:
        return settings.base_model
    notes.append("The adapter does not name its base model: replace BASE_MODEL.")
    return "BASE_MODEL"
