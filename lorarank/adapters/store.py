"""One way to open the tensors of a safetensors file, of shards, of a file of GGUF, torch or numpy (floor 1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorarank.adapters.safetensors_file import SafetensorsFile
from lorarank.adapters.tensors import Numbers, Store, StoredTensor
from lorarank.adapters.untrusted import read_json
from lorarank.errors import AdapterError

INDEX_SUFFIX = ".safetensors.index.json"
"""What the index of safetensors shards is called after."""

PICKLES_INDEX = ".bin.index.json"
"""That of shards as torch writes them, of whole models alone."""

TORCH_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pth.lora")
"""Of files as torch writes them; the last is LitGPT's for an adapter."""

SUFFIXES = (".safetensors", INDEX_SUFFIX, ".gguf", *TORCH_SUFFIXES)
"""Of files of tensors that are looked for in a folder."""

READ = (*SUFFIXES, ".npz")
"""Of all that are read; archives of numpy arrays may be data as well."""


@dataclass(frozen=True)
class Shards:
    """Tensors spread over several files of one kind beside their index.

    Attributes
    ----------
    path : of the index.
    tensors : what is stored under each name, in all shards.
    homes : the file that holds each.
    """

    path: Path
    tensors: Mapping[str, StoredTensor]
    homes: Mapping[str, Store] = field(repr=False)

    @classmethod
    def open(cls, path: Path) -> Shards:
        """Check an index and the headers of all its shards.

        A shard is a plain name in the index, looked up beside it. That name may be a symbolic link, as every file in
        the hub's cache is; it cannot lead anywhere by itself.

        Raises
        ------
        SourceError
            The index or a shard cannot be read.
        AdapterError
            One of them is damaged, or they contradict each other.
        MissingExtraError
            They are torch's, which is not installed.
        """
        kind = ".bin" if path.name.endswith(PICKLES_INDEX) else ".safetensors"
        where: dict[str, Any] | None = read_json(path).get("weight_map")
        if not isinstance(where, dict) or not where:
            raise AdapterError(path, "lacks its weight_map", do="download it again")
        for key, name in where.items():
            if not _is_plain(name, kind):
                raise AdapterError(f"{path}: {key}", f"{name!r} is no plain name of a {kind} file beside it")
        homes: dict[str, Store] = {}
        for name in sorted(set(where.values())):
            shard = open_store(path.with_name(name))
            for key in shard.tensors:
                if key in homes:
                    raise AdapterError(f"{path}: {key}", f"stored twice, in {homes[key].path.name} and in {name}")
                homes[key] = shard
        for key, name in where.items():
            if key not in homes or homes[key].path.name != name:
                raise AdapterError(f"{path}: {key}", f"not in {name}, where it should be", do="download it again")
        return cls(path=path, tensors={key: home.tensors[key] for key, home in homes.items()}, homes=homes)

    def read(self, key: str, dtype: str | None = None) -> Numbers:
        """The tensor of that name, see :class:`~lorarank.adapters.tensors.Store`."""
        return self.homes[key].read(key, dtype)


def open_store(path: Path) -> Store:
    """Open whatever kind of tensor file this is, by its name.

    Raises
    ------
    SourceError, AdapterError, MissingExtraError
        See the kinds of file.
    """
    if path.name.endswith((INDEX_SUFFIX, PICKLES_INDEX)):
        return Shards.open(path)
    if path.suffix == ".safetensors":
        return SafetensorsFile.open(path)
    if path.suffix == ".gguf":
        from lorarank.adapters.gguf_file import GgufFile  # most adapters are neither this nor torch's

        return GgufFile.open(path)
    if path.name.endswith(TORCH_SUFFIXES):
        from lorarank.adapters.torch_file import TorchFile

        return TorchFile.open(path)
    if path.suffix == ".npz":
        from lorarank.adapters.numpy_file import NumpyFile

        return NumpyFile.open(path)
    raise AdapterError(path, "no file of tensors that is read here", do=f"name a file of {', '.join(READ)}")


def _is_plain(name: Any, kind: str) -> bool:
    """Whether it is the name of a file of that kind in the same folder, on any system.

    >>> [_is_plain(name, ".bin") for name in ("a-1-of-2.bin", "../a.bin", "/a.bin", "c:a.bin", "a.safetensors")]
    [True, False, False, False, False]
    """
    return isinstance(name, str) and name.endswith(kind) and not set(name) & set("/\\:\0")
