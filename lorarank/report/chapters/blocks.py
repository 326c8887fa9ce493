"""What a long report is built of, before it is HTML or Markdown (floor 4). Strings in here are text, never markup."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorarank.report.plain import Grid, Records


@dataclass(frozen=True)
class Answer:
    """The answer, said first: a sentence, whether it is an answer at all, and a few words that stand out."""

    sentence: str
    good: bool
    badges: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Facts:
    """Labelled lines."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Sentences:
    """A list of sentences, under a heading of their own where ``title`` has one."""

    lines: tuple[str, ...]
    title: str = ""


@dataclass(frozen=True)
class Paragraph:
    """A few sentences that belong together."""

    text: str


@dataclass(frozen=True)
class Table:
    """A table; ``search`` names what a filter above it looks for, and makes its columns sortable; ``marked`` is a row
    that stands out, and ``mark`` says in words why.
    """

    grid: Grid
    search: str = ""
    marked: int | None = None
    mark: str = ""


@dataclass(frozen=True)
class Heat:
    """A table whose cells are coloured.

    Attributes
    ----------
    title : of the table.
    corner : heading of the first column; ``columns`` of the others.
    rows : a heading, and a text and level for each column; level 0 has no colour, 1 to 7 ever more.
    what : the quantity; ``scale`` says what its levels mean, a text each, from the lowest up.
    """

    title: str
    corner: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[str, int], ...]], ...]
    what: str
    scale: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Picture:
    """A drawing as an ``<svg>`` element, and what it shows in a sentence; ``small`` ones stand beside each other."""

    svg: str
    caption: str
    small: bool = False


@dataclass(frozen=True)
class Code:
    """Something to copy: its label, what it is written in, and the text."""

    label: str
    language: str
    text: str


@dataclass(frozen=True)
class Tabs:
    """Several texts to copy, one shown at a time where that is possible."""

    label: str
    items: tuple[Code, ...]


@dataclass(frozen=True)
class Fold:
    """Blocks that are shown on demand; ``drawn`` says that there are only pictures in it."""

    title: str
    blocks: tuple[Block, ...]
    drawn: bool = False


Block = Answer | Facts | Sentences | Paragraph | Table | Heat | Picture | Tabs | Fold


@dataclass(frozen=True)
class Chapter:
    """A headed part; ``key`` is its address within the report, ASCII letters and hyphens."""

    key: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """A whole report.

    Attributes
    ----------
    title : what it is about.
    chapters : the answer first.
    data : everything in it as JSON text, for programs.
    colophon : what made it.
    rows : one row per module, or per rank of a sweep.
    """

    title: str
    chapters: tuple[Chapter, ...]
    data: str
    colophon: str
    rows: Records

    def write(self, output: str | Path) -> int:
        """Write it as the HTML or Markdown file that ``output`` names; see :func:`lorarank.report.written.write`."""
        from lorarank.report.written import write

        return write(self, output)

    def to_dict(self) -> dict[str, Any]:
        """What it is about, as the ``--format json`` of its command prints it."""
        plain: dict[str, Any] = json.loads(self.data)
        return plain

    def to_frame(self, library: str | None = None) -> Any:
        """The rows as a data frame; see :meth:`lorarank.result.Result.to_frame`."""
        from lorarank.report.results import frame

        return frame(self.rows, library)

    def __str__(self) -> str:
        """What it is about, the answer, and what there is to read; ``repr`` has everything.

        >>> answer = Chapter("answer", "The answer", (Answer("r = 8.", True),))
        >>> print(Document("run", (answer,), "{}", "", Records((), ())))
        run: r = 8.
        1 chapter: The answer. write("report.html") makes a page of it.
        """
        titles = [chapter.title for chapter in self.chapters]
        counted = f"{len(titles)} chapter{'s' * (len(titles) != 1)}"
        about = self.headline if self.headline == self.title else f"{self.title}: {self.headline}"
        return f'{about}\n{counted}: {"; ".join(titles)}. write("report.html") makes a page of it.'

    def _repr_html_(self) -> str:
        """For notebooks: the first chapter; :meth:`write` makes a page of all."""
        from lorarank.report.notebook import of_blocks

        return of_blocks(self.chapters[0].blocks)

    @property
    def headline(self) -> str:
        """The answer's sentence."""
        blocks = (block for chapter in self.chapters for block in chapter.blocks)
        return next((block.sentence for block in blocks if isinstance(block, Answer)), self.title)
