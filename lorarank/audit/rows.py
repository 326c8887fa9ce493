"""One adapter as one flat row, for tables of thousands of them (floor 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lorarank.audit.adapter import Audit, counted
from lorarank.audit.codes import CODES, ERROR, tallied
from lorarank.audit.figures import RANKS
from lorarank.audit.several import Measured, Unreadable

Value = str | int | float | None
Row = Mapping[str, Value]

TEXTS = ("source", "status", "format", "base_model", "dtype", "findings", "problem", "lorarank")
"""Columns that hold text."""

NAMES = tuple(code.name for code in CODES.values())
"""A column each: how many such findings there are."""

COUNTS = ("modules", "parameters", "r_min", "r_max", "keep", *NAMES)
"""Columns that hold whole numbers; all others hold real ones."""


FINE_TUNE = "fine-tune"
"""The format of a row that is of a whole model, beside its base."""


class WithCells(Measured, Protocol):
    """A measured source that is no adapter: a fine-tune."""

    @property
    def cells(self) -> Row:
        """Its part of a row: some of the columns."""


@dataclass(frozen=True)
class Layout:
    """The columns of a table: energy shares have one each.

    >>> Layout((0.9,)).columns[:3]
    ('source', 'status', 'format')
    """

    shares: Sequence[float]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names, in order."""
        identity = ("source", "status", "format", "base_model", "dtype")
        sizes = ("modules", "parameters", "r_min", "r_max", "scaling_min", "scaling_max", "norm", "sigma_1")
        energy = (f"energy_rank_{share:.10g}" for share in self.shares)
        reduction = ("keep", "reducible", "idle")
        return (*identity, *sizes, *energy, *RANKS, *reduction, *NAMES, "findings", "problem", "seconds", "lorarank")

    def row(self, result: Audit | WithCells | Unreadable, seconds: float, version: str) -> dict[str, Value]:
        """A result as a row; what an unreadable source lacks is ``None``."""
        row: dict[str, Value] = dict.fromkeys(self.columns)
        row |= {"source": result.source, "seconds": round(seconds, 4), "lorarank": version}
        found = (result.finding,) if isinstance(result, Unreadable) else result.findings
        counts = counted(found)
        row |= {code.name: int(counts[code.code]) for code in CODES.values()}
        row["findings"] = " ".join(code for code in CODES if counts[code])
        if isinstance(result, Unreadable):
            return row | {"status": "unreadable", "problem": result.finding.message}
        numbers = self._numbers(result) if isinstance(result, Audit) else result.cells
        return row | {"status": "ok", "problem": _problem(result), **numbers}

    def _numbers(self, audit: Audit) -> dict[str, Value]:
        whole, figures = audit.whole, audit.whole.figures
        row: dict[str, Value] = {
            "format": audit.format,
            "base_model": audit.base_model,
            "dtype": ", ".join(audit.dtypes),
            "modules": whole.modules,
            "parameters": whole.parameters,
            "r_min": whole.r[0],
            "r_max": whole.r[1],
            "scaling_min": whole.scaling[0],
            "scaling_max": whole.scaling[1],
            "keep": audit.reductions[0].uniform,
            "reducible": audit.reductions[0].saved,
            "idle": audit.idle,
        }
        if figures is not None:
            row |= {"norm": figures.norm, "sigma_1": figures.sigma_1}
            row |= {f"energy_rank_{s:.10g}": r for s, r in zip(self.shares, figures.energy_ranks, strict=True)}
            row |= {name: float(getattr(figures, name)) for name in RANKS}
        return row


def quantities(row: Row) -> dict[str, float]:
    """What ``--fail-if`` compares, from a row: see :data:`lorarank.audit.condition.QUANTITIES`; none that it lacks."""
    cuts = () if row["norm"] is None else ("norm", "keep", "reducible", "idle")  # nothing could be measured
    named = {"rank": row["r_max"], **{name: row[name] for name in ("modules", "parameters", *cuts)}}
    values = {name: float(value) for name, value in named.items() if value is not None}
    return values | tallied({code.code: float(row[code.name] or 0) for code in CODES.values()})


def _problem(result: Measured) -> str:
    """The first finding of level error, where there is one."""
    return next((finding.message for finding in result.findings if finding.level == ERROR), "")
