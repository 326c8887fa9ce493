"""The tensors of two models, paired by name (floor 3); only headers are read here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lorarank.adapters.tensors import FLOATS, Store
from lorarank.errors import ModelError, ResourceError
from lorarank.fine_tune.files import HUB_FILES, PICKLE, open_weights, read_config
from lorarank.fine_tune.rounding import rounding_norm
from lorarank.model_shapes import NOT_LINEAR, TRANSPOSED
from lorarank.module_names import layer_index, module_type
from lorarank.sources import locate

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
class Pair:
    """A matrix that both models have.

    Attributes
    ----------
    key : of the tensor, ``module`` + ``.weight``.
    out_features, in_features : shape of the layer's map; all axes but the first flattened, for a convolution.
    linear : whether it is a linear layer inside the model, which LoRA can be put on; no embedding, no output head.
    """

    key: str
    out_features: int
    in_features: int
    linear: bool
    transposed: bool
    base: Store
    tuned: Store

    @property
    def module(self) -> str:
        """Path of the module."""
        return self.key.removesuffix(".weight")

    @property
    def type(self) -> str:
        """Last part of the path."""
        return module_type(self.module)

    @property
    def layer(self) -> int | None:
        """Number of the layer, where there is one."""
        return layer_index(self.module)

    def update(self) -> Update:
        """What differs; both weights are read at this moment.

        Raises
        ------
        SourceError, AdapterError
            A file is gone or was changed since it was opened.
        ResourceError
            It does not fit into memory.
        """
        try:
            base = _wide(self.base, self.key)
            norm = float(np.linalg.norm(base))
            change = _wide(self.tuned, self.key)
            base -= change
            changed: NDArray[np.bool_] = np.any(base.reshape(len(base), -1), axis=1)
            rounding = rounding_norm(change, changed, self.tuned.tensors[self.key].dtype)
            change = np.negative(base, out=base)
        except MemoryError:
            size = self.out_features * self.in_features
            raise ResourceError(self.key, f"two matrices of {size:,} numbers do not fit into memory") from None
        change = change.reshape(len(change), -1)
        return Update(change.T if self.transposed else change, norm, rounding)


@dataclass(frozen=True)
class Models:
    """Two models of the same architecture.

    Attributes
    ----------
    matrices : those that both have, of two dimensions or more, in the order of the base's files.
    vectors : keys of one-dimensional tensors that both have: norms and biases.
    skipped : sentences about tensors that cannot be compared.
    transposed : whether linear layers keep their weight as (in, out).
    """

    matrices: tuple[Pair, ...]
    vectors: tuple[str, ...]
    skipped: tuple[str, ...]
    transposed: bool
    stores: tuple[Store, Store]

    def changed_vectors(self) -> Iterator[tuple[str, float]]:
        """One-dimensional tensors that differ, with the norm of the difference; not finite where that is no number."""
        for key in self.vectors:
            with np.errstate(over="ignore", invalid="ignore"):
                norm = float(np.linalg.norm(_wide(self.stores[1], key) - _wide(self.stores[0], key)))
            if norm != 0:
                yield key, norm


def open_models(base: str | Path, tuned: str | Path) -> Models:
    """Open two models by the headers of their safetensors files.

    Raises
    ------
    SourceError, AdapterError
        One of them is not there, or a file is damaged.
    ModelError
        No safetensors files, or nothing that both have.
    """
    paths = [locate(model, allow_patterns=HUB_FILES, last_resort=[PICKLE]) for model in (base, tuned)]
    stores = (open_weights(paths[0]), open_weights(paths[1]))
    transposed = str(read_config(paths[0]).get("model_type")) in TRANSPOSED
    matrices, vectors, skipped, packed = [], [], [], []
    first, second = (store.tensors for store in stores)
    for key, tensor in first.items():
        if key not in second or tensor.shape != second[key].shape:
            other = "is missing in" if key not in second else f"is {second[key].shape} in"
            skipped.append(f"{key}, {tensor.shape} in the base, {other} the fine-tune.")
        elif tensor.dtype not in FLOATS or second[key].dtype not in FLOATS:
            skipped.append(f"{key} is stored as {tensor.dtype} and {second[key].dtype}, which are no plain weights.")
            packed += [one.dtype for one in (tensor, second[key]) if one.dtype not in FLOATS and len(one.shape) > 1]
        elif len(tensor.shape) < 2 or not key.endswith(".weight"):
            vectors.append(key)
        else:
            linear = len(tensor.shape) == 2 and not NOT_LINEAR.search(key)
            turned = transposed and linear
            rows, columns = tensor.shape[0], tensor.size // max(1, tensor.shape[0])
            shape = (columns, rows) if turned else (rows, columns)
            matrices.append(Pair(key, *shape, linear, turned, *stores))
    skipped += [f"{key} is in the fine-tune alone." for key in second if key not in first]
    if not matrices:
        raise _nothing_shared(paths, stores, packed)
    return Models(tuple(matrices), tuple(vectors), tuple(skipped), transposed, stores)


def _wide(store: Store, key: str) -> NDArray[np.float64]:
    return np.asarray(store.read(key, "f8"), dtype=np.float64)


def _nothing_shared(paths: Sequence[Path], stores: Sequence[Store], packed: Sequence[str]) -> ModelError:
    """Why no matrix can be compared."""
    for path, store in zip(paths, stores, strict=True):
        if any(map(ADAPTER.search, store.tensors)):
            return ModelError(path, "it is an adapter, no model", do="audit it without --base")
    if packed:
        dtypes = " and ".join(dict.fromkeys(packed))
        return ModelError(paths[1], f"no matrix can be compared, stored as {dtypes}", do="name copies in plain floats")
    return ModelError(paths[1], f"shares no matrix with {paths[0]}", do="name the base it was trained from")
