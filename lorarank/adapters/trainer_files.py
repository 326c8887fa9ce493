"""Scalings that trainers leave in a file of their own, beside factors that are stored without an alpha (floor 1)."""

from __future__ import annotations

from collections.abc import Mapping, Set
from contextlib import suppress
from pathlib import Path
from typing import Any

from lorarank.adapters.peft_config import usable_alpha
from lorarank.adapters.untrusted import read_json
from lorarank.errors import AdapterError, SourceError

TRAINERS = (
    ("lora_config.json", "r", "scaling", ""),
    ("lora_config.json", "lora_params.lora_rank", "", "lora_params.lora_alpha"),
    ("params.json", "lora.rank", "lora.scaling", ""),
    ("config.json", "lora_rank", "lora_scaling", ""),
)
"""Name, and where r and the scaling, or an alpha to be divided by r, stand in it, with dots between the names of
objects: of PaddleNLP (``paddlenlp/peft/lora/lora_config.py``), FastVideo (``save_lora_checkpoint``,
``fastvideo/utils/checkpoint.py``, and its samples, which load with that weight), mistral-finetune (``model/args.py``,
``finetune/checkpointing.py``) and moshi-finetune (``finetune/wrapped_model.py``)."""

FILES = tuple(dict.fromkeys(name for name, *_ in TRAINERS))


def scaling_beside(weights: Path, ranks: Set[int]) -> tuple[float, str] | None:
    """The scaling that a trainer has left beside a file of factors, and a note on it.

    Parameters
    ----------
    ranks : of the factors; the file is none of theirs where it tells another.
    """
    for name, r, scaling, alpha in TRAINERS if len(ranks) == 1 else ():
        with suppress(SourceError, AdapterError):  # it is missing, or another file of that name
            config = read_json(weights.parent / name)
            if {_below(config, r)} == ranks:
                value = usable_alpha(_below(config, scaling or alpha), f"{weights.parent / name}: {scaling or alpha}")
                value = value / min(ranks) if alpha else value
                return value, f"No alpha is stored: the scaling of {value:g} is that of {name} beside it."
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
