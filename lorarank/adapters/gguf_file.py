"""A GGUF file: metadata and the places of its tensors, every count checked against the bytes left (floor 1).

Versions 2 and 3, little-endian: a header with two counts, key and value pairs, a list of tensors with dimensions from
the fastest to the slowest, and their bytes, each tensor at a multiple of the alignment
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from lorarank.adapters.tensors import (
    BLOCKED,
    FLOATS,
    LONGEST_NAME,
    NARROW,
    Numbers,
    StoredTensor,
    raw_dtype,
    read_numbers,
)
from lorarank.adapters.untrusted import STAND_IN_BYTES, fill, open_regular, refuse_stand_in
from lorarank.errors import AdapterError

MAGIC = b"GGUF"

VERSIONS = (2, 3)

ALIGNMENT = 32
"""Where ``general.alignment`` does not say otherwise."""

HEADER_BYTES = (2**20, 2**26)
"""What is read for the header at first, and if that was too little; an adapter's has less than the first, a model's
vocabulary takes about 10 MB."""

MOST_TENSORS = 200_000
"""Tensors and pairs of the metadata; each costs memory many times its bytes."""

MOST_STRINGS = 1_000_000
"""In lists of the metadata, which are passed over."""

MOST_DIMENSIONS = 4

SCALARS: Mapping[int, str] = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
"""Kind of a value → its format in :mod:`struct`."""

STRING, ARRAY = 8, 9

TYPES: Mapping[int, str] = {
    0: "float32",
    1: "float16",
    2: "q4_0",
    3: "q4_1",
    6: "q5_0",
    7: "q5_1",
    8: "q8_0",
    9: "q8_1",
    24: "int8",
    25: "int16",
    26: "int32",
    27: "int64",
    28: "float64",
    30: "bfloat16",
}
"""Kind of a tensor → its name; the others are mixtures of quantised blocks, named by their number."""

BLOCK = np.dtype([("scale", "<f2"), ("numbers", "i1", 32)])
"""32 numbers of a row in ``q8_0``, each a whole one times their scale (``block_q8_0`` in ggml's ``ggml-common.h``). The
conversion of adapters writes it where it is asked to (``--outtype q8_0``); float32 holds the products exactly."""

IN_BLOCK = 32


@dataclass(frozen=True)
class GgufFile:
    """A GGUF file whose header has been checked; no handle is kept open.

    Attributes
    ----------
    path : of the file.
    tensors : what is stored under each name, shapes in the order of numpy.
    values : the metadata; lists are left out.
    starts : first byte of each tensor in the file.
    """

    path: Path
    tensors: Mapping[str, StoredTensor]
    values: Mapping[str, Any] = field(repr=False)
    starts: Mapping[str, int] = field(repr=False)

    @classmethod
    def open(cls, path: Path) -> GgufFile:
        """Check a file's header.

        Raises
        ------
        SourceError
            The file cannot be read.
        AdapterError
            It is no GGUF file, or is damaged; the message names the tensor concerned.
        """
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            header = _header(path, file)
        values, tensors, offsets = header.values, header.tensors, header.offsets
        alignment = values.get("general.alignment", ALIGNMENT)
        if type(alignment) is not int or not 8 <= alignment <= 2**20 or alignment % 8:
            raise AdapterError(f"{path}: general.alignment", f"{alignment!r} is no alignment")
        begin = -(-header.at // alignment) * alignment
        starts = {name: begin + offset for name, offset in offsets.items()}
        _check_places(path, tensors, starts, alignment, begin, size)
        return cls(path=path, tensors=tensors, values=values, starts=starts)

    def read(self, key: str, dtype: str | None = None) -> Numbers:
        """The tensor of that name, see :class:`~lorarank.adapters.tensors.Store`."""
        tensor = self.tensors[key]
        if tensor.dtype not in BLOCKED:
            return read_numbers(self.path, key, self.starts[key], tensor, dtype)
        blocks = np.empty(tensor.size // IN_BLOCK, BLOCK)
        with open_regular(self.path) as file:
            file.seek(self.starts[key])
            if not fill(file, blocks):
                raise AdapterError(f"{self.path}: {key}", "the file was cut short while it was open")
        numbers = blocks["numbers"].astype(dtype or NARROW["q8_0"])  # 8 bits times 11 are 19 of 24
        with np.errstate(invalid="ignore"):  # a scale that is infinite makes NaN of zeros, which is named then
            numbers *= blocks["scale"].astype(numbers.dtype)[:, None]
        return numbers.reshape(tensor.shape)


def _read(file: FileIO, count: int) -> bytes:
    """As many bytes as there are, up to ``count``; one call of an unbuffered file may give fewer."""
    parts = []
    while count and (part := file.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _header(path: Path, file: FileIO) -> _Header:
    data = b""
    for most in HEADER_BYTES:
        data += _read(file, most - len(data))
        refuse_stand_in(path, data[:STAND_IN_BYTES], "GGUF file")
        if data[:4] != MAGIC:
            raise AdapterError(path, "no GGUF file: it does not begin with GGUF", do="download it again")
        try:
            return _Header(path, data)
        except (struct.error, UnicodeDecodeError):
            if len(data) < most:
                break
    raise AdapterError(path, "its header is damaged, cut short, or longer than any adapter's", do="download it again")


class _Header:
    """What the beginning of a file says.

    Attributes
    ----------
    values, tensors : see :class:`GgufFile`.
    offsets : where each tensor begins in the data.
    at : where the header ends.
    """

    def __init__(self, path: Path, data: bytes) -> None:
        self._path = path
        self._data = data
        self._strings = 0
        self.at = len(MAGIC)
        self.values: dict[str, Any] = {}
        self.tensors: dict[str, StoredTensor] = {}
        self.offsets: dict[str, int] = {}
        self._parse()

    def _parse(self) -> None:
        version = self._number("I")
        if version not in VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS
            raise AdapterError(
                self._path, "a big-endian GGUF file" if swapped else f"GGUF of version {version}, which is not read"
            )
        count, pairs = self._number("Q"), self._number("Q")
        if count + pairs > MOST_TENSORS:
            raise AdapterError(self._path, f"its header announces {count:,} tensors and {pairs:,} values")
        for _ in range(pairs):
            key = self._string()
            if key in self.values:
                raise AdapterError(f"{self._path}: {key}", "this key of the metadata appears twice")
            self.values[key] = self._value(self._number("I"))
        for _ in range(count):
            name = self._string()
            where = f"{self._path}: {name}"
            if name in self.tensors:
                raise AdapterError(where, "this tensor is stored twice")
            if len(name) > LONGEST_NAME:
                raise AdapterError(where, f"a tensor's name of {len(name):,} characters")
            dimensions = self._number("I")
            if dimensions > MOST_DIMENSIONS:
                raise AdapterError(where, f"{dimensions:,} dimensions, and GGUF has at most {MOST_DIMENSIONS}")
            shape = tuple(self._number("Q") for _ in range(dimensions))[::-1]
            kind = self._number("I")
            self.tensors[name] = StoredTensor(TYPES.get(kind, f"quantised type {kind}"), shape)
            self.offsets[name] = self._number("Q")

    def _number(self, form: str) -> Any:
        (value,) = struct.unpack_from(f"<{form}", self._data, self.at)
        self.at += struct.calcsize(f"<{form}")
        return value

    def _string(self) -> str:
        length = self._number("Q")
        text = self._data[self.at : self.at + length]
        if len(text) < length:
            raise struct.error
        self.at += length
        return text.decode()

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._string()
        if kind == ARRAY:
            inner, count = self._number("I"), self._number("Q")
            if inner == STRING:
                self._strings += count
                if self._strings > MOST_STRINGS:
                    raise AdapterError(self._path, "its metadata announce more strings than any model has tokens")
                for _ in range(count):
                    self._string()
                return None
            size = count * struct.calcsize(f"<{SCALARS.get(inner) or self._refuse(inner)}")
            if size > len(self._data) - self.at:
                raise struct.error
            self.at += size
            return None
        return self._number(SCALARS.get(kind) or self._refuse(kind))

    def _refuse(self, kind: int) -> str:
        raise AdapterError(self._path, f"its metadata hold a value of kind {kind}, which is not read")


def _check_places(
    path: Path, tensors: Mapping[str, StoredTensor], starts: Mapping[str, int], alignment: int, begin: int, size: int
) -> None:
    """Every tensor of known width lies in the file, at a multiple of the alignment, and after the one before it."""
    at = begin
    for name in sorted(starts, key=lambda name: starts[name]):
        where, start, tensor = f"{path}: {name}", starts[name], tensors[name]
        end = start + _bytes(tensor, where)
        if end > size or start > size:
            raise AdapterError(
                where,
                f"needs the bytes up to {end:,} and the file has {size:,}",
                why="it is cut short, or its header is damaged",
                do="download it again",
            )
        if start < at or (start - begin) % alignment:
            raise AdapterError(where, "its data overlap another tensor's, or are not aligned", do="download it again")
        at = end


def _bytes(tensor: StoredTensor, where: str) -> int:
    """Size on disk, 0 where it is not known."""
    if tensor.dtype in BLOCKED:
        if not tensor.shape or tensor.shape[-1] % IN_BLOCK:
            raise AdapterError(where, f"its shape {tensor.shape} has rows that are no whole blocks of {IN_BLOCK}")
        return tensor.size // IN_BLOCK * BLOCK.itemsize
    return tensor.size * raw_dtype(tensor.dtype).itemsize if tensor.dtype in FLOATS else 0
