"""A result as Markdown: whatever comes from a file is text in it."""

from __future__ import annotations

import re

import pytest

from lorarank.report.markdown_text import Markdown, fenced
from lorarank.report.notebook import Notebook
from lorarank.report.page import Page
from lorarank.report.plain import Grid, Sheet, laid_out
from lorarank.report.results import PRESENTERS
from lorarank.result import Result

HARM = "a|b <img src=x> *c* `d` [e](f) ~g~ h_i"


@pytest.mark.parametrize("sheet", [Page(), Notebook(), Markdown()], ids=lambda one: type(one).__name__)
def test_it_is_a_sheet(sheet: Sheet) -> None:
    assert {name for name in dir(Sheet) if not name.startswith("_")} <= set(dir(sheet))


def test_nothing_is_more_than_text() -> None:
    page = Markdown()
    page.head(HARM, good=True)
    page.facts([(HARM, HARM)])
    page.section(HARM, [HARM])
    page.grid(Grid(HARM, (HARM, HARM), (False, True), ((HARM, HARM),)))
    page.folded(Grid(HARM, (HARM,), (False,), ((HARM,),)))
    page.code(HARM, "r = 8")
    text = page.text()
    assert text.count(r"a\|b \<img src=x> \*c\* \`d\` \[e\](f) \~g\~ h\_i") == 14
    assert text.count("h_i") == 0


def test_no_code_ends_its_own_block() -> None:
    first, *_, last = fenced("x\n```\n<b>", "python").split("\n")
    assert (first, last) == ("````python", "````")


def test_every_table_of_every_result_has_one_number_of_columns(results: dict[str, Result]) -> None:
    for name, one in results.items():
        tables = re.findall(r"(?:^\|.*\n)+", laid_out(Markdown(), PRESENTERS[type(one)].lay, one), flags=re.MULTILINE)
        for table in tables:
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, name
