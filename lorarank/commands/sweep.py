"""``lorarank.sweep`` (floor 5)."""

from __future__ import annotations

from lorarank.mirror import mirrored
from lorarank.sweep.options import SweepOptions
from lorarank.sweep.stage import sweep as _sweep

sweep = mirrored("sweep", _sweep, SweepOptions)
