"""The terminal that a page is laid out for (floor 5)."""

from __future__ import annotations

import sys
from typing import TypedDict

from lorarank.cli.voice import coloured

PIPED_WIDTH = 100
"""Columns where no terminal says how many it has."""


class Screen(TypedDict):
    """``width``: columns to fill; ``colour``: whether colours are shown. What every renderer of a page takes."""

    width: int
    colour: bool


def screen() -> Screen:
    """The terminal on stdout; plain text of :data:`PIPED_WIDTH` columns where there is none."""
    width = PIPED_WIDTH
    if sys.stdout.isatty():
        from shutil import get_terminal_size  # it loads every kind of archive

        width = get_terminal_size((PIPED_WIDTH, 24)).columns
    return {"width": width, "colour": coloured(sys.stdout)}
