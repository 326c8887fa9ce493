"""Several sources: each audited, none stopping the others, and how ranks evolve over checkpoints (floor 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from lorarank.audit import codes
from lorarank.audit.adapter import Audit, audit, counted
from lorarank.audit.codes import Finding
from lorarank.audit.figures import Figures
from lorarank.audit.options import AuditOptions
from lorarank.audit.workers import each
from lorarank.errors import LorarankError, OptionError
from lorarank.result import Result
from lorarank.sources import Source


@dataclass(frozen=True)
class Unreadable:
    """A source that is no LoRA, or none that can be read: the one line that says why, as a finding."""

    source: str
    finding: Finding


class Measured(Protocol):
    """What has been measured of a source: of an adapter, or of a fine-tune."""

    @property
    def source(self) -> str:
        """As it was given."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is to be said about it."""

    @property
    def quantities(self) -> Mapping[str, float]:
        """What ``--fail-if`` compares, see :data:`lorarank.audit.condition.QUANTITIES`."""


@dataclass(frozen=True)
class Step:
    """One module or type over the sources in their order: its energy rank at the first share, and its norm."""

    name: str
    ranks: tuple[float | None, ...]
    norms: tuple[float | None, ...]


@dataclass(frozen=True)
class Evolution:
    """Sources that change the same modules, in the order given, as checkpoints of a run are: by type and by module."""

    share: float
    types: tuple[Step, ...]
    modules: tuple[Step, ...]


@dataclass(frozen=True)
class AuditReport(Result):
    """Audits in the order of the sources.

    Attributes
    ----------
    audits : of the sources that could be read; ``unreadable`` are the others.
    evolution : where two or more audits share all their modules, else ``None``.
    failed : sources for which ``fail_if`` holds.
    fail_if : the expression.
    """

    audits: tuple[Audit, ...]
    unreadable: tuple[Unreadable, ...] = ()
    evolution: Evolution | None = None
    failed: tuple[str, ...] = ()
    fail_if: str | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Of all sources."""
        return (*(one.finding for one in self.unreadable), *(f for audit in self.audits for f in audit.findings))


def attempt(source: Source, options: AuditOptions) -> Audit | Unreadable:
    """Audit a source; what cannot be read is a result too, so that one bad file never stops the rest.

    >>> attempt("lora-that-is-not-there", AuditOptions()).finding.code
    'LR000'
    """
    try:
        return audit(source, options)
    except LorarankError as error:
        return unreadable(source, str(error))
    except MemoryError:
        return unreadable(source, "Out of memory.")


def unreadable(source: Source, message: str) -> Unreadable:
    """A source that gave nothing but a message."""
    return Unreadable(str(source), codes.found(codes.UNREADABLE, message))


def audit_all(
    sources: Sequence[Source],
    options: AuditOptions | None = None,
    *,
    jobs: int = 1,
    ray: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> AuditReport:
    """Audit sources, and compare those that change the same modules.

    A single source that cannot be read raises as :func:`~lorarank.audit.adapter.audit` does; among several it is an
    entry of ``unreadable``.

    Parameters
    ----------
    sources : paths or hub ids, at least one.
    options : what to ask; defaults where left out.
    jobs, ray : where to work, see :func:`lorarank.audit.workers.each`; of a single source, ``jobs`` are the most
        processes that share its modules.
    progress : called with sources (of a single one: modules) done and in all.

    Raises
    ------
    OptionError
        No source, or ``jobs`` below 1.
    """
    options = options or AuditOptions()
    if not sources:
        raise OptionError("SOURCE", "holds no adapter", do="name an adapter, or a folder that has some in it")
    if jobs < 1:
        raise OptionError(f"--jobs {jobs}", "at least one process is needed")
    if len(sources) == 1:
        return report([audit(sources[0], options, jobs=jobs, progress=progress)], options)
    names = [str(source) for source in sources]
    results: dict[str, Audit | Unreadable] = {}
    task = partial(attempt, options=replace(options, fail_if=None))
    for result in each(task, names, unreadable, jobs=jobs, ray=ray):
        results[result.source] = result
        progress(len(results), len(names))
    return report([results[name] for name in names], options)


def report(results: Iterable[Audit | Unreadable], options: AuditOptions) -> AuditReport:
    """Put results together, in their order, and ask ``fail_if`` of each."""
    results = list(results)
    audits = tuple(result for result in results if isinstance(result, Audit))
    return AuditReport(
        audits=audits,
        unreadable=tuple(result for result in results if isinstance(result, Unreadable)),
        evolution=evolution(audits),
        failed=tuple(result.source for result in results if fails(result, options)),
        fail_if=options.fail_if,
    )


def fails(result: Measured | Unreadable, options: AuditOptions) -> bool:
    """Whether ``fail_if`` holds for a result; of an unreadable source only its finding is known."""
    if options.condition is None:
        return False
    return options.condition.holds(counted((result.finding,)) if isinstance(result, Unreadable) else result.quantities)


def evolution(audits: Sequence[Audit]) -> Evolution | None:
    """How ranks and norms change from each audit to the next, where all of them change the same modules."""
    shapes = [{module.name: (module.out_features, module.in_features) for module in one.modules} for one in audits]
    if len(audits) < 2 or any(shape != shapes[0] for shape in shapes):
        return None
    types = [{group.name: group.figures for group in one.types} for one in audits]
    modules = [{module.name: module.figures for module in one.modules} for one in audits]
    return Evolution(
        share=audits[0].energy[0],
        types=tuple(_step(kind.name, [one[kind.name] for one in types]) for kind in audits[0].types),
        modules=tuple(_step(module.name, [one[module.name] for one in modules]) for module in audits[0].modules),
    )


def _step(name: str, figures: Sequence[Figures | None]) -> Step:
    return Step(
        name=name,
        ranks=tuple(None if one is None else one.energy_ranks[0] for one in figures),
        norms=tuple(None if one is None else one.norm for one in figures),
    )
