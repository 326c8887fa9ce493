"""A safetensors file: its header is checked before anything is allocated, tensors are read one at a time (floor 1).

The format is eight bytes of little-endian header length, a JSON header with the dtype, shape and place of every tensor,
and their bytes without holes: https://github.com/huggingface/safetensors#format. The checks are those of the reference
implementation and its own limits, but each names the tensor concerned; and reading goes through the file rather than
through a memory map, so that a file cut short meanwhile is an error and no bus fault.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from math import prod
from operator import mul
from pathlib import Path
from typing import Any, NamedTuple

from lorarank.adapters.tensors import LONGEST_NAME, MOST_DIMENSIONS, Numbers, StoredTensor, read_numbers
from lorarank.adapters.untrusted import MOST_JSON_BYTES, open_regular, parse_object, refuse_stand_in
from lorarank.errors import AdapterError

LENGTH_BYTES = 8

TOO_MUCH = 2**64
"""No number of the header, and no product of a shape's first ones, is as large."""

DTYPES: Mapping[str, tuple[str, int]] = {
    "BOOL": ("bool", 8),
    "U8": ("uint8", 8),
    "I8": ("int8", 8),
    "U16": ("uint16", 16),
    "I16": ("int16", 16),
    "U32": ("uint32", 32),
    "I32": ("int32", 32),
    "U64": ("uint64", 64),
    "I64": ("int64", 64),
    "F4": ("float4", 4),
    "F6_E2M3": ("float6_e2m3", 6),
    "F6_E3M2": ("float6_e3m2", 6),
    "F8_E5M2": ("float8_e5m2", 8),
    "F8_E5M2FNUZ": ("float8_e5m2fnuz", 8),
    "F8_E4M3": ("float8_e4m3fn", 8),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 8),
    "F8_E8M0": ("float8_e8m0fnu", 8),
    "F16": ("float16", 16),
    "BF16": ("bfloat16", 16),
    "F32": ("float32", 32),
    "F64": ("float64", 64),
    "C64": ("complex64", 64),
}
"""Name in the header → torch's name, bits of one number."""


@dataclass(frozen=True)
class SafetensorsFile:
    """A safetensors file whose header has been checked; no handle is kept open.

    Attributes
    ----------
    path : of the file.
    tensors : what is stored under each name.
    metadata : the header's own ``__metadata__``.
    starts : first byte of each tensor in the file.
    """

    path: Path
    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, str] = field(repr=False)
    starts: Mapping[str, int] = field(repr=False)

    @classmethod
    def open(cls, path: Path, *, whole: bool = True) -> SafetensorsFile:
        """Check a file's header.

        Parameters
        ----------
        path : of the file.
        whole : whether the tensors' bytes have to be there as well. The header alone tells the shapes of a model of
            which no more was fetched.

        Raises
        ------
        SourceError
            The file cannot be read.
        AdapterError
            It is no safetensors file, or is damaged; the message names the tensor concerned.
        """
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise AdapterError(path, "the file is empty", do="download it again")
            head = file.read(LENGTH_BYTES)
            refuse_stand_in(path, head, "safetensors file")
            length = int.from_bytes(head, "little")
            if size < LENGTH_BYTES or length > size - LENGTH_BYTES:
                raise AdapterError(
                    path,
                    f"no complete safetensors file: it announces a header of {length:,} bytes and has {size:,} in all",
                    do="download it again",
                )
            if length > MOST_JSON_BYTES:
                raise AdapterError(path, f"its header has {length:,} bytes, which no adapter needs")
            text = file.read(length)
        if not text.startswith(b"{"):
            raise AdapterError(path, "no safetensors file: no JSON object where its header should be")
        header = parse_object(text, f"{path}: header")
        metadata = _metadata(header.pop("__metadata__", None), path)
        places = sorted(
            (_place(key, entry, path) for key, entry in header.items()), key=lambda place: (place.begin, place.end)
        )
        data, at = LENGTH_BYTES + length, 0
        for key, begin, end, _ in places:
            if begin != at:
                raise AdapterError(
                    f"{path}: {key}",
                    f"its data begin at byte {begin:,} where {at:,} is due; tensors overlap or leave a hole",
                    do="download it again",
                )
            at = end
        if whole and data + at != size:
            raise AdapterError(
                path,
                f"its tensors need {data + at:,} bytes and the file has {size:,}",
                why="it is cut short, or something is appended to it",
                do="download it again",
            )
        return cls(
            path=path,
            tensors={place.key: place.tensor for place in places},
            metadata=metadata,
            starts={place.key: data + place.begin for place in places},
        )

    def read(self, key: str, dtype: str | None = None) -> Numbers:
        """The tensor of that name, see :class:`~lorarank.adapters.tensors.Store`."""
        return read_numbers(self.path, key, self.starts[key], self.tensors[key], dtype)


class _Place(NamedTuple):
    """A tensor between two bytes, counted from the end of the header."""

    key: str
    begin: int
    end: int
    tensor: StoredTensor


def _place(key: str, entry: Any, path: Path) -> _Place:
    where = f"{path}: {key}"
    if len(key) > LONGEST_NAME:
        raise AdapterError(where, f"a tensor's name of {len(key):,} characters")
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise AdapterError(where, "its header entry lacks dtype, shape or data_offsets", do="download it again")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise AdapterError(where, f"the dtype {json.dumps(dtype)[:40]} is unknown")
    if not _counts(shape) or len(shape) > MOST_DIMENSIONS or max(accumulate(shape, mul), default=1) >= TOO_MUCH:
        raise AdapterError(where, f"{json.dumps(shape)[:80]} is no shape")
    if not _counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise AdapterError(where, f"{json.dumps(offsets)[:80]} is no pair of offsets")
    name, bits = DTYPES[dtype]
    begin, end = offsets
    if prod(shape) * bits != (end - begin) * 8:
        raise AdapterError(
            where,
            f"{end - begin:,} bytes of data for the shape {tuple(shape)} in {dtype}",
            why="both cannot be true",
            do="download it again",
        )
    return _Place(key, begin, end, StoredTensor(name, tuple(shape)))


def _counts(value: Any) -> bool:
    """Whether it is a list of whole numbers of 64 bits; booleans, which Python counts among them, are none."""
    return isinstance(value, list) and all(type(number) is int and 0 <= number < TOO_MUCH for number in value)


def _metadata(value: Any, path: Path) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise AdapterError(f"{path}: __metadata__", "not a JSON object of strings")
    return value
