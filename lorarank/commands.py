"""The commands as functions, as ``lorarank.estimate`` and so on (floor 5).

Each takes what the command takes: its arguments, and the fields of its options dataclass as keywords. What only a
command line needs, formats and files for reports, is not among them: results have ``to_dict``, ``to_frame`` and
``_repr_html_``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lorarank.audit.expand import expand
from lorarank.audit.options import AuditOptions
from lorarank.audit.several import AuditReport, audit_all
from lorarank.compare.options import CompareOptions
from lorarank.compare.stage import compare as _compare
from lorarank.diagnose.options import DiagnoseOptions
from lorarank.diagnose.stage import diagnose as _diagnose
from lorarank.dossier import gather
from lorarank.estimate.options import EstimateOptions
from lorarank.estimate.stage import recommend
from lorarank.export.options import ExportOptions
from lorarank.export.stage import export as _export
from lorarank.fine_tune.extract import extract
from lorarank.first_guess import first_guess as heuristics
from lorarank.inspect.options import InspectOptions
from lorarank.inspect.stage import inspect as _inspect
from lorarank.mirror import mirrored
from lorarank.probe import ProbeOptions
from lorarank.probe import probe as _probe
from lorarank.report import chapters
from lorarank.report.chapters.blocks import Document
from lorarank.report.pictures import Pictures, PlotOptions, draw
from lorarank.resize.options import ConvertOptions, ResizeOptions
from lorarank.resize.stage import convert as _convert
from lorarank.resize.stage import resize as _resize
from lorarank.sweep import SweepOptions
from lorarank.sweep import sweep as _sweep

__all__ = [
    "audit",
    "compare",
    "convert",
    "diagnose",
    "estimate",
    "export",
    "extract",
    "heuristics",
    "inspect",
    "plot",
    "probe",
    "report",
    "resize",
    "sweep",
]

Source = str | Path


def _sources(sources: Source | Sequence[Source]) -> list[str]:
    return [str(source) for source in ([sources] if isinstance(sources, str | Path) else sources)]


def _audit(sources: Source | Sequence[Source], options: AuditOptions) -> AuditReport:
    """Say which rank each module of adapters really uses, and what is wrong with it.

    A single source that cannot be read raises; among several it is an entry of ``unreadable``. For a full fine-tune
    see :func:`lorarank.fine_tune.compare_models`, and for thousands :func:`lorarank.audit.many.audit_many`.

    Parameters
    ----------
    sources : one or several: a folder, a file, a hub id ``owner/name[@revision]``, a pattern such as ``adapters/**``,
        or a folder of adapters.

    Returns
    -------
    AuditReport : an audit for each source, in their order.

    Raises
    ------
    SourceError, AdapterError, MissingExtraError
        The only source cannot be read as a LoRA.
    OptionError
        An option out of its range, or no source.
    """
    return audit_all(expand(_sources(sources)), options)


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
    return chapters.document(gather(_sources(sources), options))


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
    return draw(gather(_sources(sources), options.estimate), options.kind)


audit = mirrored("audit", _audit, AuditOptions)
compare = mirrored("compare", _compare, CompareOptions)
convert = mirrored("convert", _convert, ConvertOptions)
diagnose = mirrored("diagnose", _diagnose, DiagnoseOptions)
estimate = mirrored("estimate", recommend, EstimateOptions)
export = mirrored("export", _export, ExportOptions)
inspect = mirrored("inspect", _inspect, InspectOptions)
plot = mirrored("plot", _plot, PlotOptions)
probe = mirrored("probe", _probe, ProbeOptions)
report = mirrored("report", _report, EstimateOptions)
resize = mirrored("resize", _resize, ResizeOptions)
sweep = mirrored("sweep", _sweep, SweepOptions)
