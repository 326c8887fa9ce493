"""What LoRA can be put on in a model and what it costs, on a sheet, as JSON and as rows (floor 4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from lorarank.errors import printable
from lorarank.inspect import Inspection, TargetSet, TypeRow
from lorarank.inspect.targets import WITH_EXPERTS, probably_meant
from lorarank.module_names import TARGET_SETS
from lorarank.report.json_text import as_json
from lorarank.report.plain import Grid, Records, Sheet
from lorarank.wording import percent, size

MOST_LISTED = 12
"""Modules that a pattern hits, before the list is cut; --modules shows all."""


def headline(found: Inspection) -> str:
    """Size of the model, and what the last target set costs at the rank asked for, or at 16; or that it is empty."""
    r = 16 if 16 in found.ranks else found.ranks[0]
    chosen = found.sets[-1]
    cost = next(cost for cost in chosen.costs if cost.r == r)
    where = _in_a_sentence(chosen)
    if not chosen.modules:
        if chosen.name in TARGET_SETS:
            return f"{found.parameters:,} parameters; no layer is one of {where}."
        near = probably_meant(chosen.name, found.layers)
        meant = f" Did you mean {printable(near)}?" if near else ""
        return f"{found.parameters:,} parameters; {where} hits no layer, which PEFT refuses.{meant}"
    return (
        f"{found.parameters:,} parameters; LoRA on {where} at r = {r} trains {cost.parameters:,}, "
        f"{percent(cost.share, 2)} of them."
    )


def _in_a_sentence(one: TargetSet) -> str:
    return f"all-linear {WITH_EXPERTS}" if one.name == WITH_EXPERTS else printable(one.name)


def facts(found: Inspection) -> list[tuple[str, str]]:
    """Where the numbers come from, and the module names of each target set."""
    rows = [
        ("model", printable(found.source)),
        ("type", printable(found.model_type) or "unknown"),
        ("shapes", f"from {printable(found.basis)}"),
    ]
    rows += [(printable(one.name, 40), _names(one)) for one in found.sets]
    if found.rule is not None:
        rows.append(("pattern", found.rule))
    return rows


def _names(one: TargetSet) -> str:
    return f"{_modules(len(one.modules))}: {', '.join(map(printable, one.names))}" if one.modules else "no module"


def _modules(count: int) -> str:
    return f"{count:,} module" + ("" if count == 1 else "s")


def type_grid(found: Inspection) -> Grid:
    """Everything that can be adapted, by type."""
    rows = tuple(
        (
            printable(row.type),
            row.kind,
            f"{row.modules:,}",
            _shape(row),
            f"{row.parameters_per_rank:,}",
            ", ".join(row.sets) or "–",
        )
        for row in found.types
    )
    headings = ("type", "kind", "modules", "shape", "parameters per unit of r", "target sets")
    return Grid("What can be adapted", headings, (False, False, True, True, True, False), rows)


def _shape(row: TypeRow) -> str:
    return (f"{row.stack}×" if row.kind == "experts" else "") + f"{row.out_features}×{row.in_features}"


def cost_grids(found: Inspection) -> list[Grid]:
    """Parameters by rank and target set, and memory; for a single rank both in one table. Empty sets cost nothing."""
    sets = [one for one in found.sets if one.modules]
    if len(found.ranks) == 1:
        rows = tuple(
            (printable(one.name), f"{len(one.modules):,}", *_parameters(one, 0), *_memory(one, 0)) for one in sets
        )
        headings = ("target", "modules", "parameters", "share", *MEMORY)
        return [Grid(f"LoRA at r = {found.ranks[0]}", headings, (False, *(True,) * 8), rows)]
    columns = [heading for one in sets for heading in (printable(one.name), "share")]
    rows = tuple(
        (str(r), *(text for one in sets for text in _parameters(one, index))) for index, r in enumerate(found.ranks)
    )
    first = Grid("LoRA parameters, and their share of the model", ("r", *columns), (True,) * (1 + len(columns)), rows)
    last = sets[-1]
    rows = tuple((str(r), *_memory(last, index)) for index, r in enumerate(found.ranks))
    return [first, Grid(f"Memory and disk of {_in_a_sentence(last)}", ("r", *MEMORY), (True,) * 6, rows)]


MEMORY = ("factors", "gradients", "AdamW", "together", "file in bf16")


def _parameters(one: TargetSet, index: int) -> tuple[str, str]:
    cost = one.costs[index]
    return f"{cost.parameters:,}", percent(cost.share, 2)


def _memory(one: TargetSet, index: int) -> tuple[str, ...]:
    cost = one.costs[index]
    every = (cost.adapter_bytes, cost.gradient_bytes, cost.optimizer_bytes, cost.training_bytes, cost.half_file_bytes)
    return tuple(size(number) for number in every)


def sections(found: Inspection, *, all_modules: bool) -> list[tuple[str, tuple[str, ...]]]:
    """What a pattern hits, and notes."""
    parts = []
    if found.rule is not None:
        hit = found.sets[-1].modules
        shown = hit if all_modules else hit[:MOST_LISTED]
        more = (f"and {len(hit) - len(shown):,} more (--modules shows all)",) if len(shown) < len(hit) else ()
        title = f"Hit by {_in_a_sentence(found.sets[-1])}: {_modules(len(hit))}"
        parts.append((title, (*map(printable, shown), *more)))
    notes = (
        *found.notes,
        "Factors, gradients and AdamW's two moments are float32, as PEFT trains them; a file in float32 is as large as "
        "the factors. Activations and the base model come on top.",
    )
    parts.append(("Notes", tuple(printable(note, 1000) for note in notes)))
    return [(title, lines) for title, lines in parts if lines]


def module_grid(found: Inspection) -> Grid:
    """Every layer."""
    rows = tuple(
        (
            printable(layer.name),
            layer.kind,
            (f"{layer.stack}×" if layer.kind == "experts" else "") + f"{layer.out_features}×{layer.in_features}",
            f"{layer.parameters_per_rank:,}",
        )
        for layer in found.layers
    )
    return Grid("Modules", ("module", "kind", "shape", "parameters per unit of r"), (False, False, True, True), rows)


def lay(page: Sheet, found: Inspection, *, all_modules: bool = False) -> None:
    """What a rank costs, and what can be adapted."""
    page.head(headline(found), good=bool(found.sets[-1].modules))
    page.facts(facts(found))
    for grid in _grids(found, all_modules):
        page.grid(grid)
    for title, lines in sections(found, all_modules=all_modules):
        page.section(title, lines)


def _grids(found: Inspection, all_modules: bool) -> list[Grid]:
    return [*cost_grids(found), type_grid(found), *([module_grid(found)] if all_modules else [])]


def to_json(found: Inspection, *, command: Sequence[str] = ()) -> str:
    """As JSON with sorted keys, bytes of every cost included; ``command`` is what was run."""
    plain = dataclasses.asdict(found) | {"command": list(command)}
    for one, written in zip(found.sets, plain["sets"], strict=True):
        for cost, entry in zip(one.costs, written["costs"], strict=True):
            for name in ("adapter", "gradient", "optimizer", "training", "half_file"):
                entry[f"{name}_bytes"] = getattr(cost, f"{name}_bytes")
    return as_json(plain)


def rows(found: Inspection) -> Records:
    """One row per module."""
    names = ("name", "type", "kind", "stack", "out_features", "in_features", "parameters_per_rank")
    return Records(names, tuple(tuple(getattr(layer, name) for name in names) for layer in found.layers))
