"""What a resize or a conversion did, on a sheet, as JSON and as rows (floor 4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from lorarank.errors import printable
from lorarank.report.json_text import as_json
from lorarank.report.plain import Grid, Records, Sheet, records
from lorarank.resize.result import Resized, ResizedModule
from lorarank.wording import between, percent, size

MOST_SHOWN = 12
"""Modules that a table lists without being asked for all: those that lose most."""


def headline(done: Resized) -> str:
    """What happened, in one sentence."""
    ranks = f"r = {_span(done.r_before)} to {_span(done.r)}"
    if done.cut:
        return f"Cut from {ranks}: {_lost(done.dropped)} of the energy dropped, {_share(done)} of the parameters left."
    exact = all(module.scaling == module.scaling_before for module in done.modules) and not done.rounded
    rest = "" if exact else f", to the rounding of {', '.join(done.dtypes)}"
    if done.r_before != done.r:
        return f"Filled up with zeros from {ranks}: the update is what it was{rest}."
    return f"Written as {done.format} at r = {_span(done.r)}: no cut, the update is what it was{rest}."


def facts(done: Resized) -> list[tuple[str, str]]:
    """The figures that go with it, as label and text."""
    found = [
        ("written to", f"{printable(done.output)} ({done.format}, {', '.join(done.dtypes)})"),
        *([("asked for", f"{done.criterion}, metric {done.metric}")] if done.criterion else []),
        ("parameters", f"{done.parameters:,} of {done.parameters_before:,} in the factors"),
        ("size", _size(done)),
    ]
    if done.loss is not None:
        loss = done.loss
        band = f" ± {100 * loss.excess_se:.2f}" if loss.excess_se is not None else ""
        whole = ", the whole probe" if loss.k == max(done.r_before) else ""
        found.append(
            (
                "loss",
                f"{100 * loss.excess:.2f}{band}% of the gain lost at k = {loss.k}{whole}, measured on "
                f"{loss.documents:,} held-out documents",
            )
        )
    left = sum(module.r == 0 for module in done.modules)
    if left:
        found.append(("left out", f"{left:,} of {len(done.modules):,} modules, which get no adapter any more"))
    if done.carried:
        found.append(("carried", f"{done.carried:,} other tensors, byte for byte"))
    return found


def type_grid(done: Resized) -> Grid:
    """Modules by type, in the order in which types appear."""
    kinds: dict[str, list[ResizedModule]] = {}
    for module in done.modules:
        kinds.setdefault(module.type, []).append(module)
    rows = []
    for kind, modules in kinds.items():
        energy = sum(module.energy or 0.0 for module in modules)
        gone = sum((module.energy or 0.0) * module.dropped for module in modules) / energy if energy else 0.0
        rows.append(
            (
                printable(kind),
                f"{len(modules):,}",
                _span(sorted({module.r_before for module in modules})),
                _span(sorted({module.r for module in modules})),
                f"{sum(module.parameters for module in modules):,}",
                percent(energy, 1),
                _lost(gone),
                _lost(max(module.dropped for module in modules)),
            )
        )
    headings = ("type", "modules", "r before", "r", "parameters", "energy", "dropped", "at most")
    return Grid("Module types", headings, (False, *(True,) * 7), tuple(rows))


def module_grid(done: Resized, *, all_modules: bool = False) -> Grid:
    """Every module; or, where there are many, those that lose the largest share of their energy."""
    some = not all_modules and len(done.modules) > MOST_SHOWN
    shown: Sequence[ResizedModule] = done.modules
    if some:
        shown = sorted(done.modules, key=lambda module: -module.dropped)[:MOST_SHOWN]
    rows = tuple(
        (
            printable(module.name),
            f"{module.out_features}×{module.in_features}",
            str(module.r_before),
            str(module.r),
            f"{module.scaling:.4g}" if module.r else "",
            percent(module.energy or 0.0, 2),
            _lost(module.dropped),
        )
        for module in shown
    )
    title = f"The {MOST_SHOWN} modules that lose most, of {len(done.modules):,}" if some else "Modules"
    return Grid(
        title, ("module", "shape", "r before", "r", "scaling", "energy", "dropped"), (False, *(True,) * 6), rows
    )


def lay(page: Sheet, done: Resized, *, all_modules: bool = False) -> None:
    """What happened, first."""
    page.head(headline(done), good=True)
    page.facts(facts(done))
    if done.notes:
        page.section("Notes", [printable(note, 2000) for note in done.notes])
    if done.cut:
        page.grid(type_grid(done))
        page.grid(module_grid(done, all_modules=all_modules))


def to_json(done: Resized) -> str:
    """Everything as JSON with sorted keys."""
    return as_json(dataclasses.asdict(done))


def rows(done: Resized) -> Records:
    """One row per module: the fields of :class:`~lorarank.resize.result.ResizedModule`."""
    return records(ResizedModule, done.modules)


def _span(ranks: Sequence[int]) -> str:
    return between(ranks[0], ranks[-1])


def _share(done: Resized) -> str:
    return percent(done.parameters / done.parameters_before, 1)


def _lost(share: float) -> str:
    """A share that may be tiny without being nothing.

    >>> _lost(0.0123), _lost(2e-9), _lost(0.0)
    ('1.23%', '<0.01%', '0%')
    """
    if share == 0:
        return "0%"
    return "<0.01%" if share < 5e-5 else percent(share, 2)


def _size(done: Resized) -> str:
    return f"{size(done.bytes)}" + (f" of {size(done.bytes_before)}" if done.bytes_before is not None else "")
