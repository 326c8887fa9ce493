"""What is going to be on disk, and how it gets there: all of it at once, or nothing (floor 1).

A writer of a format says as plain values which tensors there will be; only then are numbers computed, a block at a
time, and written. The folder is filled under a temporary name beside its place and moved there when it is complete.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorarank.adapters.safetensors_file import DTYPES, LENGTH_BYTES
from lorarank.adapters.tensors import raw_dtype
from lorarank.errors import NumericsError, OptionError
from lorarank.files import MOST_OF_NAME, TEMPORARY, disk_error, to_disk

CODES: Mapping[str, tuple[str, int]] = {name: (code, bits) for code, (name, bits) in DTYPES.items()}
"""torch's name of a dtype → code in a safetensors header, bits of one number."""

ALIGNMENT = 8
"""The header is padded to it, as the reference implementation does."""

TOO_COARSE = 2.0**-7
"""Share of a tensor's norm that rounding to a dtype may take: bfloat16's, the coarsest, takes half of it at most where
nothing falls below the dtype's range."""

UNTOUCHED, ELSEWHERE = "nothing was left half-written", "make room, or give another place"
"""Why and what to do where the disk takes no adapter."""

Raw = NDArray[Any] | bytes


@dataclass(frozen=True)
class Slot:
    """A tensor to be written: its name, dtype (torch's spelling) and shape.

    >>> Slot("q.lora_A.weight", "bfloat16", (8, 64)).bytes
    1024
    """

    key: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Numbers in it."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """Size on disk."""
        return self.size * CODES[self.dtype][1] // 8


@dataclass(frozen=True)
class Block:
    """Tensors that are computed together. ``load`` gives their little-endian bytes or arrays, in the slots' order."""

    slots: tuple[Slot, ...]
    load: Callable[[], Sequence[Raw]] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Layout:
    """An adapter in one format, before its numbers are computed.

    Attributes
    ----------
    weights : name of the safetensors file.
    blocks : all of its tensors.
    metadata : its ``__metadata__``.
    config : ``adapter_config.json``; ``None`` where the format has none.
    notes : sentences on what a user of the result has to know.
    parameters : numbers in all factors, where they are not those of the modules one by one.
    """

    weights: str
    blocks: tuple[Block, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    parameters: int | None = None

    @property
    def bytes(self) -> int:
        """Size of all tensors on disk."""
        return sum(slot.bytes for block in self.blocks for slot in block.slots)


def downcast(values: NDArray[np.float64], dtype: str, where: str) -> NDArray[Any]:
    """Float64 numbers as a stored dtype, rounded to nearest, ties to even.

    Raises
    ------
    NumericsError
        A number that the dtype cannot hold, or numbers so small that it holds little of them.

    >>> downcast(np.array([1.00390625, -2.0]), "bfloat16", "lora_A").tolist()
    [1.0, -2.0]
    """
    with np.errstate(over="ignore", under="ignore"):
        raw = values.astype(raw_dtype(dtype))
        norm, lost = float(np.linalg.norm(values)), float(np.linalg.norm(values - raw.astype(np.float64)))
    if not np.isfinite(raw).all():
        raise NumericsError(where, f"exceeds the range of {dtype}", do="store it as float32, with --dtype float32")
    if lost > TOO_COARSE * norm:
        raise NumericsError(
            where,
            f"is too small for {dtype}, which would lose {min(1.0, lost / norm):.0%} of its norm",
            do="store it as float32, with --dtype float32",
        )
    return raw


def vacant(output: Path) -> None:
    """Make sure that nothing is overwritten.

    Raises
    ------
    OptionError
        ``output`` is a file, or a folder with something in it.
    ResourceError
        It cannot be looked into.
    """
    try:
        if not os.path.lexists(output) or (output.is_dir() and _is_empty(output)):
            return
    except OSError as error:
        raise disk_error(output, error, why=UNTOUCHED, do=ELSEWHERE) from None
    raise OptionError(f"-o {output}", "it exists and is not an empty folder", do="give a new one; nothing is replaced")


def _is_empty(folder: Path) -> bool:
    """But for what was being written into it, perhaps by one that was killed."""
    return all(entry.name.startswith(".") and entry.name.endswith(TEMPORARY) for entry in folder.iterdir())


def write(layout: Layout, output: Path, extra: Mapping[str, str] | None = None) -> Path:
    """Write a layout: into a folder, or where ``output`` ends in ``.safetensors`` and no configuration goes with it,
    into that one file.

    Parameters
    ----------
    extra : name → text of further files in the folder.

    Returns
    -------
    path : of the weights.

    Raises
    ------
    OptionError
        ``output`` is in the way, or cannot be a single file.
    ResourceError
        It cannot be written. Nothing is left behind, then or after any other error.
    """
    vacant(output)
    single = output.suffix == ".safetensors" and not output.is_dir()
    if single and layout.config is not None:
        raise OptionError(f"-o {output}", "this format needs a folder, for adapter_config.json too", do="give a folder")
    texts = dict(extra or {})
    if layout.config is not None:
        texts["adapter_config.json"] = json.dumps(layout.config, indent=2) + "\n"  # patterns are in order
    try:
        with staged(output) as folder:
            _write_tensors(folder / layout.weights, layout)
            for name, text in texts.items():
                if not single:
                    (folder / name).write_bytes(text.encode())
            if output.is_dir():
                vacant(output)  # another may have been faster
                _moved_in(folder, (*texts, layout.weights))
            else:
                (folder / layout.weights if single else folder).rename(output)
    except OSError as error:
        raise disk_error(output, error, why=UNTOUCHED, do=ELSEWHERE) from None
    return output if single else output / layout.weights


@contextmanager
def staged(output: Path) -> Iterator[Path]:
    """A temporary folder beside ``output``, or in it where that is one, gone afterwards unless it has been renamed."""
    inside = output.is_dir()
    output.parent.mkdir(parents=True, exist_ok=True)
    mark = f"{secrets.token_hex(4)}{TEMPORARY}"
    folder = output / f".{mark}" if inside else output.with_name(f".{output.name[:MOST_OF_NAME]}.{mark}")
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _moved_in(folder: Path, names: Sequence[str]) -> None:
    """Move files one level up, the last one last: an empty folder that is there may be where somebody stands, a link or
    a mounted disk, and Windows puts no folder in its place; so it stays."""
    moved: list[Path] = []
    try:
        for name in names:
            moved.append((folder / name).rename(folder.parent / name))  # noqa: PERF401 (some may be)
    except BaseException:
        for path in moved:
            path.unlink()
        raise


def _write_tensors(path: Path, layout: Layout) -> None:
    """A safetensors file, its tensors ordered by dtype and name as the reference implementation does, so that every one
    of them is aligned."""
    slots = sorted(
        (slot for block in layout.blocks for slot in block.slots), key=lambda slot: (-CODES[slot.dtype][1], slot.key)
    )
    header: dict[str, Any] = {"__metadata__": dict(layout.metadata)} if layout.metadata else {}
    starts: dict[str, int] = {}
    at = 0
    for slot in slots:
        starts[slot.key] = at
        header[slot.key] = {
            "dtype": CODES[slot.dtype][0],
            "shape": list(slot.shape),
            "data_offsets": [at, at + slot.bytes],
        }
        at += slot.bytes
    assert len(starts) == len(slots), "two tensors of one name"  # noqa: S101 (a bug of the writer's)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    data = LENGTH_BYTES + len(text)
    if data + at > sys.maxsize:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    with path.open("wb") as file:
        file.write(len(text).to_bytes(LENGTH_BYTES, "little") + text)
        file.truncate(data + at)
        for block in layout.blocks:
            for slot, raw in zip(block.slots, block.load(), strict=True):
                file.seek(data + starts[slot.key])
                file.write(_exactly(raw, slot))
        to_disk(file)


def _exactly(raw: Raw, slot: Slot) -> bytes | memoryview:
    content = raw if isinstance(raw, bytes) else np.ascontiguousarray(raw).reshape(-1).view(np.uint8).data
    size = len(content)
    assert size == slot.bytes, f"{slot.key}: {size} bytes for {slot.bytes}"  # noqa: S101 (a bug of the writer's)
    return content
