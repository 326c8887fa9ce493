"""``lorarank.convert`` (floor 5)."""

from __future__ import annotations

from lorarank.mirror import mirrored
from lorarank.resize.options import ConvertOptions
from lorarank.resize.stage import convert as _convert

convert = mirrored("convert", _convert, ConvertOptions)
