"""``lorarank.estimate`` (floor 5)."""

from __future__ import annotations

from lorarank.estimate.options import EstimateOptions
from lorarank.estimate.stage import recommend
from lorarank.mirror import mirrored

estimate = mirrored("estimate", recommend, EstimateOptions)
