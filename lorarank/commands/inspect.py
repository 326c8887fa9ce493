"""``lorarank.inspect`` (floor 5)."""

from __future__ import annotations

from lorarank.inspect.options import InspectOptions
from lorarank.inspect.stage import inspect as _inspect
from lorarank.mirror import mirrored

inspect = mirrored("inspect", _inspect, InspectOptions)
