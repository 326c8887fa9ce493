"""Dataclasses as JSON files: keys are sorted, so that equal values give equal bytes (floor 1)."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from lorarank.errors import RunError, printable
from lorarank.files import write_bytes

logger = logging.getLogger(__name__)

SCHEMA = 1
"""Of every file that names its schema."""

LARGEST = 2**63 - 1
"""Of whole numbers, so that they go into any array."""

MOST = 1e300
"""Of other numbers, so that a few of them have a finite sum; no file of ours holds infinity."""

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
    # names of files that are no UTF-8 come as halves of surrogates, of which this makes JSON's own escapes
    write_bytes(path, (text + "\n").encode(errors="backslashreplace"))


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
