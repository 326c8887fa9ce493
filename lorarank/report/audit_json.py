"""Audits as JSON (floor 4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from lorarank import __version__
from lorarank.audit import Audit, AuditReport
from lorarank.audit.adapter import SCHEMA
from lorarank.audit.several import Evolution
from lorarank.report.json_text import as_json


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
