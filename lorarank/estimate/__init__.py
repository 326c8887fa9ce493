"""From spectra and a run's evidence to a rank, or to a refusal (floor 2).

*stage* is the whole of it: *rule* turns spectra into a number, *readings* puts interval, keep rank and alpha around
it, *evidence* says whether to believe it, *summary* breaks it down, *advice* makes it something to paste, *reasons*
tells it in sentences. Every threshold is in *constants*, with its source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorarank.front import lazily, listed

if TYPE_CHECKING:
    from lorarank.estimate.options import EstimateOptions
    from lorarank.estimate.recommendation import Recommendation
    from lorarank.estimate.stage import recommend

__all__ = ["EstimateOptions", "Recommendation", "recommend"]

_HOMES = {"EstimateOptions": "options", "Recommendation": "recommendation", "recommend": "stage"}
"""Where each name lives: it is imported when it is asked for, since other stages need a constant or two alone."""

if not TYPE_CHECKING:  # to a type checker it would be a package with every name
    __getattr__ = lazily(__name__, _HOMES)
    __dir__ = listed(__name__, _HOMES)
