"""``lorarank.diagnose`` (floor 5)."""

from __future__ import annotations

from lorarank.diagnose.options import DiagnoseOptions
from lorarank.diagnose.stage import diagnose as _diagnose
from lorarank.mirror import mirrored

diagnose = mirrored("diagnose", _diagnose, DiagnoseOptions)
