"""The tensors of two models, paired by name (floor 3); only headers are read here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorarank.adapters.peft_experts import MOST_EXPERTS
from lorarank.adapters.tensors import FLOATS, Numbers, Store, StoredTensor
from lorarank.errors import ModelError, ResourceError
from lorarank.fine_tune.files import CONFIG, HUB_FILES, HUB_PICKLES, open_weights
from lorarank.fine_tune.pairing import pair_names
from lorarank.fine_tune.rounding import rounding_norm
from lorarank.layer_kinds import conv1d_keys, kind_of
from lorarank.model_shapes import config_or_empty, is_buffer
from lorarank.module_names import layer_index, module_type
from lorarank.sources import folder_at, locate

NEVER_PACKED = frozenset({"int64", "bool"})
"""Stored dtypes that no weights are packed in: counters, positions and masks, which are no parameters."""

ADAPTER = re.compile(r"(^|[._])(lora|hada|lokr|dora)_")
"""In the names of an adapter's factors."""


@dataclass(frozen=True, eq=False)
class Update:
    """A matrix that was read from both models.

    Attributes
    ----------
    change : W_tuned − W_base, (out, in) float64.
    base_norm : ‖W_base‖.
    rounding : about the ‖·‖ of what rounding to the fine-tune's dtype adds to the change.
    """

    change: NDArray[np.float64]
    base_norm: float
    rounding: float


@dataclass(frozen=True)
class Held:
    """A tensor where it is stored, by its key."""

    store: Store
    key: str

    @property
    def dtype(self) -> str:
        """As torch spells it."""
        return self.store.tensors[self.key].dtype

    def wide(self) -> NDArray[np.float64]:
        """Its numbers."""
        return np.asarray(self.store.read(self.key, "f8"), dtype=np.float64)

    def narrow(self) -> Numbers:
        """Its numbers in no more room than they are stored in."""
        return self.store.read(self.key)


@dataclass(frozen=True)
class Pair:
    """A matrix that both models have, or a stack of matrices, one an expert.

    Attributes
    ----------
    key : name of the tensor, ``module`` + ``.weight`` where it is of a layer.
    kind : as :func:`lorarank.layer_kinds.kind_of` has it.
    rows, columns : as they are stored; all axes but the first flattened, for a convolution.
    transposed : whether they are (in, out).
    stack : matrices in it; 0 where it is one.
    """

    key: str
    kind: str
    rows: int
    columns: int
    transposed: bool
    base: Held
    tuned: Held
    stack: int = 0

    @property
    def linear(self) -> bool:
        """Whether it is a linear layer inside the model, which LoRA can be put on; no embedding, no output head."""
        return self.kind == "linear"

    @property
    def out_features(self) -> int:
        """Of the layer's map."""
        return self.columns if self.transposed else self.rows

    @property
    def in_features(self) -> int:
        """Of the layer's map."""
        return self.rows if self.transposed else self.columns

    @property
    def module(self) -> str:
        """Path of the module."""
        return self.key.removesuffix(".weight")

    @property
    def names(self) -> Iterator[str]:
        """What each of its matrices is called: as the module, with the number of the expert in a stack."""
        return (f"{self.module}[{index}]" for index in range(self.stack)) if self.stack else iter([self.module])

    @property
    def type(self) -> str:
        """Last part of the path."""
        return module_type(self.module)

    @property
    def layer(self) -> int | None:
        """Number of the layer, where there is one."""
        return layer_index(self.module)

    def updates(self) -> Iterator[Update]:
        """What differs in each matrix; weights are read at this moment.

        Raises
        ------
        SourceError, AdapterError
            A file is gone or was changed since it was opened.
        ResourceError
            It does not fit into memory.
        """
        try:
            if not self.stack:
                yield self._update(self.base.wide(), self.tuned.wide())
                return
            for base, tuned in zip(self.base.narrow(), self.tuned.narrow(), strict=True):
                yield self._update(base.astype(np.float64), tuned.astype(np.float64))
        except MemoryError:
            size = self.rows * self.columns * max(1, self.stack)
            raise ResourceError(self.key, f"two times {size:,} numbers do not fit into memory") from None

    def _update(self, base: NDArray[np.float64], change: NDArray[np.float64]) -> Update:
        """Of a matrix of the base and that of the fine-tune, both of which are overwritten."""
        base, change = (one.reshape(self.rows, self.columns) for one in (base, change))
        norm = float(np.linalg.norm(base))
        base -= change
        rounding = rounding_norm(change, np.any(base, axis=1), self.tuned.dtype)
        change = np.negative(base, out=base)
        return Update(change.T if self.transposed else change, norm, rounding)


@dataclass(frozen=True)
class Models:
    """Two models of the same architecture.

    Attributes
    ----------
    matrices : those that both have, of two dimensions or more, in the order of the base's files.
    vectors : name → tensors of one dimension that both have: norms and biases.
    skipped : sentences about tensors that cannot be compared.
    names : of all tensors of either.
    config : the base's ``config.json``, or that of the fine-tune; empty where neither has one.
    notes : what was assumed about names.
    """

    matrices: tuple[Pair, ...]
    vectors: Mapping[str, tuple[Held, Held]]
    skipped: tuple[str, ...]
    names: frozenset[str]
    config: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def gguf(self) -> bool:
        """Whether the names are llama.cpp's."""
        return self.matrices[0].base.store.path.suffix == ".gguf"

    def changed_vectors(self) -> Iterator[tuple[str, float]]:
        """One-dimensional tensors that differ, with the norm of the difference; not finite where that is no number."""
        for name, (base, tuned) in self.vectors.items():
            with np.errstate(over="ignore", invalid="ignore"):
                norm = float(np.linalg.norm(tuned.wide() - base.wide()))
            if norm != 0:
                yield name, norm


def open_models(base: str | Path, tuned: str | Path) -> Models:
    """Open two models by the headers of their safetensors files.

    Raises
    ------
    SourceError, AdapterError
        One of them is not there, or a file is damaged.
    ModelError
        No safetensors files, or nothing that both have.
    """
    paths = [locate(model, allow_patterns=HUB_FILES, last_resort=HUB_PICKLES) for model in (base, tuned)]
    first, second = (open_weights(path) for path in paths)
    configs = (config_or_empty(folder_at(path) / CONFIG) for path in paths)
    config: Mapping[str, Any] = next((one for one in configs if one.get("model_type")), {})
    names = pair_names(first.tensors, second.tensors)
    turned = conv1d_keys({name: first.tensors[key].shape for name, key in names.base.items()}, config)
    matrices, vectors, skipped, packed = [], {}, [], []
    for name, key in names.base.items():
        tensor = first.tensors[key]
        if _no_parameter(name, tensor):
            continue
        other = second.tensors[names.tuned[name]] if name in names.tuned else None
        if other is None or tensor.shape != other.shape:
            told = "is missing in" if other is None else f"is {other.shape} in"
            skipped.append(f"{name}, {tensor.shape} in the base, {told} the fine-tune.")
        elif tensor.dtype not in FLOATS or other.dtype not in FLOATS:
            skipped.append(f"{name} is stored as {tensor.dtype} and {other.dtype}, which are no plain weights.")
            packed += [one.dtype for one in (tensor, other) if one.dtype not in FLOATS and len(one.shape) > 1]
        else:
            both = Held(first, key), Held(second, names.tuned[name])
            if kind := kind_of(name, tensor.shape) if tensor.size else "":
                matrices.append(_pair(name, kind, tensor.shape, name in turned, *both))
            else:
                vectors[name] = both
    skipped += [
        f"{name} is in the fine-tune alone."
        for name, key in names.tuned.items()
        if name not in names.base and not _no_parameter(name, second.tensors[key])
    ]
    if not matrices:
        raise _nothing_shared(paths, (first, second), packed)
    every = frozenset(names.base) | frozenset(names.tuned)
    return Models(tuple(matrices), vectors, tuple(skipped), every, config, (names.note,) if names.note else ())


def _pair(name: str, kind: str, shape: tuple[int, ...], transposed: bool, base: Held, tuned: Held) -> Pair:
    if kind == "experts" and shape[0] <= MOST_EXPERTS:
        return Pair(name, kind, shape[1], shape[2], False, base, tuned, shape[0])
    while shape[0] == 1 and not name.endswith(".weight"):  # of a batch of one, as position embeddings have it
        shape = shape[1:]
    return Pair(name, kind, shape[0], prod(shape[1:]), transposed and kind == "linear", base, tuned)


def _no_parameter(name: str, tensor: StoredTensor) -> bool:
    """Whether a tensor is a counter, a mask or another constant, of which nothing is learned."""
    return tensor.dtype in NEVER_PACKED or is_buffer(name, tensor.shape)


def _nothing_shared(paths: Sequence[Path], stores: Sequence[Store], packed: Sequence[str]) -> ModelError:
    """Why no matrix can be compared."""
    for path, store in zip(paths, stores, strict=True):
        if any(map(ADAPTER.search, store.tensors)):
            return ModelError(path, "it is an adapter, no model", do="audit it without --base")
    if packed:
        dtypes = " and ".join(dict.fromkeys(packed))
        return ModelError(paths[1], f"no matrix can be compared, stored as {dtypes}", do="name copies in plain floats")
    return ModelError(paths[1], f"shares no matrix with {paths[0]}", do="name the base it was trained from")
