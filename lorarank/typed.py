"""Options given from Python, as the types that their fields say (floor 0).

The command line has had its words turned into numbers before; a caller from Python may give anything.
"""

from __future__ import annotations

import dataclasses
import numbers
import os
import types
import typing
from pathlib import Path
from typing import Any

from lorarank.errors import OptionError

ASKED = {
    str: "text",
    Path: "a path",
    int: "a whole number",
    float: "a number",
    bool: "True or False",
}


def settle(options: Any) -> None:
    """Bring every field that a frozen options dataclass is given to its type, or say which cannot be.

    A path will do for text and text for a path, a list for a tuple, and what numpy has for numbers, truths and lists.
    Nothing else is guessed at: 1e3 is no whole number, and one learning rate no list of them.

    Raises
    ------
    OptionError
        A value of another type.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Options:
    ...     data: str
    ...     ranks: tuple[int, ...] | None = None
    >>> options = Options(Path("train.jsonl"), [1, 2])
    >>> settle(options)
    >>> options
    Options(data='train.jsonl', ranks=(1, 2))
    >>> settle(Options("train.jsonl", 4))
    Traceback (most recent call last):
    ...
    lorarank.errors.OptionError: --ranks 4: it must be a list, each a whole number.
    """
    hints = typing.get_type_hints(type(options))
    for field in (field for field in dataclasses.fields(options) if field.init):
        value, kind, optional = getattr(options, field.name), *_plain(hints[field.name])
        settled = _settled(value, kind)
        if settled is None and not (value is None and optional):
            raise _wrong(field.name, value, kind)
        object.__setattr__(options, field.name, settled)


def _plain(kind: Any) -> tuple[Any, bool]:
    """A type without its ``| None``, and whether it had one."""
    if typing.get_origin(kind) is not types.UnionType:
        return kind, False
    (inner,) = (one for one in typing.get_args(kind) if one is not type(None))
    return inner, True


def _settled(value: Any, kind: Any) -> Any:
    """``value`` as ``kind``; ``None`` where it is neither that nor close to it."""
    if type(value).__module__ == "numpy" and type(value).__name__ in ("ndarray", "bool", "bool_"):
        value = value.tolist()
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            return None
        items = tuple(_settled(item, typing.get_args(kind)[0]) for item in value)
        return None if None in items else items
    if kind in (str, Path):
        if isinstance(value, kind):
            return value
        path = value if isinstance(value, str) else os.fspath(value) if isinstance(value, os.PathLike) else None
        return kind(path) if isinstance(path, str) else None
    if kind is bool or isinstance(value, bool):
        return value if kind is bool and isinstance(value, bool) else None
    if kind is int:
        return int(value) if isinstance(value, numbers.Integral) else None
    return float(value) if kind is float and isinstance(value, numbers.Real) else None


def _wrong(name: str, value: Any, kind: Any) -> OptionError:
    """The line for a value of another type."""
    (item, *_) = typing.get_args(kind) or (kind,)
    wanted = ASKED[item] if item is kind else f"a list, each {ASKED[item]}"
    where = name if name == "model" else f"--{name.replace('_', '-')}"  # the model is an argument
    return OptionError(f"{where} {value!r:.60}", f"it must be {wanted}")
