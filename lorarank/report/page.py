"""A page of text for a terminal, from its parts (floor 4)."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lorarank.report.plain import Grid

NARROWEST = 60
"""Fewer columns than this leave no room for sentences; a terminal narrower than that wraps lines itself."""

INDENT, GAP, BETWEEN = "  ", "  ", "     "
"""Before a table, between its columns, and between the blocks that a long one is folded into."""


class Page:
    """Text growing from top to bottom; nothing in it is read as markup."""

    def __init__(self, width: int = 100, colour: bool = False) -> None:
        self._written = io.StringIO()
        self._console = Console(
            file=self._written,
            width=max(width, NARROWEST),
            force_terminal=colour,
            color_system="standard" if colour else None,
            no_color=not colour,
            markup=False,
            emoji=False,
            highlight=False,
            legacy_windows=False,
        )

    def head(self, sentence: str, *, good: bool) -> None:
        """The answer."""
        self._console.print(Text(sentence, style="bold green" if good else "bold yellow"))

    def facts(self, facts: Iterable[tuple[str, str]]) -> None:
        """Labelled lines."""
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column()
        for label, text in facts:
            table.add_row(Text(label, style="cyan"), Text(text))
        self._console.print()
        self._console.print(Padding(table, (0, 0, 0, 2)))

    def section(self, title: str, sentences: Iterable[str]) -> None:
        """A heading and a list of sentences."""
        table = Table.grid(padding=(0, 1))
        table.add_column(no_wrap=True)
        table.add_column()
        for sentence in sentences:
            table.add_row(Text("-"), Text(sentence))
        self._title(title)
        self._console.print(Padding(table, (0, 0, 0, 2)))

    def grid(self, grid: Grid) -> None:
        """A table with its heading, as wide as it is: a name that is cut is no name."""
        self._title(grid.title)
        self._table([_lines(grid, grid.rows, _widths(grid))])

    def fits(self, grid: Grid) -> bool:
        """Whether a table is no wider than the page."""
        widths = _widths(grid)
        return len(INDENT) + sum(widths) + len(GAP) * (len(widths) - 1) <= self._console.width

    def folded(self, grid: Grid) -> None:
        """A table of narrow rows, several blocks of them beside each other, read down each block first."""
        widths = _widths(grid)
        block = sum(widths) + len(GAP) * (len(widths) - 1)
        blocks = (self._console.width - len(INDENT) + len(BETWEEN)) // (block + len(BETWEEN))
        height = -(-len(grid.rows) // max(1, blocks))
        pieces = [grid.rows[start : start + height] for start in range(0, len(grid.rows), height)]
        self._title(grid.title)
        self._table([_lines(grid, piece, widths) for piece in pieces])

    def code(self, title: str, code: str) -> None:
        """Something to paste, never wrapped."""
        self._title(title)
        self._console.print()
        for line in code.splitlines():
            self._console.print(Text(line), soft_wrap=True)

    def text(self) -> str:
        """All of it, without spaces at the ends of lines."""
        return "\n".join(line.rstrip() for line in self._written.getvalue().rstrip("\n").split("\n")) + "\n"

    def _title(self, title: str) -> None:
        self._console.print()
        self._console.print(Text(title, style="bold"))

    def _table(self, blocks: Sequence[Sequence[str]]) -> None:
        """Blocks of lines beside each other, the first line of each being its headings."""
        for index, lines in enumerate(zip_longest(*blocks, fillvalue="")):
            line = Text(INDENT + BETWEEN.join(lines), style="cyan" if index == 0 else "")
            self._console.print(line, soft_wrap=True)


def _widths(grid: Grid) -> list[int]:
    """Columns of the terminal that each column takes."""
    return [max(map(cell_len, column)) for column in zip(grid.headings, *grid.rows, strict=True)]


def _lines(grid: Grid, rows: Iterable[Sequence[str]], widths: Sequence[int]) -> list[str]:
    """Headings and rows, numbers to the right."""
    return [
        GAP.join(
            " " * (width - cell_len(cell)) + cell if numeric else cell + " " * (width - cell_len(cell))
            for cell, width, numeric in zip(row, widths, grid.numeric, strict=True)
        )
        for row in (grid.headings, *rows)
    ]
