"""Audits as rows, for CSV and data frames (floor 4)."""

from __future__ import annotations

from typing import Any

from lorarank.audit import Audit, AuditReport
from lorarank.audit.figures import RANKS
from lorarank.audit.modules import ModuleAudit
from lorarank.report.audit_grids import sparkline
from lorarank.report.plain import Records

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


def rows(report: AuditReport) -> Records:
    """One row per module of every source; a source that could not be read has one row with its problem."""
    energy = [f"energy_rank_{share:.10g}" for share in (report.audits[0].energy if report.audits else ())]
    names = ("source", *MODULE_FIELDS, "norm", "sigma_1", *energy, *RANKS, "spectrum", "findings")
    blank = dict.fromkeys(names)
    unread = [
        tuple((blank | {"source": x.source, "findings": x.finding.code, "problem": x.finding.message}).values())
        for x in report.unreadable
    ]
    return Records(names, (*unread, *(_row(audit, module) for audit in report.audits for module in audit.modules)))


def _row(audit: Audit, module: ModuleAudit) -> tuple[Any, ...]:
    figures = module.figures
    numbers: list[Any] = [None] * (2 + len(audit.energy) + len(RANKS) + 1)
    if figures is not None:
        ranks = [getattr(figures, name) for name in RANKS]
        numbers = [figures.norm, figures.sigma_1, *figures.energy_ranks, *ranks, sparkline(figures.singular_values)]
    codes = " ".join(finding.code for finding in audit.findings if finding.module == module.name)
    return (audit.source, *(getattr(module, name) for name in MODULE_FIELDS), *numbers, codes)
