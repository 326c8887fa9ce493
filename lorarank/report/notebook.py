"""A result in a notebook: the answer and its figures, everything else on demand (floor 4).

It takes its ink and paper from whatever it stands in, light or dark, has no script and loads nothing. Everything in it
is text and is escaped by *html/elements*.
"""

from __future__ import annotations

from collections.abc import Iterable

from lorarank.report.chapters.blocks import Answer, Block, Code, Facts, Fold, Sentences, Table, Tabs
from lorarank.report.html.elements import block
from lorarank.report.plain import Grid

STYLE = """
.lorarank { max-width: 62em; overflow-wrap: anywhere; }
.lorarank .answer { font-size: 1.2em; font-weight: 650; margin: .4em 0; padding-left: .6em; border-left: .3em solid; }
.lorarank .answer.good { border-color: #2e9e5b; }
.lorarank .answer.bad { border-color: #d98a1f; }
.lorarank dl { margin: .6em 0; }
.lorarank .badges { display: flex; flex-wrap: wrap; gap: .2em 1.6em; }
.lorarank .facts div { display: grid; grid-template-columns: 8em 1fr; gap: .2em 1em; padding: .1em 0; }
.lorarank dt { opacity: .75; font-weight: inherit; }
.lorarank dd { margin: 0; }
.lorarank details { margin: .3em 0; }
.lorarank summary { cursor: pointer; }
.lorarank ul { margin: .3em 0; padding-left: 1.4em; }
.lorarank .scroll { overflow-x: auto; max-height: 30em; overflow-y: auto; }
.lorarank table { border-collapse: collapse; margin: .3em 0; font-size: .92em; font-variant-numeric: tabular-nums; }
.lorarank caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.lorarank th, .lorarank td { padding: .15em .7em; text-align: left; white-space: nowrap; }
.lorarank th, .lorarank td { border-bottom: 1px solid rgb(128 128 128 / .35); }
.lorarank th { font-weight: inherit; }
.lorarank thead th { font-weight: 650; }
.lorarank .number { text-align: right; }
.lorarank pre { overflow-x: auto; }
""".strip()
"""Small, and only for what is inside."""


class Notebook:
    """A sheet (:class:`~lorarank.report.plain.Sheet`) for a notebook.

    >>> page = Notebook()
    >>> page.head("<b>r = 8", good=True)
    >>> page.text().partition("</style>")[2]
    '<p class="answer good">&lt;b&gt;r = 8</p></div>'
    """

    def __init__(self) -> None:
        self.blocks: list[Block] = []

    def head(self, sentence: str, *, good: bool) -> None:
        """The answer."""
        self.blocks.append(Answer(sentence, good))

    def facts(self, facts: Iterable[tuple[str, str]]) -> None:
        """Labelled lines."""
        self.blocks.append(Facts(tuple(facts)))

    def section(self, title: str, sentences: Iterable[str]) -> None:
        """A list of sentences, on demand."""
        self.blocks.append(Fold(title, (Sentences(tuple(sentences)),)))

    def grid(self, grid: Grid) -> None:
        """A table, on demand."""
        self.blocks.append(Fold(grid.title, (Table(grid),)))

    folded = grid

    def fits(self, grid: Grid) -> bool:
        """A notebook scrolls."""
        return True

    def code(self, title: str, code: str) -> None:
        """Something to paste, on demand."""
        self.blocks.append(Fold(title, (Tabs(title, (Code("", "python", code),)),)))

    def text(self) -> str:
        """All of it as HTML."""
        return of_blocks(self.blocks)


def of_blocks(blocks: Iterable[Block]) -> str:
    """Blocks as HTML with their style."""
    return f'<div class="lorarank"><style>{STYLE}</style>{"".join(map(block, blocks))}</div>'
