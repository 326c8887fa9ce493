"""What every report is made of: tables as plain strings, rows as CSV, and a sheet to lay it out on (floor 4)."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from lorarank.wording import no_formula

Found = TypeVar("Found")
Asked = ParamSpec("Asked")


@dataclass(frozen=True)
class Grid:
    """A table: its title, its column headings, which columns hold numbers, and its cells."""

    title: str
    headings: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Records:
    """A result as rows of values, for CSV and data frames: the names of its columns, and a value of each in a row."""

    names: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


def records(kind: type, items: Iterable[Any]) -> Records:
    """Dataclasses of one kind: one row for each, one column per field.

    >>> records(Records, [Records(("a",), ())])
    Records(names=('names', 'rows'), rows=((('a',), ()),))
    """
    names = tuple(field.name for field in dataclasses.fields(kind))
    return Records(names, tuple(tuple(getattr(item, name) for name in names) for item in items))


def as_csv(found: Records) -> str:
    """CSV text with its headings; names printable and no formulas."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(found.names)
    writer.writerows([cell(value) for value in row] for row in found.rows)
    return text.getvalue()


class Sheet(Protocol):
    """What a result is laid out on, from top to bottom: a terminal's page, a notebook's, or Markdown."""

    def head(self, sentence: str, *, good: bool) -> None:
        """The answer."""

    def facts(self, facts: Iterable[tuple[str, str]]) -> None:
        """Labelled lines."""

    def section(self, title: str, sentences: Iterable[str]) -> None:
        """A heading and a list of sentences."""

    def grid(self, grid: Grid) -> None:
        """A table with its heading."""

    def folded(self, grid: Grid) -> None:
        """A table of narrow rows, which may stand beside each other."""

    def fits(self, grid: Grid) -> bool:
        """Whether a table is no wider than the sheet."""

    def code(self, title: str, code: str) -> None:
        """Something to paste."""

    def text(self) -> str:
        """All of it; of a notebook's, as HTML."""


def laid_out(
    sheet: Sheet,
    lay: Callable[Concatenate[Sheet, Found, Asked], None],
    found: Found,
    /,
    *args: Asked.args,
    **asked: Asked.kwargs,
) -> str:
    """A result as text: what is on ``sheet`` once ``lay`` has put it there, as it is ``asked`` to."""
    lay(sheet, found, *args, **asked)
    return sheet.text()


def cell(value: object) -> object:
    """A value as it may stand in CSV: names printable and no formulas, numbers that are not finite empty."""
    if isinstance(value, str):
        return no_formula(value)
    return "" if value is None or (isinstance(value, float) and not math.isfinite(value)) else value
