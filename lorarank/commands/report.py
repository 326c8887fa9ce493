"""``lorarank.report`` (floor 5)."""

from __future__ import annotations

from collections.abc import Sequence

from lorarank.dossier import gather
from lorarank.estimate.options import EstimateOptions
from lorarank.mirror import mirrored
from lorarank.report import chapters
from lorarank.report.chapters.blocks import Document
from lorarank.sources import Source


def _report(sources: Source | Sequence[Source], options: EstimateOptions) -> Document:
    """Everything there is to say about a run, a sweep or adapters, with charts.

    ``lorarank.report("run").write("report.html")`` writes it.

    Parameters
    ----------
    sources : the folder of a probe, or of a sweep; or one or several adapters, or audits that were kept as JSON.

    Returns
    -------
    Document : the report; ``write`` makes an HTML file or Markdown of it.

    Raises
    ------
    OptionError
        A run or a sweep beside other sources, or options that do not go with the sources.
    SourceError, AdapterError, RunError, NumericsError
        A source that is missing, damaged or unfinished.
    """
    return chapters.document(gather(sources, options))


report = mirrored("report", _report, EstimateOptions)
