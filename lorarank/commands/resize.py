"""``lorarank.resize`` (floor 5)."""

from __future__ import annotations

from lorarank.mirror import mirrored
from lorarank.resize.options import ResizeOptions
from lorarank.resize.stage import resize as _resize

resize = mirrored("resize", _resize, ResizeOptions)
