"""``lorarank.export`` (floor 5)."""

from __future__ import annotations

from lorarank.export.options import ExportOptions
from lorarank.export.stage import export as _export
from lorarank.mirror import mirrored

export = mirrored("export", _export, ExportOptions)
