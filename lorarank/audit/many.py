"""Thousands of sources into one table, and what they came to (floor 3)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from lorarank import __version__
from lorarank.audit.adapter import Audit
from lorarank.audit.codes import CODES
from lorarank.audit.options import AuditOptions
from lorarank.audit.rows import FINE_TUNE, Layout, Row, Value, WithCells, quantities
from lorarank.audit.several import Unreadable, attempt, unreadable
from lorarank.audit.table_file import TableFile
from lorarank.audit.workers import each

MOST_NAMED = 20
"""Sources that a summary names for ``fail_if`` before it only counts."""


@dataclass(frozen=True)
class Summary:
    """What a table of audits came to, rows of earlier runs included.

    Attributes
    ----------
    output : the table.
    sources : rows in it; ``earlier`` of them were there before, ``unreadable`` of them have no numbers.
    fine_tunes : rows that are of whole models, beside a base; the others are of adapters.
    parameters : stored LoRA parameters of all; ``reducible`` and ``idle`` are shares of them.
    ranks : keep rank → sources.
    codes : code → sources that have such a finding.
    seconds : wall time of this run.
    failed : how many sources ``fail_if`` holds for; ``named`` are the first of them.
    fail_if : the expression.
    """

    output: Path
    sources: int
    earlier: int
    unreadable: int
    fine_tunes: int
    parameters: int
    reducible: float
    idle: float
    ranks: Mapping[int, int]
    codes: Mapping[str, int]
    seconds: float
    failed: int
    named: tuple[str, ...]
    fail_if: str | None


class _Sums:
    """Running totals over rows."""

    def __init__(self, options: AuditOptions) -> None:
        self.options = options
        self.sources = self.unreadable = self.fine_tunes = self.parameters = self.failed = 0
        self.reducible = self.idle = 0.0
        self.ranks: Counter[int] = Counter()
        self.codes: Counter[str] = Counter()
        self.named: list[str] = []

    def add(self, row: Row) -> None:
        values = quantities(row)
        self.sources += 1
        self.codes.update(code for code in CODES if values[code])
        self.unreadable += row["status"] != "ok"
        self.fine_tunes += row["format"] == FINE_TUNE
        parameters = int(values.get("parameters", 0))
        self.parameters += parameters
        self.reducible += values.get("reducible", 0.0) * parameters
        self.idle += values.get("idle", 0.0) * parameters
        if "keep" in values:
            self.ranks[int(values["keep"])] += 1
        if self.options.condition is not None and self.options.condition.holds(values):
            self.failed += 1
            if len(self.named) < MOST_NAMED:
                self.named.append(str(row["source"]))


Attempt = Callable[[str, AuditOptions], "Audit | WithCells | Unreadable"]
"""What measures a source; what cannot be read is a result as well."""


def timed_row(source: str, options: AuditOptions, measure: Attempt) -> dict[str, Value]:
    """One source as a row; this is what runs in the other processes, and only the row travels back."""
    start = time.perf_counter()
    result = measure(source, options)
    return Layout(options.energy).row(result, time.perf_counter() - start, __version__)


def failed_row(source: str, message: str, options: AuditOptions) -> dict[str, Value]:
    """The row of a source whose process gave no result."""
    return Layout(options.energy).row(unreadable(source, message), 0.0, __version__)


def audit_many(
    sources: Sequence[str],
    output: Path,
    options: AuditOptions | None = None,
    *,
    measure: Attempt = attempt,
    jobs: int = 1,
    ray: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Summary:
    """Audit every source into a table, skipping those that it has already.

    Parameters
    ----------
    sources : paths or hub ids; see :func:`lorarank.audit.expand.expand`.
    output : ``.csv``, ``.jsonl`` or ``.parquet``; rows are added as they come.
    options : what to ask; defaults where left out.
    measure : what is done with each; picklable where that is in other processes.
    jobs, ray : where to work, see :func:`lorarank.audit.workers.each`.
    progress : called with sources done and sources in all, those skipped counted as done.

    Raises
    ------
    OptionError, RunError, MissingExtraError, ResourceError
        The table cannot be used, or the work cannot be started. A source that cannot be read is a row, no error.
    """
    options = options or AuditOptions()
    start, sums = time.perf_counter(), _Sums(options)
    with TableFile(output, Layout(options.energy), sums.add) as table:
        earlier = sums.sources
        todo = [source for source in sources if source not in table]
        done = len(sources) - len(todo)
        progress(done, len(sources))
        plain = replace(options, fail_if=None)  # an expression does not travel to other processes
        task, failed = partial(timed_row, options=plain, measure=measure), partial(failed_row, options=plain)
        for row in each(task, todo, failed, jobs=jobs, ray=ray):
            table.add(row)
            sums.add(row)
            done += 1
            progress(done, len(sources))
    return Summary(
        output=output,
        sources=sums.sources,
        earlier=earlier,
        unreadable=sums.unreadable,
        fine_tunes=sums.fine_tunes,
        parameters=sums.parameters,
        reducible=sums.reducible / sums.parameters if sums.parameters else 0.0,
        idle=sums.idle / sums.parameters if sums.parameters else 0.0,
        ranks=dict(sorted(sums.ranks.items())),
        codes=dict(sorted(sums.codes.items())),
        seconds=time.perf_counter() - start,
        failed=sums.failed,
        named=tuple(sums.named),
        fail_if=options.fail_if,
    )
