"""The tables of an audit (floor 4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import NamedTuple

from lorarank.audit import CODES, Audit, AuditReport
from lorarank.audit.figures import Figures
from lorarank.audit.groups import GroupAudit
from lorarank.audit.modules import ModuleAudit
from lorarank.audit.several import Evolution, Step
from lorarank.errors import printable
from lorarank.report.plain import Grid
from lorarank.wording import between, percent

BLOCKS = "▁▂▃▄▅▆▇█"
SPARK_WIDTH = 8
"""Columns of a sparkline."""

ROUNDING = 1e-7
"""σ over σ₁ that factors stored in float32 cannot tell from zero."""


class Column(NamedTuple):
    """One column: its heading, whether it holds numbers, its cells, and on which half of a split table it goes.

    ``half`` is 0 for both, 1 for what the modules are, 2 for their ranks.
    """

    heading: str
    numeric: bool
    cells: list[str]
    half: int


def sparkline(values: Sequence[float]) -> str:
    """σ over σ₁ as bars, at most :data:`SPARK_WIDTH` of them, each the largest of its part; zeros to rounding are dots.

    >>> sparkline([8.0, 4.0, 1.0, 0.0]), sparkline([0.0, 0.0]), sparkline([])
    ('█▄▁·', '··', '')
    """
    count = min(SPARK_WIDTH, len(values))
    bars = ""
    for bar in range(count):
        part = values[bar * len(values) // count : (bar + 1) * len(values) // count]
        height = max(part) / values[0] if values[0] > 0 else 0.0
        bars += BLOCKS[max(0, math.ceil(height * len(BLOCKS)) - 1)] if height > ROUNDING else "·"
    return bars


def scientific(value: float) -> str:
    """A size in three digits.

    >>> scientific(1.2345), scientific(123456.0), scientific(0.0)
    ('1.23', '1.23e+05', '0')
    """
    return f"{value:.3g}"


def group_columns(audit: Audit, groups: Sequence[GroupAudit], what: str) -> list[Column]:
    """One row per type or layer. Layers leave out what is the same in all of them; the types have it."""
    columns = [
        Column(what, what == "layer", [printable(one.name, 80) for one in groups], 0),
        Column("modules", True, [f"{one.modules:,}" for one in groups], 1),
        Column("shape", True, [_shapes(one.shapes) for one in groups], 1),
        Column("r", True, [between(*one.r) for one in groups], 1),
        Column("scaling", True, [between(*one.scaling) for one in groups], 1),
        Column("energy", True, [percent(one.energy, 1) for one in groups], 1),
        *_figures(audit.energy, [one.figures for one in groups]),
    ]
    if what == "layer":
        columns = [c for c in columns if c.heading not in ("modules", "shape", "r", "scaling") or len(set(c.cells)) > 1]
    return columns


def module_columns(audit: Audit, by_size: bool) -> list[Column]:
    """One row per module, with the codes of its findings."""
    modules: Sequence[ModuleAudit] = audit.modules
    if by_size:
        modules = sorted(modules, key=lambda one: -(one.figures.norm if one.figures is not None else math.inf))
    codes: dict[str, list[str]] = {}
    for finding in audit.findings:
        if finding.module is not None:
            codes.setdefault(finding.module, []).append(finding.code)
    return [
        _named([one.name for one in modules]),
        Column("shape", True, [_shapes([(one.out_features, one.in_features)]) for one in modules], 1),
        Column("r", True, [str(one.r) for one in modules], 1),
        Column("scaling", True, [f"{one.scaling:.4g}" for one in modules], 1),
        *_figures(audit.energy, [one.figures for one in modules]),
        Column("findings", False, [" ".join(codes.get(one.name, ())) for one in modules], 1),
    ]


def common_path(names: Sequence[str]) -> str:
    """What all paths begin with, whole components of it, so that a table need say it once.

    >>> common_path(["model.layers.0.q", "model.layers.1.q"]), common_path(["q", "v"]), common_path(["a.q"])
    ('model.layers.', '', '')
    """
    first, last = min(names, default=""), max(names, default="")  # what these two begin with, all do
    paths = zip(first.split(".")[:-1], last.split(".")[:-1], strict=False)
    shared = [part for part, _ in takewhile(lambda pair: pair[0] == pair[1], paths)]
    return "".join(f"{part}." for part in shared) if len(names) > 1 else ""


def within(title: str, names: Sequence[str]) -> str:
    """A title that says what the names in its table leave out.

    >>> within("modules", ["model.layers.0.q", "model.layers.1.q"])
    'modules in model.layers'
    """
    start = common_path(names)
    return f"{title} in {printable(start[:-1])}" if start else title


def _named(names: Sequence[str], what: str = "module") -> Column:
    start = common_path(names)
    return Column(what, False, [printable(name[len(start) :]) for name in names], 0)


def _figures(shares: Sequence[float], rows: Sequence[Figures | None]) -> list[Column]:
    def column(heading: str, text: Callable[[Figures], str], half: int, numeric: bool = True) -> Column:
        return Column(heading, numeric, ["" if one is None else text(one) for one in rows], half)

    def energy(index: int, share: float) -> Column:
        return column(percent(share), lambda one: f"{one.energy_ranks[index]:g}", 2)

    return [
        column("‖ΔW‖", lambda one: scientific(one.norm), 1),
        column("σ₁", lambda one: scientific(one.sigma_1), 1),
        *(energy(index, share) for index, share in enumerate(shares)),
        column("eff.", lambda one: f"{one.effective_rank:.1f}", 2),
        column("entropy", lambda one: f"{one.energy_entropy_rank:.1f}", 2),
        column("stable", lambda one: f"{one.stable_rank:.1f}", 2),
        column("part.", lambda one: f"{one.participation_ratio:.1f}", 2),
        column("num.", lambda one: f"{one.numerical_rank:g}", 2),
        column("GD", lambda one: f"{one.gavish_donoho:g}", 2),
        column("MP", lambda one: f"{one.marchenko_pastur:g}", 2),
        column("spectrum", lambda one: sparkline(one.singular_values), 1, numeric=False),
    ]


def one_grid(name: str, columns: Sequence[Column]) -> Grid:
    """All columns side by side."""
    return _grid(name[0].upper() + name[1:], columns)


def two_grids(name: str, columns: Sequence[Column]) -> list[Grid]:
    """What they are, and their ranks, one above the other."""
    return [
        _grid(title, [column for column in columns if column.half in (0, half)])
        for half, title in ((1, name[0].upper() + name[1:]), (2, f"Ranks of {name}"))
    ]


def adapter_grid(report: AuditReport) -> Grid:
    """One row per source that could be read, numbered in the order given."""
    audits = report.audits
    figures = [audit.whole.figures for audit in audits]
    columns = [
        Column("", True, [str(index) for index in range(1, len(audits) + 1)], 0),
        Column("adapter", False, [printable(audit.source) for audit in audits], 0),
        Column("r", True, [between(*audit.whole.r) for audit in audits], 0),
        Column("modules", True, [f"{audit.whole.modules:,}" for audit in audits], 0),
        Column("‖ΔW‖", True, ["" if one is None else scientific(one.norm) for one in figures], 0),
        Column("keep", True, [str(a.reductions[0].uniform) if a.whole.figures is not None else "" for a in audits], 0),
        Column("stable", True, ["" if one is None else f"{one.stable_rank:.1f}" for one in figures], 0),
        Column("less", True, [percent(audit.reductions[0].saved, 0) for audit in audits], 0),
        Column("findings", False, [" ".join(sorted({f.code for f in audit.findings})) for audit in audits], 0),
    ]
    share = percent(audits[0].energy[0])
    return _grid(f"Adapters; keep: the rank that keeps {share} of the energy; less: parameters fewer", columns)


def finding_grid(report: AuditReport) -> Grid:
    """One row per code, over all sources."""
    groups = [[one.finding] for one in report.unreadable] + [list(audit.findings) for audit in report.audits]
    codes = [code for code in CODES.values() if any(f.code == code.code for found in groups for f in found)]
    counts = [[sum(f.code == code.code for f in found) for found in groups] for code in codes]
    columns = [
        Column("code", False, [code.code for code in codes], 0),
        Column("name", False, [code.name for code in codes], 0),
        Column("level", False, [code.level for code in codes], 0),
        Column("sources", True, [f"{sum(n > 0 for n in one):,}" for one in counts], 0),
        Column("findings", True, [f"{sum(one):,}" for one in counts], 0),
    ]
    return _grid("Findings", columns)


def evolution_grids(evolution: Evolution, what: str, steps: Sequence[Step]) -> list[Grid]:
    """Energy ranks and norms of every step, one column per source."""
    sources = range(len(steps[0].ranks))
    name = _named([step.name for step in steps], what)
    ranks = [Column(str(i + 1), True, [_number(step.ranks[i]) for step in steps], 0) for i in sources]
    norms = [Column(str(i + 1), True, [_number(step.norms[i]) for step in steps], 0) for i in sources]
    which = within("From one source to the next", [step.name for step in steps])
    return [
        _grid(f"{which}: {percent(evolution.share)} energy rank", [name, *ranks]),
        _grid(f"{which}: ‖ΔW‖", [name, *norms]),
    ]


def _grid(title: str, columns: Sequence[Column]) -> Grid:
    return Grid(
        title,
        tuple(column.heading for column in columns),
        tuple(column.numeric for column in columns),
        tuple(zip(*(column.cells for column in columns), strict=True)),
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _shapes(shapes: Sequence[tuple[int, int]]) -> str:
    first = f"{shapes[0][0]}×{shapes[0][1]}"
    return first if len(shapes) == 1 else f"{first} …"
