"""A recommendation laid out for a terminal (floor 4)."""

from __future__ import annotations

from lorarank.estimate.recommendation import Recommendation
from lorarank.report import content
from lorarank.report.export import lora_config
from lorarank.report.page import Page
from lorarank.report.plain import Sheet


def lay(page: Sheet, answer: Recommendation, *, per_module: bool = False) -> None:
    """The answer first, then the figures that go with it, the reasons, the tables, and what to paste.

    Parameters
    ----------
    page : to lay it out on.
    answer : the recommendation.
    per_module : whether to add the table of all modules.
    """
    page.head(content.headline(answer), good=answer.r is not None)
    page.facts(content.facts(answer))
    for title, sentences in content.sections(answer):
        page.section(title, sentences)
    for grid in (content.adapter_grid(answer), content.type_grid(answer)):
        if grid is not None:
            page.grid(grid)
    layers = content.layer_grid(answer)
    if layers is not None:
        page.folded(layers)
    if per_module and answer.modules:
        page.grid(content.module_grid(answer))
    if answer.config is not None:
        page.code("To paste", lora_config(answer.config))


def render(answer: Recommendation, *, width: int = 100, colour: bool = False, per_module: bool = False) -> str:
    """The same for a terminal, in so many columns."""
    page = Page(width, colour)
    lay(page, answer, per_module=per_module)
    return page.text()
