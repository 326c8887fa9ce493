"""The report on adapters (floor 4)."""

from __future__ import annotations

from collections.abc import Sequence

from lorarank.audit import AuditReport
from lorarank.dossier import MOST_DRAWN, Dossier
from lorarank.errors import printable
from lorarank.report import audit as content
from lorarank.report.audit_grids import adapter_grid, finding_grid, module_columns, one_grid, within
from lorarank.report.audit_json import to_json
from lorarank.report.audit_rows import rows
from lorarank.report.chapters import shared
from lorarank.report.chapters.blocks import (
    Answer,
    Block,
    Chapter,
    Code,
    Facts,
    Fold,
    Paragraph,
    Sentences,
    Table,
    Tabs,
)
from lorarank.report.page import Page
from lorarank.report.plain import as_csv, laid_out

WIDTH = 140
"""Columns of the report as text, in which an audit's tables are whole."""

MOST_VALUES = 20_000
"""Singular values that a page carries for programs; with more of them it carries none."""

NOT_TOLD = (
    "An adapter says what was used, not what a task needs: there is no train rank here. lorarank probe measures one."
)


def parts(found: Dossier, command: Sequence[str]) -> shared.Parts:
    """All chapters, what was found first."""
    report = found.audits
    assert report is not None  # noqa: S101 (a dossier of kind "adapters" has one)
    only = report.audits[0] if len(report.audits) == 1 else None
    keep = only.reductions[0].uniform if only is not None and only.whole.figures is not None else 0
    marked = [(keep, f"keep rank {keep}")] if keep else []
    chapters = (
        _answer(report),
        _findings(report),
        _evolution(report),
        shared.where_it_is(found.updates, _groups(report)),
        shared.spectra(found.updates),
        shared.cost(found.updates, marked, "keep rank", None),
        shared.reference(found),
        _modules(report),
        _exports(report, command),
    )
    values = sum(len(m.figures.singular_values) for one in report.audits for m in one.modules if m.figures is not None)
    data = to_json(report, command=command, per_module=values <= MOST_VALUES)
    return shared.Parts(tuple(chapter for chapter in chapters if chapter is not None), data, rows(report))


def _answer(report: AuditReport) -> Chapter:
    only = report.audits[0] if len(report.audits) == 1 and not report.unreadable else None
    blocks: list[Block] = []
    if only is not None:
        blocks.append(Facts(tuple(content.facts(only))))
    elif report.audits:
        blocks.append(Table(adapter_grid(report)))
    blocks.append(Paragraph(NOT_TOLD))
    good = not any(finding.level in ("error", "warning") for finding in report.findings)
    return Chapter("answer", "What was found", (Answer(content.headline(report), good), *blocks))


def _findings(report: AuditReport) -> Chapter | None:
    blocks: list[Block] = [Sentences(tuple(lines), title) for title, lines in content.sections(report)]
    if len(report.audits) > 1 and report.findings:
        blocks.append(Table(finding_grid(report)))
    if not blocks:
        return None
    return Chapter("findings", "Findings", tuple(blocks))


def _evolution(report: AuditReport) -> Chapter | None:
    if report.evolution is None:
        return None
    text = (
        "The same modules in every source, in the order given: an evolution where they are checkpoints of one run, a "
        "comparison where they are not."
    )
    tables = [Table(grid) for pair in content.grids(report) for grid in pair[1] if grid.title.startswith("From one")]
    return Chapter("evolution", "From one to the next", (Paragraph(text), *tables))


def _groups(report: AuditReport) -> list[Table]:
    if len(report.audits) != 1:
        return []
    return [Table(grid) for grid, _ in content.grids(report)]


def _modules(report: AuditReport) -> Chapter | None:
    tables: list[Block] = []
    for one in report.audits[:MOST_DRAWN]:
        grid = one_grid(within("modules", [module.name for module in one.modules]), module_columns(one, False))
        table = Table(grid, search="module")
        tables.append(table if len(report.audits) == 1 else Fold(printable(one.source, 120), (table,)))
    if len(report.audits) > MOST_DRAWN:
        text = (
            f"Of {len(report.audits):,} adapters the first {MOST_DRAWN} have their modules here; lorarank audit with "
            "-o makes a table of all."
        )
        tables.insert(0, Paragraph(text))
    return Chapter("modules", "Modules", tuple(tables)) if tables else None


def _exports(report: AuditReport, command: Sequence[str]) -> Chapter:
    items = [
        Code("Table", "text", laid_out(Page(WIDTH), content.lay, report).rstrip("\n")),
        Code("JSON", "json", to_json(report, command=command).rstrip("\n")),
    ]
    if len(report.audits) <= MOST_DRAWN:
        items.append(Code("CSV", "text", as_csv(rows(report)).rstrip("\n")))
    return Chapter("exports", "To use it elsewhere", (Tabs("Formats", tuple(items)),))
