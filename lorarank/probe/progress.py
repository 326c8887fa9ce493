"""What a probe says while it works (floor 2, no torch)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a stage is: ``done`` of ``total``, and the newest loss where there is one."""

    stage: str
    done: int
    total: int
    loss: float | None = None


Report = Callable[[Progress], None]
