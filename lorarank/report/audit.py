"""What a report on audits says, and the report on a sheet (floor 4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lorarank.audit import Audit, AuditReport, Finding
from lorarank.audit.codes import CODES
from lorarank.audit.several import Step
from lorarank.errors import printable
from lorarank.report.audit_grids import (
    adapter_grid,
    evolution_grids,
    finding_grid,
    group_columns,
    module_columns,
    one_grid,
    scientific,
    two_grids,
    within,
)
from lorarank.report.plain import Grid, Sheet
from lorarank.wording import between, first_few, percent

MOST_TOLD = 4
"""Sources whose findings are stated in sentences; of more, a table counts them."""

MOST_NAMED = 3
"""Modules that a finding names before it counts the rest."""


def headline(report: AuditReport) -> str:
    """What was found, in one sentence."""
    if len(report.audits) == 1 and not report.unreadable:
        return _headline_of(report.audits[0])
    count = len(report.audits) + len(report.unreadable)
    ending = f", {len(report.unreadable):,} of them unreadable" if report.unreadable else ""
    return f"{count:,} sources{ending}; findings: {tally(report.findings)}."


def _headline_of(audit: Audit) -> str:
    whole, first = audit.whole, audit.reductions[0]
    if whole.figures is None:
        return f"Nothing could be measured: {tally(audit.findings)}."
    if whole.figures.sigma_1 == 0:
        return f"The update is zero: {_all(whole.modules)} {'do' if whole.modules > 1 else 'does'} nothing."
    of = f" of all {whole.modules:,} modules together"
    if whole.measured < whole.modules:
        of = f" of the {whole.measured:,} modules together that could be measured"
    return (
        f"Keep rank {first.uniform} of {between(*whole.r)}: it keeps {percent(first.share)} of the energy"
        f"{of if whole.modules > 1 else ''}. Findings: {tally(audit.findings)}."
    )


def tally(findings: Iterable[Finding]) -> str:
    """How many findings there are of each level.

    >>> tally([Finding("LR002", "warning", "Zero.", "q")]), tally([])
    ('1 warning', 'none')
    """
    levels = [finding.level for finding in findings]
    counts = [(level, levels.count(level)) for level in ("error", "warning", "note")]
    return ", ".join(f"{n:,} {level}{'s' if n > 1 else ''}" for level, n in counts if n) or "none"


def facts(audit: Audit) -> list[tuple[str, str]]:
    """The figures of one adapter, as label and text."""
    whole, serving = audit.whole, audit.serving
    base = f", for {printable(audit.base_model)}" if audit.base_model else ""
    beside = f"; {audit.carried:,} other tensor{'s' if audit.carried > 1 else ''}" if audit.carried else ""
    found = [
        ("adapter", printable(audit.source)),
        ("format", f"{audit.format}, {printable(' and '.join(audit.dtypes))}{base}"),
        (
            "size",
            f"{whole.parameters:,} parameters in {_modules(whole.modules)}, r = {between(*whole.r)}, "
            f"scaling {between(*whole.scaling)}{beside}",
        ),
    ]
    if whole.figures is None:
        return found
    found.append(("update", f"‖ΔW‖ = {scientific(whole.figures.norm)}, σ₁ = {scientific(whole.figures.sigma_1)}"))
    found += [
        (
            f"keep {percent(cut.share)}",
            f"r = {cut.uniform} everywhere, {cut.uniform_parameters:,} parameters; or a rank for each module, "
            f"{cut.parameters:,} ({percent(cut.saved, 0)} fewer)",
        )
        for cut in audit.reductions
    ]
    found.append(("idle", f"{percent(audit.idle, 1)} of the parameters do nothing"))
    if audit.format == "peft" and not (serving.too_large or serving.rescaled or serving.refused):
        found.append(("serving", f"up to rank {serving.rank} and without patterns it is the same update"))
    found.append(("not told", "the rank a task needs: an adapter says what was used (lorarank probe measures that)"))
    return found


def finding_lines(findings: Sequence[Finding]) -> list[str]:
    """Findings, one sentence per code, with the first modules that each is about."""
    lines = []
    for code, kind in CODES.items():
        mine = [finding for finding in findings if finding.code == code]
        if not mine:
            continue
        start = f"{code} {kind.name} ({kind.level})"
        modules = [finding for finding in mine if finding.module is not None]
        lines += [printable(f"{start}: {one.message} {kind.advice}", 2000) for one in mine if one.module is None]
        if modules:
            named = first_few([str(one.module) for one in modules], MOST_NAMED, 80)
            many = f"{len(modules):,} modules" if len(modules) > 1 else "1 module"
            first = printable(modules[0].message, 500)
            lines.append(f"{start}, {many}: {named}. {'The first: ' if len(modules) > 1 else ''}{first}")
    return lines


def unreadable_lines(report: AuditReport) -> list[str]:
    """A line for each source that gave nothing."""
    return [printable(f"{one.finding.code} {one.finding.message}", 2000) for one in report.unreadable]


def failure(report: AuditReport) -> str:
    """What ``--fail-if`` came to; empty where nothing was asked or nothing found."""
    if not report.failed:
        return ""
    return f"--fail-if {printable(report.fail_if)!r} holds for {first_few(report.failed, MOST_NAMED, 80)}."


def sections(report: AuditReport) -> list[tuple[str, list[str]]]:
    """Headed lists of sentences, without the empty ones."""
    found = [("Check", [failure(report)] if report.failed else []), ("Unreadable", unreadable_lines(report))]
    for audit in report.audits if len(report.audits) <= MOST_TOLD else ():
        title = "Findings" if len(report.audits) == 1 else f"Findings in {printable(audit.source)}"
        found.append((title, finding_lines(audit.findings)))
    notes = tuple(dict.fromkeys(note for audit in report.audits for note in audit.notes))
    found.append(("Notes", [printable(note, 2000) for note in notes]))
    return [(title, lines) for title, lines in found if lines]


def grids(report: AuditReport, *, per_module: bool = False, by_size: bool = False) -> list[tuple[Grid, list[Grid]]]:
    """Tables, each whole and split in two for a narrow page."""
    if len(report.audits) != 1:
        found = [adapter_grid(report)] if report.audits else []
        found += [finding_grid(report)] if report.findings else []
        if report.evolution is not None:
            found += evolution_grids(report.evolution, "module type", _sorted_steps(report.evolution.types, False))
            if per_module:
                steps = _sorted_steps(report.evolution.modules, by_size)
                found += evolution_grids(report.evolution, "module", steps)
        return [(grid, [grid]) for grid in found]
    audit = report.audits[0]
    columns = [
        ("module types", group_columns(audit, audit.types, "type")),
        ("layers", group_columns(audit, audit.layers, "layer") if len(audit.layers) > 1 else []),
        (within("modules", [m.name for m in audit.modules]), module_columns(audit, by_size) if per_module else []),
    ]
    return [(one_grid(name, held), two_grids(name, held)) for name, held in columns if held]


def _sorted_steps(steps: Sequence[Step], by_size: bool) -> Sequence[Step]:
    return sorted(steps, key=lambda step: -(step.norms[-1] or 0.0)) if by_size else steps


def lay(page: Sheet, report: AuditReport, *, per_module: bool = False, by_size: bool = False) -> None:
    """What was found first, then the figures, and tables as wide as the page takes.

    Parameters
    ----------
    page : to lay it out on.
    report : of one source or several.
    per_module : whether to add the table of all modules.
    by_size : modules with the largest update first, rather than in the adapter's order.
    """
    page.head(headline(report), good=not (report.failed or any(f.level != "note" for f in report.findings)))
    if len(report.audits) == 1 and not report.unreadable:
        page.facts(facts(report.audits[0]))
    tables = grids(report, per_module=per_module, by_size=by_size)
    first = len(report.audits) != 1  # what several sources are comes before what is wrong with them
    for whole, _ in tables[:1] if first else ():
        page.grid(whole)
    for title, lines in sections(report):
        page.section(title, lines)
    for whole, parts in tables[first:]:
        for grid in [whole] if page.fits(whole) else parts:
            page.grid(grid)


def _modules(count: int) -> str:
    return f"{count:,} module{'s' if count > 1 else ''}"


def _all(count: int) -> str:
    return f"all {count:,} modules" if count > 1 else "its one module"
