"""What a base model tells of its modules without its weights: their names, and its configuration (floor 1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorarank.adapters.components import PARTS
from lorarank.errors import ModelError
from lorarank.model_shapes import from_config, read_configuration, read_headers
from lorarank.sources import folder_at, locate

HUB_FILES = ("config.json", "model_index.json", "*/config.json")
"""What is fetched of a model on the hub: never its weights."""


@dataclass(frozen=True)
class Base:
    """The model that an adapter is for.

    Attributes
    ----------
    path : its folder.
    config : ``config.json``, that of the language model where it has several parts; empty where there is none.
    modules : paths of its modules, behind ``unet.`` and so on where it is a pipeline's folder; empty where neither the
        headers of safetensors files nor the configuration tell them.
    """

    path: Path
    config: Mapping[str, Any] = field(repr=False)
    modules: frozenset[str] = field(repr=False)

    @property
    def type(self) -> str:
        """``model_type`` of transformers."""
        return str(self.config.get("model_type", ""))

    def heads(self) -> tuple[int, int]:
        """How many heads there are of queries, and of keys.

        Raises
        ------
        ModelError
            The configuration does not say.

        >>> Base(Path("m"), {"num_attention_heads": 8, "num_key_value_heads": 2}, frozenset()).heads()
        (8, 2)
        """
        heads = self.config.get("num_attention_heads")
        keys = self.config.get("num_key_value_heads") or heads
        if not (isinstance(heads, int) and isinstance(keys, int) and heads > 0 and keys > 0):
            raise ModelError(self.path, "its config.json does not say how many heads it has", do="give another copy")
        return heads, keys


def open_base(model: str) -> Base:
    """Look at a base model: a folder, a file in it, or a hub id, of which only configurations are fetched.

    Raises
    ------
    SourceError
        It leads nowhere.
    ModelError
        A safetensors file in it is damaged.
    """
    folder = folder_at(locate(model, allow_patterns=HUB_FILES))
    parts = [part for part in PARTS if (folder / part).is_dir()]
    modules = _modules(folder) | {f"{part}.{name}" for part in parts for name in _modules(folder / part)}
    return Base(folder, _config(folder), frozenset(modules))


def _modules(folder: Path) -> set[str]:
    stored = {name.removesuffix(".weight") for name in read_headers(folder) if name.endswith(".weight")}
    if stored:
        return stored
    try:
        return set(from_config(folder).linear)
    except ModelError:  # of an architecture whose shapes do not follow from its configuration, or there is none
        return set()


def _config(folder: Path) -> Mapping[str, Any]:
    try:
        return read_configuration(folder / "config.json")
    except ModelError:
        return {}
