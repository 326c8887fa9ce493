"""From an adapter to what it really uses, module by module (floor 3).

``audit`` is the whole stage for one source, ``audit_all`` for several. *figures* reads the numbers off a spectrum,
*modules* and *groups* say what they belong to, *reduction* what a cut would leave, *serving* what an engine would make
of it; *findings* turns all that into *codes*, and *condition* is the language that ``--fail-if`` asks them in.

An adapter says what was used, not what a task needs: nothing here is a train rank.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorarank.front import lazily, listed

if TYPE_CHECKING:
    from lorarank.audit.adapter import Audit, audit
    from lorarank.audit.codes import CODES, Finding
    from lorarank.audit.options import AuditOptions
    from lorarank.audit.several import AuditReport, Unreadable, audit_all

__all__ = ["CODES", "Audit", "AuditOptions", "AuditReport", "Finding", "Unreadable", "audit", "audit_all"]

_HOMES = {
    "Audit": "adapter",
    "audit": "adapter",
    "CODES": "codes",
    "Finding": "codes",
    "AuditOptions": "options",
    "AuditReport": "several",
    "Unreadable": "several",
    "audit_all": "several",
}
"""Where each name lives: it is imported when it is asked for, so that a command's help costs no numpy."""

if not TYPE_CHECKING:  # to a type checker it would be a package with every name
    __getattr__ = lazily(__name__, _HOMES)
    __dir__ = listed(__name__, _HOMES)
