"""``lorarank.compare`` (floor 5)."""

from __future__ import annotations

from lorarank.compare.options import CompareOptions
from lorarank.compare.stage import compare as _compare
from lorarank.mirror import mirrored

compare = mirrored("compare", _compare, CompareOptions)
