"""A ``.npz`` file as numpy and MLX write it: an archive of arrays, of which none is unpickled (floor 1).

Its entries are checked first: nothing in it may be compressed, so that it cannot unfold into more than its own size. Of
each array the header is read; its numbers are read where they lie, one tensor at a time.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import FileIO
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.lib import format as npy

from lorarank.adapters.archive import Archive
from lorarank.adapters.tensors import LONGEST_NAME, MOST_DIMENSIONS, Numbers, StoredTensor, read_numbers
from lorarank.adapters.untrusted import STAND_IN_BYTES, open_regular, refuse_stand_in
from lorarank.errors import AdapterError

if TYPE_CHECKING:
    from zipfile import ZipInfo

ENTRY = ".npy"
"""What the names of entries end with, behind that of the array."""

LOCAL_BYTES = 30
"""Of the header of an entry, before its name."""

AT_LENGTHS = 26
"""Where in there two lengths stand, of two bytes each: of the name, and of what else comes before the data."""

MOST_ENTRIES = 20_000
"""Arrays of a file; parsing the header of one takes about 50 microseconds."""

BFLOAT16 = np.dtype("V2")
"""What MLX calls it (``dtype_to_array_protocol``, ml-explore/mlx ``mlx/dtype.cpp``)."""


@dataclass(frozen=True)
class NumpyFile:
    """A ``.npz`` file whose headers have been checked; no handle is kept open.

    Attributes
    ----------
    path : of the file.
    tensors : what is stored under each name.
    starts : first byte of each tensor in the file.
    turned : names of those whose first dimension is the fastest.
    """

    path: Path
    tensors: Mapping[str, StoredTensor]
    starts: Mapping[str, int] = field(repr=False)
    turned: frozenset[str] = field(repr=False)

    @classmethod
    def open(cls, path: Path) -> NumpyFile:
        """Check the headers of a file.

        Raises
        ------
        SourceError
            The file cannot be read.
        AdapterError
            It is no such archive, compressed, or damaged; the message names the array concerned.
        """
        found: dict[str, _Array] = {}
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            refuse_stand_in(path, file.read(STAND_IN_BYTES), "archive of numpy arrays")
            for entry in _entries(file, path):
                key = entry.filename.removesuffix(ENTRY)
                if key in found:
                    raise AdapterError(f"{path}: {key}", "this array is stored twice")
                found[key] = _array(file, entry, path, key, size)
        for one, behind in pairwise(sorted(found, key=lambda key: found[key].start)):
            if found[one].end > found[behind].start:
                raise AdapterError(f"{path}: {behind}", "its data overlap another array's", do="download it again")
        return cls(
            path,
            {key: array.tensor for key, array in found.items()},
            {key: array.start for key, array in found.items()},
            frozenset(key for key, array in found.items() if array.turned),
        )

    def read(self, key: str, dtype: str | None = None) -> Numbers:
        """The tensor of that name, see :class:`~lorarank.adapters.tensors.Store`."""
        tensor = self.tensors[key]
        if key not in self.turned:
            return read_numbers(self.path, key, self.starts[key], tensor, dtype)
        stored = tensor._replace(shape=tensor.shape[::-1])
        return read_numbers(self.path, key, self.starts[key], stored, dtype).T


class _Array(NamedTuple):
    """What is stored, its first byte in the file and the one behind its last, and whether the first dimension is the
    fastest."""

    tensor: StoredTensor
    start: int
    end: int
    turned: bool


def _entries(file: FileIO, path: Path) -> list[ZipInfo]:
    """What the archive lists."""
    import zipfile  # slow to load

    try:
        with zipfile.ZipFile(Archive(file, path)) as archive:
            entries = archive.infolist()
    except AdapterError:
        raise
    except Exception:  # zipfile raises whatever a damaged directory leads it to
        raise AdapterError(path, "no archive of numpy arrays, or cut short", do="download it again") from None
    if len(entries) > MOST_ENTRIES:
        raise AdapterError(path, f"{len(entries):,} arrays are more than any adapter has")
    return entries


def _array(file: FileIO, entry: ZipInfo, path: Path, key: str, size: int) -> _Array:
    """What is known of an array before its numbers are read; ``size`` is that of the file."""
    where = f"{path}: {key}"
    if len(key) > LONGEST_NAME:
        raise AdapterError(where, f"a tensor's name of {len(key):,} characters")
    if entry.compress_type != 0:  # zipfile.ZIP_STORED
        raise AdapterError(where, "compressed, as MLX never writes it", do="save it with numpy.savez")
    shape, turned, dtype = _header(file, entry, where)
    tensor = StoredTensor("bfloat16" if dtype == BFLOAT16 else dtype.name, shape)
    start = file.tell()
    end = start + dtype.itemsize * tensor.size
    if end > size:
        raise AdapterError(where, f"the shape {shape} is larger than what is stored", do="download it again")
    return _Array(tensor, start, end, turned)


def _header(file: FileIO, entry: ZipInfo, where: str) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Shape, whether the first dimension is the fastest, and dtype of an array; the file is at its numbers then."""
    try:
        file.seek(entry.header_offset + AT_LENGTHS)
        lengths = file.read(LOCAL_BYTES - AT_LENGTHS)
        file.seek(int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little"), os.SEEK_CUR)
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of what Python 2 wrote
            shape, fortran, dtype = read(file)
    except Exception as error:  # numpy raises whatever the text of a header leads its parser to
        raise AdapterError(where, f"no array of numpy ({type(error).__name__})", do="download it again") from None
    if not all(0 <= side < 2**63 for side in shape) or len(shape) > MOST_DIMENSIONS:
        raise AdapterError(where, f"{shape} is no shape")
    if dtype.hasobject or dtype.byteorder == ">":
        raise AdapterError(where, f"an array of {dtype}, not of plain numbers", do="save it as float32")
    return shape, fortran, dtype
