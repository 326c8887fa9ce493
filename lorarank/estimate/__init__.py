"""From spectra and a run's evidence to a rank, or to a refusal (floor 2).

*stage* is the whole of it: *rule* turns spectra into a number, *readings* puts interval, keep rank and alpha around
it, *evidence* says whether to believe it, *summary* breaks it down, *advice* makes it something to paste, *reasons*
tells it in sentences. Every threshold is in *constants*, with its source.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lorarank.estimate.options import EstimateOptions
    from lorarank.estimate.recommendation import Recommendation
    from lorarank.estimate.stage import recommend

__all__ = ["EstimateOptions", "Recommendation", "recommend"]

_HOMES = {"EstimateOptions": "options", "Recommendation": "recommendation", "recommend": "stage"}
"""Where each name lives: it is imported when it is asked for, since other stages need a constant or two alone."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
