"""A folder or file that may hold an adapter: what every reader looks at to recognise its own (floor 1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from lorarank.adapters.peft_config import FILE_NAME
from lorarank.adapters.store import INDEX_SUFFIX, READ, SUFFIXES, open_store
from lorarank.adapters.tensors import Store
from lorarank.adapters.untrusted import read_json
from lorarank.errors import AdapterError
from lorarank.sources import folder_at

PEFT_WEIGHTS = ("adapter_model.safetensors", f"adapter_model{INDEX_SUFFIX}", "adapter_model.bin")
"""In the order in which PEFT looks for them."""

WEIGHTS = (
    *PEFT_WEIGHTS,
    "adapter_model.pt",  # torchtune
    "adapters.safetensors",  # MLX-LM
    "adapters.npz",  # its first ones, and those of mlx-examples
    "adapter.safetensors",  # AdapterHub
    "pytorch_adapter.bin",
    "pytorch_lora_weights.safetensors",  # diffusers
    "pytorch_lora_weights.bin",
)
"""Names that say what a file is; the first that a folder holds is its adapter, whatever else is in it."""

OTHER_FILES = re.compile(
    r"(?:(?:pytorch_|diffusion_|diffusion_pytorch_|flax_|tf_)?model"
    r"(?:[-_.](?:(?:non_)?ema|ema[-_]?only|(?:lora[-_])?merged|fp16|fp32|bf16|fp8))*"
    r"|consolidated(?:\.\d+)?|master_weights)"
    r"(?:-\d+-of-\d+)?(?:\.(?:safetensors|bin)\.index\.json|\.[a-z]+)|"
    r"(?:optimizer|scheduler|scaler|training_args|rng_state|random_states)(?:_\d+)?\b.*|"
    r"common\.pt|train_state\.pt|\..*",
)
"""Names of files of tensors that are no adapter, in a folder as among many sources: models under the full names that
libraries give them, with their kinds and shards, what trainers keep to resume, and hidden files. ``model-alice`` may be
somebody's LoRA."""

DIFFUSION = "diffusion_pytorch_model.safetensors"
"""What diffusers calls a model's weights, and some LoRAs are saved as: AnimateDiff's by its
``scripts/convert_animatediff_motion_lora_to_diffusers.py``. Of the hub it is not fetched, since it may be a model."""

SHARD = re.compile(r"-\d+-of-\d+\.")
"""In the names of shards."""

ENDING = 96
"""Characters at the end of a tensor's name among which the name of a factor is; the longest known have 40."""

MOST_SEEN = 1000
"""Entries of a folder that are looked at."""


@dataclass(frozen=True)
class Candidate:
    """What is to be opened.

    Attributes
    ----------
    path : a folder or file that exists.
    member : which of several adapters in it is meant; ``None`` where it holds a single one.
    """

    path: Path
    member: str | None = None

    @property
    def folder(self) -> Path:
        """``path``, or the folder that it lies in."""
        return folder_at(self.path)

    @property
    def config(self) -> Path | None:
        """The ``adapter_config.json`` beside the weights, where there is one."""
        path = self.folder / FILE_NAME
        return path if path.exists() else None

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """What is in there, read once for all who look whether it is theirs; empty where there is none.

        Raises
        ------
        SourceError, AdapterError
            It cannot be read, or is no JSON object.
        """
        return {} if self.config is None else read_json(self.config)

    @cached_property
    def weights(self) -> Path | None:
        """The file of tensors: the one named, one of :data:`WEIGHTS`, or the only one that is an adapter's.

        Raises
        ------
        AdapterError
            A single shard is named.
        """
        if self.path.is_file() and self.path.name != FILE_NAME:
            if SHARD.search(self.path.name) and not self.path.name.endswith(INDEX_SUFFIX):
                raise AdapterError(self.path, "one shard of several", do=f"name its folder, {self.path.parent}")
            return self.path if self.path.name.endswith(READ) else None
        for name in WEIGHTS:
            if (self.folder / name).is_file():
                return self.folder / name
        files = tensor_files(self.folder)
        for suffixes in ((INDEX_SUFFIX,), (".safetensors",), SUFFIXES):
            found = [path for path in files if path.name.endswith(suffixes) and not SHARD.search(path.name)]
            if found:
                return found[0] if len(found) == 1 else None
        return self._delta or self._diffusion

    @property
    def _delta(self) -> Path | None:
        """OpenDelta's file, named as a model's beside a configuration that tells what it is."""
        config, weights = self.folder / "config.json", self.folder / "pytorch_model.bin"
        is_delta = weights.is_file() and config.is_file() and read_json(config).get("delta_type") == "lora"
        return weights if is_delta else None

    @property
    def _diffusion(self) -> Path | None:
        """A file named as a diffusion model's, where it holds factors."""
        path = self.folder / DIFFUSION
        return path if path.is_file() and any("lora" in key for key in open_store(path).tensors) else None

    @cached_property
    def store(self) -> Store | None:
        """The tensors; ``None`` where there is no file of them.

        Raises
        ------
        SourceError, AdapterError, MissingExtraError
            See :func:`~lorarank.adapters.store.open_store`.
        """
        return None if self.weights is None else open_store(self.weights)

    @property
    def tensors(self) -> Store:
        """``store`` of a candidate that a reader has recognised by its tensors.

        Raises
        ------
        AdapterError
            There is no file of tensors.
        """
        if self.store is None:
            raise AdapterError(self.path, "holds no file of tensors", do="name the file")
        return self.store

    @property
    def keys(self) -> Iterable[str]:
        """Names of the tensors."""
        return () if self.store is None else self.store.tensors

    @property
    def metadata(self) -> Mapping[str, str]:
        """What a safetensors file says of itself, else empty."""
        return getattr(self.store, "metadata", {})

    def has(self, pattern: re.Pattern[str], start: str | tuple[str, ...] = "") -> bool:
        """Whether any tensor is a factor by the end of its name, and the name begins as it should."""
        return any(key.startswith(start) and pattern.fullmatch(ending(key)[1]) for key in self.keys)


def ending(key: str) -> tuple[str, str]:
    """The name of a tensor in two parts, of which the second is long enough for what tells a factor.

    Expressions that begin with anything at all look at the second alone: a file of strangers has room for 30,000 names
    of a thousand characters, and a dozen expressions would need half a minute for them.

    >>> ending("layers.0.q.lora_A.weight"), ending("x" * 100)[0]
    (('', 'layers.0.q.lora_A.weight'), 'xxxx')
    """
    return key[:-ENDING], key[-ENDING:]


def tensor_files(folder: Path) -> list[Path]:
    """Files of tensors in a folder that may be adapters, sorted by name."""
    entries = sorted(islice(folder.iterdir(), MOST_SEEN))
    return [
        entry
        for entry in entries
        if entry.name.endswith(SUFFIXES) and not OTHER_FILES.fullmatch(entry.name) and entry.is_file()
    ]
