"""``lorarank.heuristics`` (floor 5)."""

from __future__ import annotations

from lorarank.first_guess import first_guess as heuristics

__all__ = ["heuristics"]
