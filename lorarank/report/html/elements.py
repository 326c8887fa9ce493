"""Blocks as HTML (floor 4).

Tables have captions and scopes (https://www.w3.org/WAI/tutorials/tables/); what sorts, filters and tabs follow the
patterns of https://www.w3.org/WAI/ARIA/apg/patterns/, and get their roles from the script, so that without it nothing
claims to do what it does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape
from itertools import groupby
from typing import Any

from lorarank.errors import printable
from lorarank.report.chapters.blocks import (
    Answer,
    Block,
    Chapter,
    Code,
    Facts,
    Fold,
    Heat,
    Paragraph,
    Picture,
    Sentences,
    Table,
    Tabs,
)

LONGEST = 5000
"""Characters of a sentence."""


def text(value: object, limit: int = LONGEST) -> str:
    """Text as HTML: control and format characters made visible, then escaped.

    >>> text('<script>"\\u202e')
    '&lt;script&gt;&quot;\\\\u202e'
    """
    return escape(printable(value, limit))


def chapter(one: Chapter, number: int) -> str:
    """A section with its heading."""
    inside = "".join(
        f'<div class="side">{"".join(map(block, group))}</div>' if beside else "".join(map(block, group))
        for beside, group in groupby(one.blocks, key=lambda b: isinstance(b, Picture))
    )
    heading = f'<h2 id="{one.key}-h">{text(one.title)}</h2>'
    kind = ' class="first"' if number == 0 else ""
    return f'<section id="{one.key}" aria-labelledby="{one.key}-h"{kind}>{heading}{inside}</section>\n'


def block(one: Block) -> str:
    """Any block."""
    return MAKERS[type(one)](one)


def answer(one: Answer) -> str:
    """The answer, and what stands out beside it."""
    badges = "".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in one.badges)
    row = f'<dl class="badges">{badges}</dl>' if badges else ""
    return f'<p class="answer {"good" if one.good else "bad"}">{text(one.sentence)}</p>{row}'


def facts(one: Facts) -> str:
    """A description list."""
    rows = "".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in one.items)
    return f'<dl class="facts">{rows}</dl>'


def sentences(one: Sentences) -> str:
    """A list."""
    items = "".join(f"<li>{text(line)}</li>" for line in one.lines)
    heading = f"<h3>{text(one.title)}</h3>" if one.title else ""
    return f"{heading}<ul>{items}</ul>"


def paragraph(one: Paragraph) -> str:
    """A paragraph."""
    return f"<p>{text(one.text)}</p>"


def table(one: Table) -> str:
    """A table in a frame that scrolls; the first column of a row is its heading."""
    grid = one.grid
    title = text(grid.title)
    headings = "".join(
        f'<th scope="col"{_class("number", numeric)}>{text(heading)}</th>' for heading, numeric in _columns(one)
    )
    rows = []
    for index, row in enumerate(grid.rows):
        first, *rest = row
        told = f' <span class="told">{text(one.mark)}</span>' if index == one.marked and one.mark else ""
        cells = f'<th scope="row"{_class("number", grid.numeric[0])}>{text(first)}{told}</th>'
        cells += "".join(
            f"<td{_class('number', numeric)}>{text(cell)}</td>"
            for cell, numeric in zip(rest, grid.numeric[1:], strict=True)
        )
        rows.append(f"<tr{_class('marked', index == one.marked)}>{cells}</tr>")
    search = f' data-search="{text(one.search)}"' if one.search else ""
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{title}"><table{search}><caption>{title}</caption>'
        f"<thead><tr>{headings}</tr></thead><tbody>{_lines(rows)}</tbody></table></div>"
    )


def heat(one: Heat) -> str:
    """A table with coloured cells, and what the colours mean."""
    title = text(one.title)
    headings = "".join(f'<th scope="col">{text(name)}</th>' for name in (one.corner, *one.columns))
    rows = []
    for name, cells in one.rows:
        row = "".join(f'<td class="h{level}">{text(cell)}</td>' for cell, level in cells)
        rows.append(f'<tr><th scope="row">{text(name)}</th>{row}</tr>')
    what = text(one.what)
    scale = "".join(f'<li class="h{level}">{text(name)}</li>' for name, level in one.scale)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{title}"><table class="heat">'
        f"<caption>{title}</caption><thead><tr>{headings}</tr></thead><tbody>{_lines(rows)}</tbody></table></div>"
        f'<ul class="scale" aria-label="Colours by {what}"><li aria-hidden="true">{what}</li>{scale}</ul>'
    )


def picture(one: Picture) -> str:
    """A figure; its drawing is markup that this package made."""
    caption = f"<figcaption>{text(one.caption)}</figcaption>" if one.caption else ""
    return f"<figure{_class('small', one.small)}>{one.svg}{caption}</figure>"


def tabs(one: Tabs) -> str:
    """Texts to copy below each other, each with its heading; the script makes tabs of them."""
    panels = "".join(_panel(item) for item in one.items)
    return f'<div class="tabs" data-label="{text(one.label)}">{panels}</div>'


def _panel(one: Code) -> str:
    body = "\n".join(text(line, 100_000) for line in one.text.split("\n"))
    return (
        f'<div class="panel"><h3>{text(one.label)}</h3><pre tabindex="0"><code class="{text(one.language)}">{body}'
        "</code></pre></div>"
    )


def fold(one: Fold) -> str:
    """Something shown on demand."""
    inside = "".join(map(block, one.blocks))
    body = f'<div class="many">{inside}</div>' if one.drawn else inside
    return f"<details><summary>{text(one.title)}</summary>{body}</details>"


MAKERS: dict[type, Callable[[Any], str]] = {
    Answer: answer,
    Facts: facts,
    Sentences: sentences,
    Paragraph: paragraph,
    Table: table,
    Heat: heat,
    Picture: picture,
    Tabs: tabs,
    Fold: fold,
}
"""What makes which block HTML."""


def _columns(one: Table) -> Iterable[tuple[str, bool]]:
    return zip(one.grid.headings, one.grid.numeric, strict=True)


def _class(name: str, wanted: bool) -> str:
    return f' class="{name}"' if wanted else ""


def _lines(rows: Iterable[str]) -> str:
    return "\n".join(rows)
