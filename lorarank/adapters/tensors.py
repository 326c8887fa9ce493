"""What is known of a stored tensor before it is read, and the upcast of its numbers (floor 1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lorarank.adapters.untrusted import fill, open_regular
from lorarank.errors import AdapterError, NumericsError, ResourceError

FLOATS = frozenset({"float64", "float32", "float16", "bfloat16"})
"""Stored dtypes whose numbers are read, whatever they are of."""

SMALL_FLOATS: Mapping[str, tuple[int, int]] = {"float8_e4m3fn": (3, 7), "float8_e5m2": (2, 15)}
"""Stored dtypes that are read of a LoRA: bits of the fraction, bias of the exponent (arXiv 2209.05433). Whole models in
them have scales beside them; of a LoRA, which was cast, the numbers are what they say, as ComfyUI takes them."""

BLOCKED = frozenset({"q8_0"})
"""Stored dtypes of llama.cpp's whose numbers lie in blocks with a scale each; :mod:`lorarank.adapters.gguf_file` reads
them."""

INTEGERS = frozenset({"int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"})
"""Stored dtypes that a single number, an alpha, comes in as well."""

MOST_DIMENSIONS = 32
"""What every supported numpy takes."""

Numbers = NDArray[np.floating[Any]]
"""Of any of numpy's float dtypes."""

NARROW: Mapping[str, str] = {
    "float64": "f8",
    "float32": "f4",
    "float16": "f2",
    "bfloat16": "f4",
    "q8_0": "f4",
    **dict.fromkeys(SMALL_FLOATS, "f2"),
}
"""Stored dtypes → the narrowest of numpy's that holds each of their numbers."""

PIECE = 2**16
"""Numbers upcast at a time."""

LONGEST_NAME = 1000
"""Characters of a tensor's name; real ones have about a hundred."""


@dataclass(frozen=True)
class StoredTensor:
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
        """The tensor of that name as one of numpy's floats, by default the one that :data:`NARROW` has for it; its own
        dtype must be one of those."""


def upcast(raw: NDArray[np.generic], dtype: str, numbers: Numbers) -> None:
    """Little-endian numbers as floats that hold them, in one pass.

    Parameters
    ----------
    raw : one of the dtypes that :func:`raw_dtype` gives, any shape.
    dtype : one of :data:`FLOATS` or :data:`SMALL_FLOATS`.
    numbers : of the same shape; they are put here.

    >>> numbers = np.empty(1)
    >>> upcast(np.array([0x3FC0], dtype="<u2"), "bfloat16", numbers)
    >>> numbers
    array([1.5])
    """
    if dtype in SMALL_FLOATS:
        raw = small_floats(dtype)[raw.astype(np.intp)]
    if dtype == "bfloat16":  # the upper half of a float32
        raw = np.left_shift(raw, 16, dtype=np.uint32).view(np.float32)
    with np.errstate(invalid="ignore"):  # signalling NaNs are still NaN afterwards, and are named then
        np.copyto(numbers, raw)


@cache
def small_floats(dtype: str) -> NDArray[np.float64]:
    """What each of the 256 bytes means in one of :data:`SMALL_FLOATS`.

    >>> [float(small_floats("float8_e4m3fn")[byte]) for byte in (0x00, 0x01, 0x38, 0x7E, 0x7F, 0xB8)]
    [0.0, 0.001953125, 1.0, 448.0, nan, -1.0]
    >>> [float(small_floats("float8_e5m2")[byte]) for byte in (0x01, 0x3C, 0x7B, 0x7C, 0x7D)]
    [1.52587890625e-05, 1.0, 57344.0, inf, nan]
    """
    bits, bias = SMALL_FLOATS[dtype]
    low = np.arange(128)
    exponent, fraction = low >> bits, (low & (2**bits - 1)) / 2**bits
    values = np.where(exponent == 0, np.ldexp(fraction, 1 - bias), np.ldexp(1 + fraction, exponent - bias))
    if dtype == "float8_e5m2":  # as IEEE 754 has it; the other has no infinity and one NaN
        values[124:] = [np.inf, np.nan, np.nan, np.nan]
    else:
        values[127] = np.nan
    return np.concatenate([values, -values])


def read_numbers(path: Path, key: str, start: int, tensor: StoredTensor, dtype: str | None = None) -> Numbers:
    """A tensor's numbers from byte ``start`` of a file on, upcast piece by piece: never a whole second copy.

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
                upcast(part, tensor.dtype, flat[at : at + size])
    return numbers


def raw_dtype(dtype: str) -> np.dtype[np.generic]:
    """The numpy dtype in which the bytes of a stored number are read; integers for what numpy lacks.

    >>> [raw_dtype(name).str for name in ("float16", "bfloat16", "int64", "int8", "float8_e5m2")]
    ['<f2', '<u2', '<i8', '|i1', '|u1']
    """
    lacking = {"bfloat16": "uint16"} | dict.fromkeys(SMALL_FLOATS, "uint8")
    native: np.dtype[np.generic] = np.dtype(lacking.get(dtype, dtype))
    little: np.dtype[np.generic] = native.newbyteorder("<")
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
    if tensor.size != 1 or tensor.dtype not in FLOATS | INTEGERS | SMALL_FLOATS.keys():
        raise AdapterError(f"{store.path}: {key}", f"{tensor.dtype} {tensor.shape} where one number is needed")
    return float(store.read(key, "f8").reshape(-1)[0])


def read_finite(store: Store, key: str) -> Numbers:
    """A tensor of a store, in the narrowest of numpy's floats that holds it.

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
        bad = int(tensor.size - np.count_nonzero(np.isfinite(tensor)))
        raise NumericsError(
            where,
            f"{bad:,} of its {tensor.size:,} numbers are NaN or infinite",
            why="the training has diverged or the file is damaged",
            do="take an earlier checkpoint",
        )
    return tensor


def _all_finite(flat: Numbers) -> bool:
    """Whether there is neither a NaN nor an infinity.

    >>> [_all_finite(np.array([1.0, last], "f2")) for last in (65504, np.inf, np.nan)]
    [True, False, False]
    """
    if flat.dtype == np.float16:  # whose products are slow and overflow at once
        return bool(np.isfinite(flat).all())
    with np.errstate(over="ignore", invalid="ignore"):
        squares = flat @ flat
    # A finite sum of squares proves finite numbers at a fraction of the cost; an infinite one may be overflow alone.
    return bool(np.isfinite(squares) or np.isfinite(flat).all())
