"""A long report as Markdown (floor 4): the same chapters, without the pictures, whose numbers are in the tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from lorarank.errors import printable
from lorarank.report.chapters.blocks import (
    Answer,
    Block,
    Document,
    Facts,
    Fold,
    Heat,
    Paragraph,
    Picture,
    Sentences,
    Table,
    Tabs,
)
from lorarank.report.markdown_text import escaped, fenced, table
from lorarank.report.plain import Grid


def render(found: Document) -> str:
    """The report as text.

    >>> from lorarank.report.chapters.blocks import Chapter
    >>> from lorarank.report.plain import Records
    >>> chapters = (Chapter("answer", "The answer", (Paragraph("r = 8 *"),)),)
    >>> print(render(Document("run", chapters, "{}", "Made here.", Records((), ()))))
    # run
    <BLANKLINE>
    ## The answer
    <BLANKLINE>
    r = 8 \\*
    <BLANKLINE>
    Made here.
    <BLANKLINE>
    """
    parts = [f"# {_text(found.title)}"]
    for chapter in found.chapters:
        if any(map(_drawn, chapter.blocks)) and not any(_tells(block) for block in chapter.blocks):
            continue
        parts += [f"## {_text(chapter.title)}", *_blocks(chapter.blocks)]
    return "\n\n".join([*parts, _text(found.colophon)]) + "\n"


def _text(text: str) -> str:
    return escaped(printable(text, 5000))


def _blocks(blocks: Iterable[Block]) -> list[str]:
    """The parts of all blocks, which an empty line parts."""
    return [part for one in blocks for part in MAKERS[type(one)](one)]


def _answer(one: Answer) -> list[str]:
    return [f"**{_text(one.sentence)}**"]


def _facts(one: Facts) -> list[str]:
    return ["\n".join(f"- **{_text(name)}:** {_text(text)}" for name, text in one.items)]


def _sentences(one: Sentences) -> list[str]:
    heading = [f"### {_text(one.title)}"] if one.title else []
    return [*heading, "\n".join(f"- {_text(line)}" for line in one.lines)]


def _paragraph(one: Paragraph) -> list[str]:
    return [_text(one.text)]


def _table(one: Table) -> list[str]:
    return _grid(_with_mark(one))


def _heat(one: Heat) -> list[str]:
    return _grid(_plain(one))


def _picture(one: Picture) -> list[str]:
    """Nothing: its numbers are in a table."""
    return []


def _tabs(one: Tabs) -> list[str]:
    return [part for item in one.items for part in (f"### {_text(item.label)}", fenced(item.text, item.language))]


def _fold(one: Fold) -> list[str]:
    return [] if _drawn(one) else [f"### {_text(one.title)}", *_blocks(one.blocks)]


MAKERS: dict[type, Callable[[Any], list[str]]] = {
    Answer: _answer,
    Facts: _facts,
    Sentences: _sentences,
    Paragraph: _paragraph,
    Table: _table,
    Heat: _heat,
    Picture: _picture,
    Tabs: _tabs,
    Fold: _fold,
}
"""What makes which block Markdown."""


def _drawn(block: Block) -> bool:
    """Whether there are only pictures in it."""
    return isinstance(block, Fold) and (block.drawn or all(map(_drawn, block.blocks)))


def _tells(block: Block) -> bool:
    """Whether it says more than what a picture shows."""
    return not isinstance(block, Paragraph | Picture) and not _drawn(block)


def _with_mark(table: Table) -> Grid:
    """The row that stands out says why in its first cell."""
    if table.marked is None or not table.mark:
        return table.grid
    rows = list(table.grid.rows)
    first, *rest = rows[table.marked]
    rows[table.marked] = (f"{first} ({table.mark})", *rest)
    return replace(table.grid, rows=tuple(rows))


def _grid(grid: Grid) -> list[str]:
    return [f"**{_text(grid.title)}**", table(grid)]


def _plain(heat: Heat) -> Grid:
    rows = tuple((name, *(cell for cell, _ in cells)) for name, cells in heat.rows)
    return Grid(heat.title, (heat.corner, *heat.columns), (True,) * (len(heat.columns) + 1), rows)
