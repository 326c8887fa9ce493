"""Audits for files and other programs: Markdown and CSV (floor 4)."""

from __future__ import annotations

from typing import Any

from lorarank.audit import Audit, AuditReport
from lorarank.audit.figures import RANKS
from lorarank.audit.modules import ModuleAudit
from lorarank.report import audit as content
from lorarank.report.audit_grids import sparkline
from lorarank.report.plain import Records, as_csv, escaped, grid_to_markdown

MODULE_FIELDS = (
    "name",
    "type",
    "layer",
    "kind",
    "dtype",
    "out_features",
    "in_features",
    "r",
    "scaling",
    "parameters",
    "problem",
)


def to_markdown(report: AuditReport, *, per_module: bool = False, by_size: bool = False) -> str:
    """The report for a terminal as Markdown."""
    parts = [f"**{escaped(content.headline(report))}**"]
    if len(report.audits) == 1 and not report.unreadable:
        lines = (f"- **{escaped(label)}:** {escaped(text)}" for label, text in content.facts(report.audits[0]))
        parts.append("\n".join(lines))
    for title, sentences in content.sections(report):
        parts += [f"### {escaped(title)}", "\n".join(f"- {escaped(sentence)}" for sentence in sentences)]
    for grid, _ in content.grids(report, per_module=per_module, by_size=by_size):
        parts += [f"### {escaped(grid.title)}", grid_to_markdown(grid)]
    return "\n\n".join(parts) + "\n"


def rows(report: AuditReport) -> Records:
    """A row a module of every source; a source that could not be read has one row with its problem."""
    energy = [f"energy_rank_{share:.10g}" for share in (report.audits[0].energy if report.audits else ())]
    names = ("source", *MODULE_FIELDS, "norm", "sigma_1", *energy, *RANKS, "spectrum", "findings")
    blank = dict.fromkeys(names)
    unread = [
        tuple((blank | {"source": x.source, "findings": x.finding.code, "problem": x.finding.message}).values())
        for x in report.unreadable
    ]
    return Records(names, (*unread, *(_row(audit, module) for audit in report.audits for module in audit.modules)))


def to_csv(report: AuditReport) -> str:
    """:func:`rows` as CSV."""
    return as_csv(rows(report))


def _row(audit: Audit, module: ModuleAudit) -> tuple[Any, ...]:
    figures = module.figures
    numbers: list[Any] = [None] * (2 + len(audit.energy) + len(RANKS) + 1)
    if figures is not None:
        ranks = [getattr(figures, name) for name in RANKS]
        numbers = [figures.norm, figures.sigma_1, *figures.energy_ranks, *ranks, sparkline(figures.singular_values)]
    codes = " ".join(finding.code for finding in audit.findings if finding.module == module.name)
    return (audit.source, *(getattr(module, name) for name in MODULE_FIELDS), *numbers, codes)
