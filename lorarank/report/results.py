"""How every result is written down: as JSON, as rows, and on a sheet (floor 4).

:class:`lorarank.result.Result` finds the presenter of a result here.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lorarank.audit import Audit, AuditReport
from lorarank.compare import Compared
from lorarank.diagnose import Diagnosis
from lorarank.errors import MissingExtraError, OptionError
from lorarank.estimate import Recommendation
from lorarank.export import Exported
from lorarank.fine_tune import Extraction, FineTune
from lorarank.first_guess import FirstGuess
from lorarank.inspect import Inspection
from lorarank.report import (
    audit,
    audit_json,
    audit_rows,
    compared,
    diagnosed,
    exported,
    fine_tune,
    inspected,
    probed,
    recommended,
    reference,
    resized,
    sweep,
)
from lorarank.report.notebook import Notebook
from lorarank.report.page import Page
from lorarank.report.plain import Records, laid_out
from lorarank.resize import Resized
from lorarank.runs import Run
from lorarank.sweep import Sweep

LIBRARIES = ("pandas", "polars")
"""Of data frames, the more usual first."""


@dataclass(frozen=True)
class Presenter:
    """What is known of one class of results.

    Attributes
    ----------
    json : result and whether to include every module → what ``--format json`` prints.
    rows : result → its rows.
    lay : puts a result on a sheet.
    text : result → what its command prints, where that is not laid out on a sheet.
    """

    json: Callable[[Any, bool], str]
    rows: Callable[[Any], Records]
    lay: Callable[[Any, Any], None]
    text: Callable[[Any], str] | None = None


def _always(to_json: Callable[[Any], str]) -> Callable[[Any, bool], str]:
    return lambda result, per_module: to_json(result)


def _asked(to_json: Callable[..., str]) -> Callable[[Any, bool], str]:
    return lambda result, per_module: to_json(result, per_module=per_module)


PRESENTERS: dict[type, Presenter] = {
    Audit: Presenter(
        lambda one, per_module: audit_json.to_json(AuditReport((one,)), per_module=per_module),
        lambda one: audit_rows.rows(AuditReport((one,))),
        lambda page, one: audit.lay(page, AuditReport((one,))),
    ),
    AuditReport: Presenter(_asked(audit_json.to_json), audit_rows.rows, audit.lay),
    Compared: Presenter(_always(compared.to_json), compared.rows, compared.lay),
    Diagnosis: Presenter(_always(diagnosed.to_json), diagnosed.rows, diagnosed.lay),
    Exported: Presenter(_always(exported.to_json), exported.rows, exported.lay, exported.to_text),
    Extraction: Presenter(_always(fine_tune.extraction_json), fine_tune.extraction_rows, fine_tune.lay_extraction),
    FineTune: Presenter(_asked(fine_tune.to_json), fine_tune.rows, fine_tune.lay),
    FirstGuess: Presenter(_always(reference.to_json), reference.rows, reference.lay),
    Inspection: Presenter(_always(inspected.to_json), inspected.rows, inspected.lay),
    Recommendation: Presenter(_asked(recommended.to_json), recommended.rows, recommended.lay),
    Resized: Presenter(_always(resized.to_json), resized.rows, resized.lay),
    Run: Presenter(_always(probed.to_json), probed.rows, probed.lay),
    Sweep: Presenter(_always(sweep.to_json), sweep.rows, sweep.lay),
}
"""Every class of results."""


def text(result: Any) -> str:
    """A result as its command prints it into a file: without colours, 100 columns wide."""
    presenter = PRESENTERS[type(result)]
    return laid_out(Page(), presenter.lay, result) if presenter.text is None else presenter.text(result)


def html(result: Any) -> str:
    """A result for a notebook."""
    return laid_out(Notebook(), PRESENTERS[type(result)].lay, result)


def frame(found: Records, library: str | None = None) -> Any:
    """Rows as a data frame; see :meth:`lorarank.result.Result.to_frame`.

    >>> frame(Records(("r",), ((8,),)), "numpy")
    Traceback (most recent call last):
    ...
    lorarank.errors.OptionError: to_frame('numpy'): no such library. Choose among: pandas, polars.
    """
    if library is not None and library not in LIBRARIES:
        raise OptionError(f"to_frame({library!r})", "no such library", do=f"choose among: {', '.join(LIBRARIES)}")
    wanted = [library] if library else sorted(LIBRARIES, key=lambda name: name not in sys.modules)
    there = next((name for name in wanted if importlib.util.find_spec(name) is not None), None)
    if there is None:
        raise MissingExtraError("to_frame", " or ".join(wanted), "polars" if library == "polars" else "frame")
    frames = importlib.import_module(there)
    if there == "pandas":
        return frames.DataFrame.from_records(list(found.rows), columns=list(found.names))
    return frames.DataFrame(list(found.rows), schema=list(found.names), orient="row", infer_schema_length=None)
