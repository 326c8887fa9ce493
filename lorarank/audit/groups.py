"""Modules of an adapter by type, by layer, and all together (floor 3)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from lorarank.audit.figures import Figures, together
from lorarank.audit.modules import ModuleAudit
from lorarank.module_names import layer_stack

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class GroupAudit:
    """Modules that share a type or a layer.

    Attributes
    ----------
    name : the type, or the number of the layer, behind the list that it is in where there are several (an encoder's
        and a decoder's); "–" outside all layers.
    modules : how many there are; ``measured`` of them have figures.
    shapes : (out, in) of ΔW, each once, in order of appearance.
    r, scaling : smallest and largest.
    parameters : numbers stored.
    energy : their share of the adapter's Σσ².
    figures : of the measured ones together; ``None`` where there is none.
    """

    name: str
    modules: int
    measured: int
    shapes: tuple[tuple[int, int], ...]
    r: tuple[int, int]
    scaling: tuple[float, float]
    parameters: int
    energy: float
    figures: Figures | None


def group(name: str, modules: Sequence[ModuleAudit], norm: float | None = None) -> GroupAudit:
    """One group of at least one module; ``norm`` is ‖ΔW‖ of the whole adapter, this group's own where left out."""
    figures = [module.figures for module in modules if module.figures is not None]
    whole = together(figures) if figures else None
    norm = whole.norm if norm is None and whole is not None else norm or 0.0
    ranks, scalings = [module.r for module in modules], [module.scaling for module in modules]
    return GroupAudit(
        name=name,
        modules=len(modules),
        measured=len(figures),
        shapes=tuple(dict.fromkeys((module.out_features, module.in_features) for module in modules)),
        r=(min(ranks), max(ranks)),
        scaling=(min(scalings), max(scalings)),
        parameters=sum(module.parameters for module in modules),
        energy=(whole.norm / norm) ** 2 if whole is not None and norm > 0 else 0.0,
        figures=whole,
    )


def by_type(modules: Sequence[ModuleAudit], norm: float) -> tuple[GroupAudit, ...]:
    """Groups by type, the one with the most energy first."""
    groups = [group(kind, members, norm) for kind, members in _members((m.type, m) for m in modules)]
    return tuple(sorted(groups, key=lambda one: (-one.energy, one.name)))


def by_layer(modules: Sequence[ModuleAudit], norm: float) -> tuple[GroupAudit, ...]:
    """Groups by layer, list of layers after list, in order; modules outside all layers come last."""
    inside = [module for module in modules if module.layer is not None]
    stacks = list(dict.fromkeys(layer_stack(module.name) for module in inside))
    place = {stack: index for index, stack in enumerate(stacks)}
    keyed = _members(((place[layer_stack(module.name)], module.layer or 0), module) for module in inside)
    found = [
        (f"{stacks[stack]}.{layer}" if len(stacks) > 1 and stacks[stack] else str(layer), members)
        for (stack, layer), members in sorted(keyed, key=lambda pair: pair[0])
    ]
    outside = [module for module in modules if module.layer is None]
    return tuple(group(name, members, norm) for name, members in [*found, *([("–", outside)] if outside else [])])


def _members(keyed: Iterable[tuple[Key, ModuleAudit]]) -> list[tuple[Key, list[ModuleAudit]]]:
    found: dict[Key, list[ModuleAudit]] = {}
    for key, module in keyed:
        found.setdefault(key, []).append(module)
    return list(found.items())
