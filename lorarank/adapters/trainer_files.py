"""Scalings that trainers leave in a file of their own, beside factors that are stored without an alpha (floor 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from lorarank.adapters.adapter import LoraModule
from lorarank.adapters.peft_config import usable_alpha
from lorarank.adapters.untrusted import read_json
from lorarank.errors import AdapterError, SourceError

TRAINERS = (
    ("lora_config.json", "r", "scaling", False),
    ("lora_config.json", "lora_params.lora_rank", "lora_params.lora_alpha", True),
    ("params.json", "lora.rank", "lora.scaling", False),
    ("config.json", "lora_rank", "lora_scaling", False),
)
"""Name, where r and the scaling stand in it, with dots between the names of objects, and whether the latter is an alpha
to be divided by r: of PaddleNLP (``paddlenlp/peft/lora/lora_config.py``), FastVideo (``save_lora_checkpoint``,
``fastvideo/utils/checkpoint.py``, and its samples, which load with that weight), mistral-finetune (``model/args.py``,
``finetune/checkpointing.py``) and moshi-finetune (``finetune/wrapped_model.py``)."""

FILES = tuple(dict.fromkeys(name for name, *_ in TRAINERS))


def scaled(modules: Sequence[LoraModule], weights: Path, unscaled: str) -> tuple[list[LoraModule], list[str]]:
    """Modules with the scaling that a trainer has left beside their file, where they have no alpha, and notes on it.

    Parameters
    ----------
    modules : of one file; 1 is the scaling of those that have no alpha.
    weights : that file.
    unscaled : the note where nothing lies beside it, and 1 it is.
    """
    if all(module.alpha is not None for module in modules):
        return list(modules), []
    scaling, note = _beside(weights, {module.r for module in modules}) or (1.0, unscaled)
    return [replace(one, scaling=scaling) if one.alpha is None else one for one in modules], [note]


def _beside(weights: Path, ranks: Set[int]) -> tuple[float, str] | None:
    """The scaling and a note; the file is none of theirs where it tells another rank than the factors."""
    for name, r, key, is_alpha in TRAINERS if len(ranks) == 1 else ():
        with suppress(SourceError, AdapterError):  # it is missing, or another file of that name
            config = read_json(weights.parent / name)
            if {_below(config, r)} == ranks:
                value = usable_alpha(_below(config, key), f"{weights.parent / name}: {key}")
                scaling = value / min(ranks) if is_alpha else value
                return scaling, f"No alpha is stored: the scaling of {scaling:g} is that of {name} beside it."
    return None


def _below(config: Mapping[str, Any], path: str) -> Any:
    """What stands under names with dots between them; ``None`` where nothing or more than a number does.

    >>> _below({"lora": {"rank": 4}}, "lora.rank"), _below({"lora": {}}, "lora")
    (4, None)
    """
    found: Any = config
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, int | float) else None
