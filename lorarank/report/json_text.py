"""A result as JSON text (floor 4)."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from functools import cache
from json.encoder import encode_basestring_ascii
from typing import Any


def as_json(plain: Any) -> str:
    """JSON text with sorted keys, one value per line; ASCII, so that no name in it can move a cursor. Numbers that are
    not finite are null, and dataclasses are objects.

    >>> print(as_json({"b": [1.5, float("nan")], "a": {}}), end="")
    {
     "a": {},
     "b": [
      1.5,
      null
     ]
    }
    """
    return _laid_out(plain, "\n") + "\n"


def _laid_out(value: Any, line: str) -> str:
    """What ``json.dumps(indent=1, sort_keys=True)`` would give; ``line`` begins a line where the value stands.

    Python's encoder takes twice as long as soon as it has to indent, and most of an audit are spectra.
    """
    if isinstance(value, str):
        return encode_basestring_ascii(value)
    if isinstance(value, float):
        return float.__repr__(value) if math.isfinite(value) else "null"
    if value is None:
        return "null"
    if type(value) is int:
        return repr(value)
    inner = f"{line} "
    if isinstance(value, (list, tuple)):
        if {*map(type, value)} == {float} and math.isfinite(sum(value)):  # then each of them is
            return f"[{inner}{repr(list(value))[1:-1].replace(', ', f',{inner}')}{line}]"
        items = [_laid_out(item, inner) for item in value]
        return f"[{inner}{f',{inner}'.join(items)}{line}]" if items else "[]"
    if fields := _sorted_fields(value.__class__):
        items = [f"{key}: {_laid_out(getattr(value, name), inner)}" for name, key in fields]
        return f"{{{inner}{f',{inner}'.join(items)}{line}}}"
    if isinstance(value, Mapping):
        named = {str(key): item for key, item in value.items()}
        items = [f"{encode_basestring_ascii(key)}: {_laid_out(named[key], inner)}" for key in sorted(named)]
        return f"{{{inner}{f',{inner}'.join(items)}{line}}}" if items else "{}"
    return json.dumps(value)


@cache
def _sorted_fields(kind: type) -> tuple[tuple[str, str], ...]:
    """Fields of a dataclass with their keys as JSON, none of any other type."""
    names = sorted(field.name for field in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else ()
    return tuple((name, encode_basestring_ascii(name)) for name in names)
