"""From spectra and a run's evidence to a rank, or to a refusal (floor 2).

``recommend`` is the whole stage: *rule* turns spectra into a number, *readings* puts interval, keep rank and alpha
around it, *evidence* says whether to believe it, *summary* breaks it down, *advice* makes it something to paste,
*reasons* tells it in sentences. Every threshold is in *constants*, with its source.
"""

from lorarank.estimate.options import EstimateOptions
from lorarank.estimate.recommend import recommend
from lorarank.estimate.recommendation import Recommendation

__all__ = ["EstimateOptions", "Recommendation", "recommend"]
