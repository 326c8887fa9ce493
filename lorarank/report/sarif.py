"""Findings as SARIF 2.1.0, the format that code-scanning services take (floor 4).

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from lorarank import __version__
from lorarank.audit import AuditReport
from lorarank.audit.codes import CODES, Finding
from lorarank.errors import printable
from lorarank.report.json_text import as_json

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def to_sarif(report: AuditReport) -> str:
    """Findings of audits; a source that cannot be read is one, and makes the run unsuccessful."""
    found = [(one.finding, one.source) for one in report.unreadable]
    found += [(finding, audit.source) for audit in report.audits for finding in audit.findings]
    return run_of(found, successful=not report.unreadable)


def run_of(found: Iterable[tuple[Finding, str]], *, successful: bool = True) -> str:
    """One run: one rule per code and one result per finding, with its source; a module is a logical location in it."""
    rules = [
        {
            "id": code.code,
            "name": code.name,
            "shortDescription": {"text": code.meaning},
            "help": {"text": code.advice},
            "defaultConfiguration": {"level": code.level},
        }
        for code in CODES.values()
    ]
    run = {
        "tool": {"driver": {"name": "lorarank", "version": __version__, "rules": rules}},
        "results": [_result(finding, source) for finding, source in found],
        "invocations": [{"executionSuccessful": successful}],
        "columnKind": "unicodeCodePoints",
    }
    return as_json({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]})


def _result(finding: Finding, source: str) -> dict[str, Any]:
    location: dict[str, Any] = {"physicalLocation": {"artifactLocation": {"uri": _uri(source)}}}
    if finding.module is not None:
        location["logicalLocations"] = [{"fullyQualifiedName": printable(finding.module, 1000), "kind": "module"}]
    return {
        "ruleId": finding.code,
        "ruleIndex": list(CODES).index(finding.code),
        "level": finding.level,
        "message": {"text": printable(finding.message, 2000)},
        "locations": [location],
    }


def _uri(source: str) -> str:
    """A path, or a hub id, as a URI reference.

    >>> _uri("my lora/a"), _uri("/tmp/a")
    ('my%20lora/a', 'file:///tmp/a')
    """
    path = PurePath(source)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix(), safe="/@", errors="replace")
