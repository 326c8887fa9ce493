"""What a command prints of a result, laid out for the terminal that it is printed to (floor 5)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypedDict, TypeVar

from lorarank.cli.voice import coloured

if TYPE_CHECKING:
    from lorarank.report.plain import Records, Sheet

Found = TypeVar("Found")

PIPED_WIDTH = 100
"""Columns where no terminal says how many it has."""


class Screen(TypedDict):
    """``width``: columns to fill; ``colour``: whether colours are shown. What a page for a terminal takes."""

    width: int
    colour: bool


def screen() -> Screen:
    """The terminal on stdout; plain text of :data:`PIPED_WIDTH` columns where there is none."""
    width = PIPED_WIDTH
    if sys.stdout.isatty():
        from shutil import get_terminal_size  # it loads every kind of archive

        width = get_terminal_size((PIPED_WIDTH, 24)).columns
    return {"width": width, "colour": coloured(sys.stdout)}


def command_line() -> tuple[str, ...]:
    """What was run, for the record."""
    return ("lorarank", *sys.argv[1:])


def sheet(kind: str) -> Sheet:
    """An empty sheet: of Markdown for the format of that name, else a page of the terminal's size."""
    if kind == "markdown":
        from lorarank.report.markdown_text import Markdown

        return Markdown()
    from lorarank.report.page import Page  # and with it rich, which no other format needs

    return Page(**screen())


def rendered(
    found: Found,
    kind: str,
    lay: Callable[[Sheet, Found], None],
    to_json: Callable[[Found], str],
    rows: Callable[[Found], Records] | None = None,
) -> str:
    """A result in the format that was asked for.

    Parameters
    ----------
    found : the result.
    kind : ``json``, ``csv``, ``markdown``; any other name is that of the page for a terminal.
    lay, to_json, rows : how its report lays it out, writes it as JSON, and has its rows for CSV; what else was asked
        for is bound to them.
    """
    from lorarank.report.plain import as_csv, laid_out

    if kind == "json":
        return to_json(found)
    if kind == "csv" and rows is not None:
        return as_csv(rows(found))
    return laid_out(sheet(kind), lay, found)
