"""``lorarank.probe`` (floor 5)."""

from __future__ import annotations

from lorarank.mirror import mirrored
from lorarank.probe import probe as _probe
from lorarank.probe.options import ProbeOptions

probe = mirrored("probe", _probe, ProbeOptions)
