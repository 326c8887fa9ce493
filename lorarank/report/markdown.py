"""A long report as Markdown (floor 4): the same chapters, without the pictures, whose numbers are in the tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

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


def _blocks(blocks: Iterable[Block]) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, Answer):
            yield f"**{_text(block.sentence)}**"
        elif isinstance(block, Facts):
            yield "\n".join(f"- **{_text(name)}:** {_text(text)}" for name, text in block.items)
        elif isinstance(block, Sentences):
            yield from [f"### {_text(block.title)}"] if block.title else []
            yield "\n".join(f"- {_text(line)}" for line in block.lines)
        elif isinstance(block, Paragraph):
            yield _text(block.text)
        elif isinstance(block, Table):
            yield from _grid(_with_mark(block))
        elif isinstance(block, Heat):
            yield from _grid(_plain(block))
        elif isinstance(block, Fold) and not _drawn(block):
            yield f"### {_text(block.title)}"
            yield from _blocks(block.blocks)
        elif isinstance(block, Tabs):
            for item in block.items:
                yield f"### {_text(item.label)}"
                yield fenced(item.text, item.language)


def _drawn(block: Block) -> bool:
    """Whether there is nothing but pictures in it."""
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


def _grid(grid: Grid) -> Iterator[str]:
    yield f"**{_text(grid.title)}**"
    yield table(grid)


def _plain(heat: Heat) -> Grid:
    rows = tuple((name, *(cell for cell, _ in cells)) for name, cells in heat.rows)
    return Grid(heat.title, (heat.corner, *heat.columns), (True,) * (len(heat.columns) + 1), rows)
