"""Values as Python that can be pasted (floor 4): names are quoted so that nothing in them can be anything else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lorarank.export.document import Name

LINE = 100
"""Columns within which a list or mapping stays on one line."""

INDENT = "    "


def call(function: str, arguments: Mapping[str, Any], positional: Sequence[Any] = ()) -> str:
    """``function(...)``, an argument a line.

    >>> print(call("f", {"a": ["x"], "b": {"k": 1}}, [Name("model")]))
    f(
        model,
        a=["x"],
        b={"k": 1},
    )
    """
    lines = [f"{literal(value)}," for value in positional]
    for name, value in arguments.items():
        lines += _argument(name, value)
    return "\n".join((f"{function}(", *(f"{INDENT}{line}" for line in lines), ")"))


def _argument(name: str, value: Any) -> list[str]:
    """On one line where it fits, else an item a line."""
    line = f"{name}={literal(value)},"
    if len(line) <= LINE or not isinstance(value, Mapping | list | tuple):
        return [line]
    begin, end = ("{", "}") if isinstance(value, Mapping) else ("[", "]")
    return [f"{name}={begin}", *(f"{INDENT}{item}," for item in _items(value)), f"{end},"]


def literal(value: Any) -> str:
    """A value as Python: strings, numbers, booleans, ``None``, names, lists and mappings of them.

    >>> print(literal(["q", 1, 0.5, True, None, Name("x"), {"a": (2,)}]))
    ["q", 1, 0.5, True, None, x, {"a": [2]}]
    """
    if isinstance(value, Name):
        return value.text
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(_items(value)) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_items(value)) + "]"
    return repr(value)


def _items(value: Mapping[Any, Any] | Sequence[Any]) -> list[str]:
    if isinstance(value, Mapping):
        return [f"{literal(key)}: {literal(inner)}" for key, inner in value.items()]
    return [literal(item) for item in value]


def quoted(text: str) -> str:
    r"""A Python string literal in double quotes, ASCII only.

    >>> quoted('a"b')
    '"a\\"b"'
    """
    return '"' + text.encode("unicode_escape").decode("ascii").replace('"', '\\"') + '"'
