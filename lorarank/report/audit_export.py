"""Audits for files and other programs: JSON, Markdown, CSV (floor 4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from lorarank import __version__
from lorarank.audit import Audit, AuditReport
from lorarank.audit.adapter import SCHEMA
from lorarank.audit.figures import RANKS
from lorarank.audit.modules import ModuleAudit
from lorarank.audit.several import Evolution
from lorarank.report import audit as content
from lorarank.report.audit_grids import sparkline
from lorarank.report.plain import Records, as_csv, as_json, escaped, grid_to_markdown

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


def to_json(report: AuditReport, *, command: Sequence[str] = (), per_module: bool = False) -> str:
    """Everything as JSON with sorted keys; numbers that are not finite are null.

    ``command`` is what was run; ``per_module`` keeps the modules with all their singular values.
    """
    evolution, audits = report.evolution, report.audits
    plain = _fields(report) | {"command": list(command), "schema": SCHEMA, "lorarank": __version__}
    if not per_module:
        plain["audits"] = [_without_modules(audit) for audit in audits]
        plain["evolution"] = None if evolution is None else _without_modules(evolution)
    return as_json(plain)


def _fields(result: Any) -> dict[str, Any]:
    """``dataclasses.asdict`` would copy every singular value on its own."""
    return {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}


def _without_modules(result: Audit | Evolution) -> dict[str, Any]:
    found = _fields(result)
    del found["modules"]
    return found


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
