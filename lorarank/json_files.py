"""Dataclasses as JSON files, and files that are never half-written (floor 1).

Everything is written to a temporary name and moved into place, with sorted keys, so that no reader ever sees half a
file and equal values give equal bytes.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import secrets
import types
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from lorarank.errors import ResourceError, RunError, printable

logger = logging.getLogger(__name__)

SCHEMA = 1
"""Of every file that names its schema."""

LARGEST = 2**63 - 1
"""Of whole numbers, so that they go into any array."""

MOST = 1e300
"""Of other numbers, so that a few of them have a finite sum; no file of ours holds infinity."""

TEMPORARY = ".lorarank-tmp"
"""How temporary names end; a process that is killed leaves one behind."""

T = TypeVar("T")


def read_json(path: Path, kind: type[T]) -> T:
    """Read ``path`` as the dataclass ``kind``; every field must be of its type, and there unless it has a default."""
    try:
        raw = json.loads(path.read_bytes())
        logger.info("read %s", printable(path))
    except FileNotFoundError:
        raise RunError(path, "the file is missing", do="run the probe again") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(path, f"it cannot be read as JSON ({error})", do="run the probe again") from None
    return decoded(raw, kind, path)


def decoded(raw: Any, kind: type[T], path: Path) -> T:
    """What was read from ``path`` as the dataclass ``kind``, as :func:`read_json` gives it."""
    if isinstance(raw, dict) and raw.get("schema", SCHEMA) != SCHEMA:
        raise RunError(path, f"schema {raw['schema']!r} is not {SCHEMA}", do="use the lorarank that wrote it")
    return typing.cast(T, _decode(raw, kind, path, ""))


def write_json(path: Path, value: Any) -> None:
    """Write a dataclass or plain value as JSON with sorted keys, atomically."""
    plain = dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
    text = json.dumps(_without_nan(plain), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to a temporary name beside ``path``, flush it to the disk, and move it into place."""
    with replaced(path) as temporary, temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` for what is to stand there: moved into place when all went well, else removed.

    Raises
    ------
    ResourceError
        It cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}")  # two writers do not meet in it
    try:
        yield temporary
        temporary.replace(path)
        logger.info("wrote %s, %d bytes", printable(path), path.stat().st_size)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise disk_error(path, error) from None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def clear_leftovers(folder: Path) -> None:
    """Remove what writers that were killed left in a folder; nobody may be writing there.

    >>> clear_leftovers(Path("no-such-folder"))
    """
    for path in folder.glob(f".*{TEMPORARY}"):
        path.unlink(missing_ok=True)


def disk_error(path: Path, error: OSError, *, again: str = "run it again") -> ResourceError:
    """The line for a write that failed; ``again`` is how to go on once there is room."""
    return ResourceError(
        path,
        f"it cannot be written ({error.strerror or error})",
        why="what was written before is intact",
        do=f"make room or fix the permissions, then {again}",
    )


def _without_nan(value: Any) -> Any:
    """NaN and infinities as null, tuples as lists: JSON has neither."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    return value


def _decode(value: Any, kind: Any, path: Path, key: str) -> Any:
    """``value`` as ``kind``: dataclasses, tuples, mappings, optionals and scalars; anything else is a RunError."""
    origin = typing.get_origin(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, dict):
            raise _wrong(path, key, "an object", value)
        hints = typing.get_type_hints(kind)
        decoded = {}
        for field in dataclasses.fields(kind):
            inner = f"{key}.{field.name}".lstrip(".")
            if field.name not in value and field.default is not dataclasses.MISSING:
                continue  # written before there was such a field
            if field.name not in value:
                raise RunError(f"{path}: {inner}", "the key is missing", do="run the probe again")
            decoded[field.name] = _decode(value[field.name], hints[field.name], path, inner)
        return kind(**decoded)
    if origin in (typing.Union, types.UnionType):
        (inner_kind,) = (a for a in typing.get_args(kind) if a is not type(None))
        return None if value is None else _decode(value, inner_kind, path, key)
    if origin is tuple:
        if not isinstance(value, list):
            raise _wrong(path, key, "a list", value)
        item, *more = typing.get_args(kind)
        if more == [...] and item is float and all(type(v) is float for v in value):
            return tuple(value)  # spectra are long, and most of what a run folder holds
        kinds = [item] * len(value) if more == [...] else [item, *more]
        if len(value) != len(kinds):
            raise _wrong(path, key, f"a list of {len(kinds)}", value)
        return tuple(_decode(v, k, path, f"{key}[{i}]") for i, (v, k) in enumerate(zip(value, kinds, strict=True)))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise _wrong(path, key, "an object", value)
        item = typing.get_args(kind)[1]
        return {k: _decode(v, item, path, f"{key}.{k}") for k, v in value.items()}
    if kind is float:
        if value is None:
            return float("nan")
        if isinstance(value, float) and not abs(value) > MOST:  # NaN is not above it
            return value
        if type(value) is int and abs(value) <= LARGEST:
            return float(value)
    elif kind is int:
        if type(value) is int and abs(value) <= LARGEST:
            return value
    elif isinstance(value, kind):
        return value
    raise _wrong(path, key, f"a {kind.__name__}", value)


def _wrong(path: Path, key: str, wanted: str, value: Any) -> RunError:
    where = f"{path}: {key or 'top level'}"
    return RunError(where, f"expected {wanted}, found {value!r:.60}", do="run the probe again")
