"""Audits that were written as JSON, read again (floor 3)."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from lorarank.audit.adapter import Audit
from lorarank.audit.groups import GroupAudit
from lorarank.audit.modules import ModuleAudit
from lorarank.audit.options import AuditOptions
from lorarank.audit.several import AuditReport, Unreadable, report
from lorarank.errors import OptionError, RunError
from lorarank.json_files import read_json
from lorarank.sources import on_disk

SUFFIX = ".json"
FIRST_KEY = '"audits"'
"""Keys are sorted, so this one is the first of the file."""

MADE_BY = "lorarank audit SOURCE --per-module --format json"


def is_kept(source: str | Path) -> bool:
    """Whether a file is what ``lorarank audit --format json`` printed, by how it begins.

    >>> is_kept("no-such-audit.json"), is_kept("a" * 300)
    (False, False)
    """
    try:
        path = on_disk(source)
        if path is None or path.suffix != SUFFIX or not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(64)
        # what > writes is UTF-16 in PowerShell; a byte-order mark is no sign of JSON
        return head.decode(json.detect_encoding(head), "ignore").lstrip("{ \r\n\t").startswith(FIRST_KEY)
    except OSError:  # opening it as an adapter says what is wrong
        return False


def read(paths: Sequence[Path]) -> AuditReport:
    """What was audited, of several files together; what ``--fail-if`` asked when they were made is not asked again.

    Raises
    ------
    RunError
        A file is damaged, of another schema, at odds with itself, or was written without its modules.
    OptionError
        The files are at different shares of energy.
    """
    found = [_read(path) for path in paths]
    shares = {audit.energy for one in found for audit in one.audits}
    if len(shares) > 1:
        told = " and ".join(",".join(f"{share:.10g}" for share in each) for each in sorted(shares))
        what, why = f"audits at the shares {told}", "they cannot stand beside each other"
        raise OptionError(paths[-1], what, why=why, do="audit all of them at the same --energy")
    results: list[Audit | Unreadable] = []
    for one in found:
        results += [*one.audits, *one.unreadable]
    return report(results, AuditOptions())


def _read(path: Path) -> AuditReport:
    try:
        found = read_json(path, AuditReport)
        for one in found.audits:
            _check(one, path)
        return found
    except RunError as error:
        raise RunError(error.where, error.what, do=f"make it again with: {MADE_BY}") from None


def _check(found: Audit, path: Path) -> None:
    """What every other part of an audit takes for granted, and what types do not say."""
    parts: tuple[GroupAudit | ModuleAudit, ...] = (found.whole, *found.types, *found.layers, *found.modules)
    figures = [part.figures for part in parts if part.figures is not None]
    counts = {len(found.reductions), *(len(one.energy_ranks) for one in figures)}
    if not found.energy or counts != {len(found.energy)}:
        raise RunError(path, "not a rank and a reduction for each share of energy")
    if {kind.name for kind in found.types} != {module.type for module in found.modules}:
        raise RunError(path, "other types than those of its modules")
    for one in figures:
        values = one.singular_values
        if not all(0 <= value < math.inf for value in values) or list(values) != sorted(values, reverse=True):
            raise RunError(path, "singular values that do not descend to zero or above")
