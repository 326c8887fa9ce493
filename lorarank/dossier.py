"""Everything that a report shows about its sources, joined as one value (floor 3).

A probe run is estimated, adapters are audited, a sweep is read; each keeps its own result, and beside it lie the
spectra that pictures are drawn from. Nothing here renders.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

import lorarank.heuristics as heuristics
import lorarank.sweep as sweeping
from lorarank import adapters, runs
from lorarank.audit import Audit, AuditOptions, AuditReport, audit_all, kept
from lorarank.audit.expand import expand
from lorarank.audit.options import ENERGY
from lorarank.errors import OptionError
from lorarank.estimate import EstimateOptions, Recommendation, recommend
from lorarank.heuristics import Comparison
from lorarank.numerics.pooling import median_of
from lorarank.runs import Run
from lorarank.sources import Source, as_list, at_home
from lorarank.spectrum import Spectrum, measure
from lorarank.sweep import Sweep
from lorarank.wording import percent

MOST_DRAWN = 12
"""Adapters of which every picture is drawn; further ones are in the tables."""

MOST_EMPTY = 4
"""Cells of a map of layers and types for each that holds something: a map with more of them is white paper."""


@dataclass(frozen=True)
class Part:
    """One module: ``rank`` is its energy rank (``None`` where it could not be measured), ``energy`` its share of the
    adapter's Σσ², ``singular_values`` descending, scaling included, in the metric of its :class:`Update`;
    ``agreement`` is that with the replicates, where there are any.
    """

    name: str
    type: str
    layer: int | None
    r: int
    rank: int | None
    energy: float
    singular_values: tuple[float, ...]
    agreement: float | None = None


class Cell(NamedTuple):
    """Modules that share layer and type: the energy-weighted median of their ranks and mean of their agreements.

    ``rank`` is ``None`` where nothing was measured, ``agreement`` where there are no replicates.
    """

    rank: float | None
    agreement: float | None


@dataclass(frozen=True)
class Update:
    """What pictures of one adapter are drawn from.

    Attributes
    ----------
    source : as it was given; of a run the adapter's folder.
    share, metric : of the energy ranks and singular values.
    parameters_per_rank : Σ(out + in) over its modules.
    parts : its modules, in their order.

    >>> parts = (Part("layers.1.q", "q", 1, 8, 3, 0.8, (2.0, 1.0)), Part("layers.0.q", "q", 0, 8, 1, 0.2, (1.0,)))
    >>> update = Update("adapter", 0.9, "weight", 256, parts)
    >>> update.types, update.layers, update.cells[1, "q"].rank
    (('q',), (0, 1), 3.0)
    """

    source: str
    share: float
    metric: str
    parameters_per_rank: int
    parts: tuple[Part, ...]

    @property
    def types(self) -> tuple[str, ...]:
        """Module types in order of appearance."""
        return tuple(dict.fromkeys(part.type for part in self.parts))

    @property
    def layers(self) -> tuple[int | None, ...]:
        """Layers in order; modules outside all layers last."""
        return tuple(sorted({part.layer for part in self.parts}, key=lambda layer: (layer is None, layer or 0)))

    @property
    def cells(self) -> dict[tuple[int | None, str], Cell]:
        """(layer, type) → its modules together."""
        members: dict[tuple[int | None, str], list[Part]] = {}
        for part in self.parts:
            members.setdefault((part.layer, part.type), []).append(part)
        return {key: _cell(parts) for key, parts in members.items()}

    @property
    def crosses(self) -> bool:
        """Whether layers cross types, so that a map of them shows something."""
        return len(self.types) * len(self.layers) <= MOST_EMPTY * len(self.cells)


@dataclass(frozen=True)
class Dossier:
    """What a report is about.

    Attributes
    ----------
    kind : "run", "adapters" or "sweep".
    sources : as they were given.
    reference : the row of the reference table, where a task was named, beside the answer.
    answer, run : of a probe run.
    audits : of adapters.
    sweep : of a sweep's folder.
    updates : what can be drawn, an entry an adapter; of a run its first replicate.
    """

    kind: str
    sources: tuple[str, ...]
    reference: Comparison
    answer: Recommendation | None = None
    run: Run | None = None
    audits: AuditReport | None = None
    sweep: Sweep | None = None
    updates: tuple[Update, ...] = ()

    @property
    def unreadable(self) -> int:
        """How many of several sources could not be read."""
        return 0 if self.audits is None else len(self.audits.unreadable)

    @property
    def refused(self) -> bool:
        """Whether the evidence of a run does not carry a recommendation."""
        return self.answer is not None and self.answer.refused


def gather(
    sources: Source | Sequence[Source],
    options: EstimateOptions | None = None,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Dossier:
    """Read and measure what a report on ``sources`` shows.

    Parameters
    ----------
    sources : the folder of a probe run; or that of a sweep; or one or more adapters, each a folder, a file, a hub id
        ``owner/name[@revision]``, or a folder of adapters; or audits that were kept as JSON with their modules.
    options : as of an estimate; for adapters ``energy`` and ``task`` count, and the others need a run.
    progress : called with sources (of a single adapter: modules) done and in all.

    Raises
    ------
    OptionError
        A run or a sweep beside other sources, or options that do not go with the sources.
    SourceError, AdapterError, RunError, NumericsError
        A source that is missing, damaged or unfinished.

    >>> gather([])
    Traceback (most recent call last):
    ...
    lorarank.errors.OptionError: SOURCE: nothing was given. Give a run folder, a sweep folder or an adapter.
    """
    options = options or EstimateOptions()
    given = as_list(sources)
    if not given:
        raise OptionError("SOURCE", "nothing was given", do="give a run folder, a sweep folder or an adapter")
    for source in given:
        for kind, holds, of in (("sweep", sweeping.is_sweep, _of_sweep), ("run", runs.is_run, _of_run)):
            folder = runs.folder_of(source, holds)
            if folder is not None and len(given) > 1:
                raise OptionError(
                    source, f"it is a {kind}, which is reported alone", do="give it without other sources"
                )
            if folder is not None:
                return of(folder, options)
    return _of_adapters([str(source) for source in given], options, progress)


def _of_run(folder: Path, options: EstimateOptions) -> Dossier:
    answer = recommend(folder, options)
    run = runs.read(folder)
    share = answer.rule.share if answer.rule is not None else ENERGY[0]
    first = run.adapters[0]
    spectra: tuple[Spectrum, ...] = ()
    if answer.modules:  # none where an adapter holds NaN, which the refusal says
        spectra = measure(adapters.open(first), metric=options.metric, moments=run.moments)
    found = {module.name: module for module in answer.modules}
    parts = tuple(
        Part(
            one.module,
            one.type,
            one.layer,
            one.r,
            found[one.module].rank,
            found[one.module].energy,
            tuple(one.singular_values.tolist()),
            found[one.module].agreement,
        )
        for one in spectra
    )
    per_rank = sum(one.parameters_per_rank for one in spectra)
    updates = (Update(str(first), share, options.metric, per_rank, parts),) if parts else ()
    return Dossier("run", (str(folder),), answer.heuristics, answer=answer, run=run, updates=updates)


def _of_sweep(folder: Path, options: EstimateOptions) -> Dossier:
    if options.keep_loss != EstimateOptions.keep_loss:
        what = "a sweep is judged by what its own command allowed"
        raise OptionError("--keep-loss", what, do="give it to the same lorarank sweep again: its points are kept")
    _needs_run(options, "a sweep")
    if options.energy is not None:
        raise OptionError("--energy", "a sweep measures losses and no spectra", do="leave it out")
    found = sweeping.read(folder)
    answered = found.outcome.r_sufficient if found.outcome.learned else None
    return Dossier("sweep", (str(folder),), heuristics.compare(answered, options.task), sweep=found)


def _of_adapters(sources: list[str], options: EstimateOptions, progress: Callable[[int, int], None]) -> Dossier:
    _needs_run(options, "an adapter")
    if all(kept.is_kept(source) for source in sources):
        return _of_audits(sources, options)
    shares: tuple[float, ...] = ENERGY
    if options.energy is not None:
        shares = (options.energy, *(share for share in ENERGY if percent(share) != percent(options.energy)))
    report = audit_all(expand(sources), AuditOptions(energy=shares), progress=progress)
    return _of_report(sources, report, options)


def _of_audits(sources: list[str], options: EstimateOptions) -> Dossier:
    if options.energy is not None:
        raise OptionError("--energy", "an audit that was kept has its own shares", do="leave it out")
    return _of_report(sources, kept.read([Path(at_home(source)) for source in sources]), options)


def _of_report(sources: list[str], report: AuditReport, options: EstimateOptions) -> Dossier:
    updates = tuple(_update_of(one) for one in report.audits[:MOST_DRAWN])
    reference = heuristics.compare(None, options.task)
    return Dossier("adapters", tuple(sources), reference, audits=report, updates=updates)


def _needs_run(options: EstimateOptions, what: str) -> None:
    if options.metric != EstimateOptions.metric:
        raise OptionError(f"--metric {options.metric}", f"{what} does not hold the moments it needs", do="give a run")
    if options.budget is not None:
        raise OptionError("--budget", "ranks to train at need a run", do="probe first, then report on the run folder")
    if options.keep_loss != EstimateOptions.keep_loss:
        raise OptionError("--keep-loss", f"{what} is not judged by it here", do="give a run, or leave it out")
    if options.tokens is not None:
        raise OptionError("--tokens", f"{what} says nothing of a training's length", do="give a run, or leave it out")


def _update_of(audit: Audit) -> Update:
    whole = audit.whole.figures.norm if audit.whole.figures is not None else 0.0
    parts = tuple(
        Part(
            one.name,
            one.type,
            one.layer,
            one.r,
            None if one.figures is None else int(one.figures.energy_ranks[0]),
            (one.figures.norm / whole) ** 2 if one.figures is not None and whole > 0 else 0.0,
            () if one.figures is None else one.figures.singular_values,
        )
        for one in audit.modules
    )
    per_rank = sum(one.parameters_per_rank for one in audit.modules)
    return Update(audit.source, audit.energy[0], "weight", per_rank, parts)


def _cell(parts: Sequence[Part]) -> Cell:
    known = [(part.rank, part.energy) for part in parts if part.rank is not None]
    weights = np.array([energy for _, energy in known])
    agreed = [(part.agreement, part.energy) for part in parts if part.agreement is not None]
    total = sum(energy for _, energy in agreed)
    return Cell(
        rank=median_of([rank for rank, _ in known], weights) if known else None,
        agreement=sum(one * energy for one, energy in agreed) / total if total > 0 else None,
    )
