"""Chapters that reports of several kinds have in common (floor 4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from lorarank.dossier import Cell, Dossier, Part, Update
from lorarank.errors import printable
from lorarank.heuristics import SOURCE, STARTING_ADVICE, TASKS
from lorarank.numerics.ladder import LADDER
from lorarank.report.chapters.blocks import Block, Chapter, Fold, Heat, Paragraph, Picture, Table
from lorarank.report.drawing import charts
from lorarank.report.plain import Grid, Records
from lorarank.wording import between, percent, size

LEVELS = 7
"""Colours of a heat map, without the one for nothing."""

MOST_SCREES = 900
"""Scree plots of single modules in one report: with more of them a browser takes its time."""

ROOM = 12
"""Characters of a name above a small plot."""

UPDATE = "lora_B·lora_A, scaling included"


class Parts(NamedTuple):
    """Chapters, and the same as JSON and as rows."""

    chapters: tuple[Chapter, ...]
    data: str
    rows: Records


def heat_map(update: Update, title: str) -> Heat:
    """The energy rank of every layer and module type."""
    ranks = sorted(cell.rank for cell in update.cells.values() if cell.rank is not None)
    top = max(ranks, default=0.0)
    spans: dict[int, list[float]] = {}
    for rank in ranks:
        spans.setdefault(level(rank, top), []).append(rank)
    scale = tuple((between(found[0], found[-1]), key) for key, found in spans.items())
    return _heat(update, title, "rank", scale, lambda cell: _of_rank(cell, top))


def agreement_map(update: Update, title: str) -> Heat:
    """How far replicates agree, likewise."""
    scale = tuple((f"{(key - 1) / (LEVELS - 1):.2f}", key) for key in range(1, LEVELS + 1))
    return _heat(update, title, "agreement", scale, _of_agreement)


def _heat(
    update: Update, title: str, what: str, scale: tuple[tuple[str, int], ...], told: Callable[[Cell], tuple[str, int]]
) -> Heat:
    cells, types = update.cells, update.types
    rows = tuple(
        (
            "–" if layer is None else str(layer),
            tuple(told(cells[layer, kind]) if (layer, kind) in cells else ("", 0) for kind in types),
        )
        for layer in update.layers
    )
    return Heat(title, "layer", tuple(printable(kind, 60) for kind in types), rows, what, scale)


def _of_rank(cell: Cell, top: float) -> tuple[str, int]:
    return ("?", 0) if cell.rank is None else (f"{cell.rank:g}", level(cell.rank, top))


def _of_agreement(cell: Cell) -> tuple[str, int]:
    if cell.agreement is None:
        return ("", 0)
    return f"{cell.agreement:.2f}", 1 + round((LEVELS - 1) * min(max(cell.agreement, 0.0), 1.0))


def level(rank: float, top: float) -> int:
    """The colour of a rank, by its logarithm: 0 for none at all, 1 for rank 1, the last for the largest.

    >>> [level(rank, 64) for rank in (0, 1, 2, 8, 64)], level(1, 1)
    ([0, 1, 2, 4, 7], 1)
    """
    if rank <= 0:
        return 0
    if rank <= 1 or top <= 1:
        return 1
    return 1 + round((LEVELS - 1) * math.log(rank) / math.log(top))


def where_it_is(updates: Sequence[Update], tables: Sequence[Table] = ()) -> Chapter | None:
    """Heat maps, each on demand where there are several adapters."""
    if not updates:
        return None
    first = updates[0]
    told = (
        f"The rank that keeps {percent(first.share)} of each module's energy (metric {first.metric}); where several "
        "modules share a cell, their energy-weighted median."
    )
    maps: list[Block] = [Paragraph(told)]
    for update in updates:
        inside: Block = heat_map(update, f"Energy rank by layer and module type, {printable(update.source, 120)}")
        if not update.crosses:
            inside = Paragraph("Its names do not cross layers with types, so there is no map: see the modules.")
        maps.append(inside if len(updates) == 1 else Fold(printable(update.source, 120), (inside,)))
    return Chapter("layers", "Where the rank is: layer by module type", (*maps, *tables))


def spectra(updates: Sequence[Update]) -> Chapter | None:
    """Scree plots of every module, by type, on demand."""
    if not updates:
        return None
    drawn = sum(len(update.parts) for update in updates) <= MOST_SCREES
    text = (
        f"Singular values of each module's update ({UPDATE}; metric {updates[0].metric}) over the first, on a "
        f"logarithmic axis down to {charts.FLOOR:g}. The dashed line is the energy rank."
    )
    if not drawn:
        text += " There are too many modules to draw each: the largest of every type stands for it."
    folds: list[Block] = []
    for number, update in enumerate(updates):
        inside = tuple(
            _scree_fold(update, kind, f"s{number}-{index}", drawn) for index, kind in enumerate(update.types)
        )
        folds += inside if len(updates) == 1 else [Fold(printable(update.source, 120), inside)]
    return Chapter("spectra", "Spectra", (Paragraph(text), *folds))


def _scree_fold(update: Update, kind: str, key: str, drawn: bool) -> Fold:
    parts = [part for part in update.parts if part.type == kind]
    shown = parts if drawn else [max(parts, key=lambda part: part.energy)]
    alone = len({part.layer for part in parts}) == len(parts)
    count = f"{len(parts):,} module{'s' if len(parts) > 1 else ''}"
    pictures = tuple(Picture(_scree(part, f"{key}-{index}", alone), "", small=True) for index, part in enumerate(shown))
    return Fold(f"{printable(kind, 80)}: {count}", pictures, drawn=True)


def _scree(part: Part, key: str, alone: bool) -> str:
    """By its layer where it is alone there, else by the end of its name."""
    name = printable(part.name)
    short = name.removesuffix(f".{printable(part.type)}")
    short = f"…{short[-ROOM:]}" if len(short) > ROOM else short
    title = f"layer {part.layer}" if alone and part.layer is not None else short
    return charts.scree(key, name, title, part.singular_values, part.rank)


def cost(updates: Sequence[Update], marked: Sequence[tuple[int, str]], mark: str, base: int | None) -> Chapter | None:
    """What every rank of the ladder costs on these modules; ``mark`` says what a marked rank is."""
    if not updates or updates[0].parameters_per_rank < 1:
        return None
    per_rank = updates[0].parameters_per_rank
    headings = ["r", "parameters", *(["of the model"] if base else []), "bf16 file", "AdamW state"]
    rows = []
    for r in LADDER:
        count = r * per_rank
        share = [percent(count / base, 2)] if base else []
        rows.append((str(r), f"{count:,}", *share, size(2 * count), size(8 * count)))
    grid = Grid("LoRA parameters by rank", tuple(headings), (True,) * len(headings), tuple(rows))
    row = next((LADDER.index(r) for r, _ in marked if r in LADDER), None)
    text = (
        f"{per_rank:,} parameters for each unit of rank: Σ(out + in) over {len(updates[0].parts):,} modules"
        + (" of the first adapter" if len(updates) > 1 else "")
        + ". The optimiser's state is two float32 moments a parameter."
    )
    picture = Picture(charts.parameters("parameters", per_rank, marked), "Trainable parameters by rank")
    return Chapter("parameters", "Parameters by rank", (Paragraph(text), picture, Table(grid, marked=row, mark=mark)))


def reference(found: Dossier) -> Chapter:
    """The reference table, with the row of the task that was named."""
    named = found.reference.row
    rows = tuple((row.label, f"{row.low}–{row.high}", str(row.start), row.why) for row in TASKS.values())
    grid = Grid("Ranks by kind of task", ("task", "ranks", "start", "why"), (False, True, True, False), rows)
    marked = list(TASKS).index(named.task) if named is not None else None
    told = f"{found.reference.sentence} It is {SOURCE}: rules of thumb from before anything is measured."
    table = Table(grid, marked=marked, mark="your task")
    advice = Paragraph(" ".join(STARTING_ADVICE))
    return Chapter("reference", "Beside the reference table", (Paragraph(told), table, advice))
