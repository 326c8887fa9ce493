"""``lorarank.plot`` (floor 5)."""

from __future__ import annotations

from collections.abc import Sequence

from lorarank.dossier import gather
from lorarank.mirror import mirrored
from lorarank.report.options import PlotOptions
from lorarank.report.pictures import Pictures, draw
from lorarank.sources import Source


def _plot(sources: Source | Sequence[Source], options: PlotOptions) -> Pictures:
    """The pictures of a run, a sweep or adapters.

    ``lorarank.plot("run").write("figures")`` writes them.

    Parameters
    ----------
    sources : as for a report.

    Returns
    -------
    Pictures : ``images`` are the files' contents by name.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    OptionError
        A run or a sweep beside other sources, or options that do not go with the sources.
    SourceError, AdapterError, RunError, NumericsError
        A source that is missing, damaged or unfinished.
    """
    return draw(gather(sources, options.estimate), options.kind)


plot = mirrored("plot", _plot, PlotOptions)
