"""A callback for transformers' and TRL's trainers: the spectra of the adapter while it trains (floor 2).

*trainer* is the callback itself and the one part that imports transformers; *live* finds the factors in the model,
*watch* turns their spectra into numbers to log and into warnings, *loggers* finds where the trainer logs to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lorarank.errors import needing
from lorarank.front import lazily, listed

if TYPE_CHECKING:
    from lorarank.callback.trainer import LoraRankCallback
    from lorarank.callback.watch import Reading, Warned

__all__ = ["LoraRankCallback", "Reading", "Warned"]

_HOMES = {"LoraRankCallback": "trainer", "Reading": "watch", "Warned": "watch"}
"""Where each name lives: it is imported when it is asked for, since the callback needs transformers and thus torch."""

_found = lazily(__name__, _HOMES)

if not TYPE_CHECKING:  # to a type checker it would be a package with every name
    __dir__ = listed(__name__, _HOMES)

    def __getattr__(name: str) -> Any:
        with needing(f"lorarank.{name}", "torch", "transformers", extra="probe"):
            return _found(name)
