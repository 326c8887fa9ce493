"""What every report is made of: tables as plain strings, and cells for JSON, CSV and Markdown (floor 4)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lorarank.errors import printable


@dataclass(frozen=True)
class Grid:
    """A table: its title, its column headings, which columns hold numbers, and its cells."""

    title: str
    headings: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]


def as_json(plain: Any) -> str:
    """JSON text; ASCII, so that no name in it can move a cursor."""
    return json.dumps(_finite(plain), indent=1, sort_keys=True, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value


def cell(value: object) -> object:
    """A value as it may stand in CSV: names printable and no formulas, numbers that are not finite empty."""
    if isinstance(value, str):
        name = printable(value, 1000)
        # no spreadsheet takes a name for a formula
        return f"'{name}" if name.startswith(("=", "+", "-", "@")) else name
    return "" if value is None or (isinstance(value, float) and not math.isfinite(value)) else value


def grid_to_markdown(grid: Grid) -> str:
    """A Markdown table, numbers to the right.

    >>> print(grid_to_markdown(Grid("Types", ("type", "modules"), (False, True), (("q_proj", "30"),))))
    | type | modules |
    | --- | ---: |
    | q\\_proj | 30 |
    """
    lines = [
        grid.headings,
        tuple("---:" if numeric else "---" for numeric in grid.numeric),
        *(tuple(escaped(cell) for cell in row) for row in grid.rows),
    ]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def escaped(text: str) -> str:
    r"""``text`` with everything escaped that Markdown or HTML could read as more than text.

    >>> escaped("a|b <i> q_proj")
    'a\\|b \\<i> q\\_proj'
    """
    return re.sub(r"([\\`*_\[\]<|~])", r"\\\1", text)
