"""Markdown, and a result on a sheet of it (floor 4): all that is not said here is text, and is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lorarank.errors import printable
from lorarank.report.plain import Grid


class Markdown:
    """A sheet (:class:`~lorarank.report.plain.Sheet`) that becomes Markdown.

    >>> page = Markdown()
    >>> page.section("What *it* is", ["r = 8"])
    >>> print(page.text(), end="")
    ### What \\*it\\* is
    <BLANKLINE>
    - r = 8
    """

    def __init__(self) -> None:
        self._parts: list[str] = []

    def head(self, sentence: str, *, good: bool) -> None:
        """The answer."""
        self._parts.append(f"**{escaped(sentence)}**")

    def facts(self, facts: Iterable[tuple[str, str]]) -> None:
        """Labelled lines."""
        self._parts.append("\n".join(f"- **{escaped(label)}:** {escaped(text)}" for label, text in facts))

    def section(self, title: str, sentences: Iterable[str]) -> None:
        """A heading and a list of sentences."""
        self._parts += [f"### {escaped(title)}", "\n".join(f"- {escaped(sentence)}" for sentence in sentences)]

    def grid(self, grid: Grid) -> None:
        """A table with its heading."""
        self._parts += [f"### {escaped(grid.title)}", table(grid)]

    folded = grid

    def fits(self, grid: Grid) -> bool:
        """Markdown has no width."""
        return True

    def code(self, title: str, code: str) -> None:
        """Something to paste."""
        self._parts += [f"### {escaped(title)}", fenced(code, "python")]

    def text(self) -> str:
        """All of it."""
        return "\n\n".join(self._parts) + "\n"


def table(grid: Grid) -> str:
    """A table, numbers to the right.

    >>> print(table(Grid("Types", ("type", "a|b"), (False, True), (("q_proj", "30"),))))
    | type | a\\|b |
    | --- | ---: |
    | q\\_proj | 30 |
    """
    lines = [
        tuple(map(escaped, grid.headings)),
        tuple("---:" if numeric else "---" for numeric in grid.numeric),
        *(tuple(map(escaped, row)) for row in grid.rows),
    ]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def fenced(text: str, language: str) -> str:
    """A block of code between fences longer than any inside it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    body = "\n".join(printable(line, 100_000) for line in text.split("\n"))
    return f"{fence}{language}\n{body}\n{fence}"


def escaped(text: str) -> str:
    r"""``text`` with everything escaped that Markdown or HTML could read as more than text.

    >>> escaped("a|b <i> q_proj")
    'a\\|b \\<i> q\\_proj'
    """
    return re.sub(r"([\\`*_\[\]<|~])", r"\\\1", text)
