"""What an adapter could be cut to, by its energy (floor 3). What a cut costs in loss is not in the spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lorarank.audit.figures import Figures
from lorarank.audit.modules import ModuleAudit
from lorarank.numerics import criteria


@dataclass(frozen=True)
class Reduction:
    """A cut that keeps a share of the energy.

    Attributes
    ----------
    share : of Σσ².
    uniform : the keep rank: the smallest k that, the same in every module, keeps the share of all modules' energy.
    uniform_parameters : what is left at that k.
    parameters : what is left when each module is cut to its own energy rank.
    saved : the share of the parameters that the second cut drops.
    """

    share: float
    uniform: int
    uniform_parameters: int
    parameters: int
    saved: float


def reductions(
    modules: Sequence[ModuleAudit], together: Figures | None, shares: Sequence[float]
) -> tuple[Reduction, ...]:
    """A reduction for each share; modules that could not be measured stay as they are.

    ``together`` are the figures of the others, ``None`` where there is none.
    """
    total = sum(module.parameters for module in modules)
    found = []
    for index, share in enumerate(shares):
        uniform = 0 if together is None else criteria.energy(together.singular_values, share)
        left = sum(m.parameters if m.figures is None else m.stored_at(m.figures.energy_ranks[index]) for m in modules)
        found.append(
            Reduction(
                share=share,
                uniform=uniform,
                uniform_parameters=sum(m.parameters if m.figures is None else m.stored_at(uniform) for m in modules),
                parameters=left,
                saved=1 - left / total if total else 0.0,
            )
        )
    return tuple(found)


def idle_share(modules: Sequence[ModuleAudit]) -> float:
    """Share of the parameters in directions that are zero to rounding, dead modules included."""
    total = sum(module.parameters for module in modules)
    used = sum(m.parameters if m.figures is None else m.stored_at(m.figures.numerical_rank) for m in modules)
    return 1 - used / total if total else 0.0
