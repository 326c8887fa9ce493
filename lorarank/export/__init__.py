"""A recommendation, or an adapter's own configuration, in the words of the tool that trains or serves it (floor 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorarank.front import lazily, listed

if TYPE_CHECKING:
    from lorarank.export.document import Call, Exported, Name, Script
    from lorarank.export.options import TOOLS, ExportOptions
    from lorarank.export.settings import Settings
    from lorarank.export.stage import export, write

__all__ = ["TOOLS", "Call", "ExportOptions", "Exported", "Name", "Script", "Settings", "export", "write"]

_HOMES = {
    "TOOLS": "options",
    "Call": "document",
    "ExportOptions": "options",
    "Exported": "document",
    "Name": "document",
    "Script": "document",
    "Settings": "settings",
    "export": "stage",
    "write": "stage",
}
"""Where each name lives: it is imported when it is asked for, so that a command's help costs no numpy."""

if not TYPE_CHECKING:  # to a type checker it would be a package with every name
    __getattr__ = lazily(__name__, _HOMES)
    __dir__ = listed(__name__, _HOMES)
