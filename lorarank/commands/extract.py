"""``lorarank.extract`` (floor 5)."""

from __future__ import annotations

from lorarank.fine_tune.extract import extract

__all__ = ["extract"]
