"""What is known of a stored tensor before it is read, and the reading of its numbers (floor 1)."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lorarank.adapters.untrusted import fill, open_regular
from lorarank.errors import AdapterError, NumericsError, ResourceError

FLOATS = frozenset({"float64", "float32", "float16", "bfloat16"})
"""Stored dtypes whose numbers are read, whatever they are of."""

SMALL_FLOATS = frozenset({"float8_e4m3fn", "float8_e5m2"})
"""Stored dtypes that are read of a LoRA (arXiv 2209.05433). Whole models in them have scales beside them; of a LoRA,
which was cast, the numbers are what they say, as ComfyUI takes them."""

BLOCKED = frozenset({"q8_0"})
"""Stored dtypes of llama.cpp's whose numbers lie in blocks with a scale each; :mod:`lorarank.adapters.gguf_file` reads
them."""

INTEGERS = frozenset({"int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"})
"""Stored dtypes that a single number, an alpha, comes in as well."""

MOST_DIMENSIONS = 32
"""What every supported numpy takes."""

Numbers = NDArray[np.floating[Any]]
"""Of any of numpy's float dtypes, or of ml_dtypes' bfloat16."""

NARROW: Mapping[str, str] = {
    "float64": "f8",
    "float32": "f4",
    "float16": "f2",
    "bfloat16": "bfloat16",
    "q8_0": "f4",
    **dict.fromkeys(SMALL_FLOATS, "f2"),
}
"""Stored dtypes → the narrowest of :data:`Numbers` that holds each of their numbers."""

PIECE = 2**16
"""Numbers converted at a time."""

LONGEST_NAME = 1000
"""Characters of a tensor's name; real ones have about a hundred."""


class StoredTensor(NamedTuple):
    """Dtype (in torch's spelling, e.g. ``bfloat16``) and shape of a tensor on disk.

    >>> StoredTensor("float16", (8, 64)).size
    512
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Numbers in it."""
        return prod(self.shape)


class Store(Protocol):
    """Named tensors on disk: what they are is known at once, their numbers are read one tensor at a time."""

    @property
    def path(self) -> Path:
        """The file, or the index of its shards."""

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        """What is stored under each name."""

    def read(self, key: str, dtype: str | None = None) -> Numbers:
        """The tensor of that name as :data:`Numbers`, by default of the dtype that :data:`NARROW` has for it; its own
        must be one of those there."""


def read_numbers(path: Path, key: str, start: int, tensor: StoredTensor, dtype: str | None = None) -> Numbers:
    """A tensor's numbers from byte ``start`` of a file on, converted piece by piece: never a whole second copy.

    Parameters
    ----------
    dtype : of the result, one that holds the stored one; by default the narrowest.

    Raises
    ------
    AdapterError
        The file is shorter than when it was opened.
    """
    raw = raw_dtype(tensor.dtype)
    numbers = np.empty(tensor.shape, dtype or NARROW[tensor.dtype])
    flat = numbers.reshape(-1)
    as_stored = numbers.dtype == raw
    size = max(1, tensor.size) if as_stored else PIECE
    piece = flat if as_stored else np.empty(min(tensor.size, PIECE), raw)
    with open_regular(path) as file:
        file.seek(start)
        for at in range(0, tensor.size, size):
            part = piece[: tensor.size - at]
            if not fill(file, part):
                raise AdapterError(f"{path}: {key}", "the file was cut short while it was open")
            if not as_stored:
                with np.errstate(invalid="ignore"):  # signalling NaNs are still NaN afterwards, and are named then
                    flat[at : at + size] = part
    return numbers


def raw_dtype(dtype: str) -> np.dtype[np.generic]:
    """The dtype in which the bytes of a stored number are read.

    >>> [raw_dtype(name).itemsize for name in ("float64", "bfloat16", "float8_e5m2")]
    [8, 2, 1]
    """
    if dtype == "bfloat16" or dtype in SMALL_FLOATS:
        import ml_dtypes  # noqa: F401 (numpy knows them by name from here on; most files need none)

    little: np.dtype[np.generic] = np.dtype(dtype).newbyteorder("<")
    return little


def read_number(store: Store, key: str) -> float:
    """The only number of a tensor, 0-dimensional or of one element.

    Raises
    ------
    AdapterError
        It has another size, or a dtype that is no plain number.
    SourceError
        The file is gone.
    """
    tensor = store.tensors[key]
    if tensor.size != 1 or tensor.dtype not in FLOATS | INTEGERS | SMALL_FLOATS:
        raise AdapterError(f"{store.path}: {key}", f"{tensor.dtype} {tensor.shape} where one number is needed")
    return float(store.read(key, "f8").reshape(-1)[0])


def read_finite(store: Store, key: str) -> Numbers:
    """A tensor of a store, in the narrowest of :data:`Numbers` that holds it.

    Raises
    ------
    NumericsError
        NaN or infinity in it, naming file and key.
    SourceError, AdapterError
        The file is gone or was changed since it was opened.
    ResourceError
        The tensor does not fit into memory.
    """
    where = f"{store.path}: {key}"
    try:
        tensor = store.read(key)
    except MemoryError:
        size = store.tensors[key].size
        raise ResourceError(where, f"its {size:,} numbers need {8 * size / 1e9:.1f} GB and do not fit") from None
    if not _all_finite(tensor.reshape(-1)):
        with np.errstate(invalid="ignore"):  # ml_dtypes minds signalling NaNs
            bad = int(tensor.size - np.count_nonzero(np.isfinite(tensor)))
        raise NumericsError(
            where,
            f"{bad:,} of its {tensor.size:,} numbers {'is' if bad == 1 else 'are'} NaN or infinite",
            why="the training has diverged or the file is damaged",
            do="take an earlier checkpoint",
        )
    return tensor


def _all_finite(flat: Numbers) -> bool:
    """Whether there is neither a NaN nor an infinity.

    >>> [_all_finite(np.array([1.0, last], "f2")) for last in (65504, np.inf, np.nan)]
    [True, False, False]
    """
    if flat.dtype.itemsize == 2:  # whose products are slow, and those of float16 overflow at once
        return all(_all_finite(flat[at : at + PIECE].astype(np.float32)) for at in range(0, flat.size, PIECE))
    with np.errstate(over="ignore", invalid="ignore"):
        squares = flat @ flat
    # A finite sum of squares proves finite numbers at a fraction of the cost; an infinite one may be overflow alone.
    return bool(np.isfinite(squares) or np.isfinite(flat).all())
