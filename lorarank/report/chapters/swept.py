"""The report on a sweep (floor 4)."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence

from lorarank.dossier import Dossier
from lorarank.errors import printable
from lorarank.report import sweep as content
from lorarank.report.chapters import shared
from lorarank.report.chapters.blocks import (
    Answer,
    Chapter,
    Code,
    Facts,
    Paragraph,
    Picture,
    Sentences,
    Table,
    Tabs,
)
from lorarank.report.drawing import charts
from lorarank.report.json_text import as_json
from lorarank.report.page import Page
from lorarank.report.plain import laid_out
from lorarank.sweep import Sweep
from lorarank.wording import percent

WIDTH = 100


def parts(found: Dossier, command: Sequence[str]) -> shared.Parts:
    """All chapters, the answer first."""
    swept = found.sweep
    assert swept is not None  # noqa: S101 (a dossier of kind "sweep" has one)
    data = as_json(dataclasses.asdict(swept) | {"report_command": list(command)})
    chapters = (
        _answer(swept),
        _curve(swept),
        shared.reference(found),
        Chapter("reasons", "Every reason", (Sentences(tuple(content.sentences(swept))),)),
        _measured(swept),
        _exports(swept, data),
    )
    return shared.Parts(chapters, data, content.rows(swept))


def _answer(swept: Sweep) -> Chapter:
    answer = swept.outcome
    good = answer.learned
    badges = (("interval, 95%", f"{answer.low}–{answer.high}"), ("lowest loss", f"r = {answer.best}")) if good else ()
    first = Answer(content.headline(swept), good, badges)
    return Chapter("answer", "The answer", (first, Facts(tuple(content.facts(swept)))))


def _curve(swept: Sweep) -> Chapter:
    text = (
        f"Held-out loss at every rank, each at its best learning rate. Within the band a rank loses at most "
        f"{percent(swept.outcome.allowed)} of the gain of the best; the bars are 95 % errors beside the best, over "
        "documents and seeds; small dots are seeds as measured, the line is without what a seed does to all ranks "
        "alike."
    )
    picture = Picture(charts.loss_by_rank("sweep", swept.outcome), "Held-out loss by rank")
    ranks = [one.rank for one in swept.outcome.ranks]
    shown = swept.outcome.learned and swept.outcome.r_sufficient in ranks
    marked = ranks.index(swept.outcome.r_sufficient) if shown else None
    table = Table(content.grid(swept), marked=marked)
    return Chapter("curve", "Loss by rank", (Paragraph(text), picture, table))


def _measured(swept: Sweep) -> Chapter:
    facts = (
        ("command", shlex.join(swept.command) or "none: called from Python"),
        ("base", swept.model),
        ("data", swept.data),
        ("held-out", f"{swept.heldout_documents:,} documents, {swept.heldout_target_tokens:,} target tokens"),
        ("each point", f"{swept.steps:,} steps, {swept.tokens:,} tokens, {swept.batch_tokens:,} a step"),
        ("points", f"{swept.points}, {swept.seeds} seed{'s' if swept.seeds > 1 else ''} around the answer"),
        ("made", f"{swept.created} by lorarank {swept.lorarank}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in sorted(swept.versions.items()))),
    )
    return Chapter("measured", "How it was measured", (Facts(tuple((n, printable(t, 1000)) for n, t in facts)),))


def _exports(swept: Sweep, data: str) -> Chapter:
    items = (
        Code("Table", "text", laid_out(Page(WIDTH), content.lay, swept).rstrip("\n")),
        Code("JSON", "json", data.rstrip("\n")),
    )
    return Chapter("exports", "To use it elsewhere", (Tabs("Formats", items),))
