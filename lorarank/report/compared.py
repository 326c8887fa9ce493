"""What two adapters have in common, on a sheet, as JSON and as rows (floor 4)."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

from lorarank.compare.result import Compared, ComparedAdapter, ComparedGroup, ComparedModule, Spans
from lorarank.compare.verdict import MEANING, TOOLS
from lorarank.errors import printable
from lorarank.report.json_text import as_json
from lorarank.report.plain import Grid, Records, Sheet
from lorarank.wording import first_few, percent

MOST_SHOWN = 12
"""Modules that a table lists without being asked for all: those with the most to say, the largest together."""


def headline(found: Compared) -> str:
    """What merging would meet, in one sentence."""
    return found.whole.verdict.reason


def facts(found: Compared) -> list[tuple[str, str]]:
    """The figures that go with it, as label and text."""
    whole = found.whole
    counts = Counter(module.verdict.kind for module in found.modules)
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in counts.most_common())
    return [
        ("first", _adapter(found.first)),
        ("second", _adapter(found.second)),
        (
            "agreement",
            f"{_signed(whole.agreement)} over {whole.modules:,} modules (1 the same update, 0 nothing in common)",
        ),
        ("size", f"{_ratio(whole)}: ‖ΔW‖ {whole.first_norm:.4g} and {whole.second_norm:.4g}"),
        (
            "replicated",
            f"{whole.first_replicates:g} directions of the first recur in the second in the median module, "
            f"{whole.second_replicates:g} of the second in the first",
        ),
        ("subspaces", f"{percent(whole.out, 1)} shared in what they write, {percent(whole.into, 1)} in what they read"),
        ("modules", kinds),
    ]


def sections(found: Compared) -> list[tuple[str, list[str]]]:
    """Headed lists of sentences, without the empty ones."""
    kinds = dict.fromkeys(module.verdict.kind for module in found.modules)
    meaning = [f"{kind}: {MEANING[kind]}." for kind in kinds]
    lists = [("Merging", [*meaning, TOOLS]), ("Not compared", _apart(found)), ("Notes", list(found.notes))]
    return [(title, [printable(line, 2000) for line in lines]) for title, lines in lists if lines]


def type_grid(found: Compared) -> Grid:
    """Types of modules, and all of them where there are several."""
    groups = [*found.types, found.whole] if len(found.types) > 1 else list(found.types)
    rows = tuple(
        (
            printable(group.type),
            f"{group.modules:,}",
            _signed(group.agreement),
            _times(group.first_norm, group.second_norm),
            f"{group.first_replicates:g}, {group.second_replicates:g}",
            percent(group.out, 1),
            percent(group.into, 1),
            group.verdict.kind,
        )
        for group in groups
    )
    headings = ("type", "modules", "agreement", "size", "replicated", "out shared", "in shared", "relation")
    return Grid("Module types", headings, (False, *(True,) * 6, False), rows)


def module_grid(found: Compared, *, all_modules: bool = False) -> Grid:
    """Every module; or, where there are many, those where both updates are largest."""
    shown = list(found.modules)
    some = not all_modules and len(shown) > MOST_SHOWN
    if some:
        shown = sorted(shown, key=lambda module: -module.first_norm * module.second_norm)[:MOST_SHOWN]
    rows = tuple(
        (
            printable(module.name),
            f"{module.first_r}, {module.second_r}",
            _signed(module.agreement),
            _times(module.first_norm, module.second_norm),
            f"{module.first_replicates}, {module.second_replicates}",
            "" if module.out is None else str(module.out.k),
            _angles(module.out),
            _angles(module.into),
            module.verdict.kind,
        )
        for module in shown
    )
    title = f"The {MOST_SHOWN} modules where both are largest, of {len(found.modules):,}" if some else "Modules"
    headings = ("module", "r", "agreement", "size", "replicated", "k", "out angles", "in angles", "relation")
    return Grid(title, headings, (False, *(True,) * 7, False), rows)


def lay(page: Sheet, found: Compared, *, all_modules: bool = False) -> None:
    """What merging would meet first."""
    page.head(headline(found), good=found.whole.verdict.kind in ("orthogonal", "aligned"))
    page.facts(facts(found))
    for title, sentences in sections(found):
        page.section(title, sentences)
    page.grid(type_grid(found))
    page.grid(module_grid(found, all_modules=all_modules))


def to_json(found: Compared, *, command: tuple[str, ...] = ()) -> str:
    """Everything as JSON with sorted keys; ``command`` is what was run."""
    return as_json(dataclasses.asdict(found) | {"command": list(command), "tools": TOOLS})


def rows(found: Compared) -> Records:
    """One row per module: the fields of :class:`~lorarank.compare.result.ComparedModule`, those of spans with their
    side before them.
    """
    flat = [_flat(module) for module in found.modules]
    return Records(tuple(flat[0]), tuple(tuple(row.values()) for row in flat))


def _flat(module: ComparedModule) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for field in dataclasses.fields(module):
        value = getattr(module, field.name)
        if field.name in ("out", "into"):
            for inner in dataclasses.fields(Spans):
                row[f"{field.name}_{inner.name}"] = None if value is None else getattr(value, inner.name)
        elif field.name == "verdict":
            row |= {"verdict": value.kind, "reason": value.reason}
        else:
            row[field.name] = value
    return row


def _adapter(one: ComparedAdapter) -> str:
    ranks = f"{one.r[0]}–{one.r[-1]}" if len(one.r) > 1 else str(one.r[0])
    part = "" if one.compared == 1 else f", {percent(one.compared, 1)} of its energy compared"
    return f"{printable(one.source)} (r = {ranks}, {one.modules:,} modules{part})"


def _apart(found: Compared) -> list[str]:
    lines = []
    for why in ("only in the first", "only in the second", "other shape"):
        names = [module.name for module in found.one_sided if module.why == why]
        if names:
            lines.append(f"{len(names):,} {why}: {first_few(names, 5)}.")
    return lines


def _ratio(whole: ComparedGroup) -> str:
    if min(whole.first_norm, whole.second_norm) == 0:
        return "both are zero" if whole.first_norm == whole.second_norm else "one is zero"
    return f"the second is {_times(whole.first_norm, whole.second_norm)} the first"


def _signed(agreement: float) -> str:
    """An agreement without a sign before a zero.

    >>> _signed(-0.0001), _signed(-0.25)
    ('0.000', '-0.250')
    """
    return f"{round(agreement, 3) + 0.0:.3f}"


def _times(first: float, second: float) -> str:
    """The second norm as a multiple of the first."""
    return f"{second / first:.2f}×" if first else "–"


def _angles(spans: Spans | None) -> str:
    if spans is None:
        return ""
    ends = dict.fromkeys(f"{angle:.0f}" for angle in (spans.smallest_angle, spans.largest_angle))
    return f"{'–'.join(ends)}°"
