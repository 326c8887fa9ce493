"""A recommendation, or an adapter's own configuration, in the words of the tool that trains or serves it (floor 3)."""

from lorarank.export.document import Call, Exported, Name, Script
from lorarank.export.options import TOOLS, ExportOptions
from lorarank.export.settings import Settings
from lorarank.export.stage import export, write

__all__ = ["TOOLS", "Call", "ExportOptions", "Exported", "Name", "Script", "Settings", "export", "write"]
