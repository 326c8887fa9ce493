"""From the spectra of a live adapter to what is logged, and to early warnings (floor 2, numpy only)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lorarank.callback.live import LiveModule
from lorarank.errors import NumericsError
from lorarank.estimate.constants import ENERGY
from lorarank.module_names import module_type
from lorarank.numerics import criteria
from lorarank.numerics.criteria import LEAST_SATURABLE, SATURATED
from lorarank.numerics.linalg import singular_values
from lorarank.numerics.measures import stable_rank
from lorarank.wording import first_few, percent

PREFIX = "lora/"
"""Of everything that is logged."""

PATIENCE = 2
"""Measurements in a row at which a module must be saturated before that is told: one may be passing. Convention."""

NAMED = 3
"""Modules that a warning names; its record has all."""

DEAD, SATURATED_KIND, NAN = "dead", "saturated", "nan"


@dataclass(frozen=True)
class ModuleReading:
    """One module at one step: its ``energy_rank`` at 90 %, stable rank and ‖ΔW‖; ``None`` where one is no number."""

    name: str
    r: int
    energy_rank: int | None
    stable_rank: float | None
    norm: float | None

    @property
    def dead(self) -> bool:
        """Whether ΔW is zero."""
        return self.norm == 0

    @property
    def saturated(self) -> bool:
        """Whether 90 % of the energy takes three quarters of the rank or more."""
        return self.energy_rank is not None and self.r >= LEAST_SATURABLE and self.energy_rank >= SATURATED * self.r


@dataclass(frozen=True)
class Reading:
    """All modules at one step."""

    step: int
    modules: tuple[ModuleReading, ...]

    @property
    def logs(self) -> dict[str, float]:
        """What is logged: medians over modules with an update, ‖ΔW‖ of all, counts, and the rank by module type."""
        alive = [one for one in self.modules if one.energy_rank is not None and not one.dead]
        logs = {
            "dead": float(sum(one.dead for one in self.modules)),
            "saturated": float(sum(one.saturated for one in self.modules)),
        }
        if alive:
            logs["energy_rank"] = _median(one.energy_rank for one in alive)
            logs["energy_rank_max"] = float(max(one.energy_rank or 0 for one in alive))
            logs["stable_rank"] = _median(one.stable_rank for one in alive)
            logs["norm"] = float(np.sqrt(sum((one.norm or 0.0) ** 2 for one in alive)))
            for kind in sorted({module_type(one.name) for one in alive}):
                ranks = [one.energy_rank for one in alive if module_type(one.name) == kind]
                logs[f"energy_rank/{kind}"] = _median(ranks)
        return {PREFIX + name: value for name, value in logs.items()}


@dataclass(frozen=True)
class Warned:
    """A warning: ``kind`` is "dead", "saturated" or "nan"; ``modules`` are those it is new for."""

    step: int
    kind: str
    modules: tuple[str, ...]
    sentence: str


def read(step: int, modules: Iterable[LiveModule]) -> Reading:
    """The adapter as it stands; NaN in a module is a reading without numbers and no error.

    >>> A, B = np.ones((1, 3), np.float32), np.ones((2, 1), np.float32)
    >>> read(5, [LiveModule("q_proj", A, B, 2.0)]).logs["lora/norm"]
    4.89897948556...
    """
    return Reading(step, tuple(_reading(module) for module in modules))


def _reading(module: LiveModule) -> ModuleReading:
    r = module.lora_A.shape[0]
    try:
        values: NDArray[np.float64] = singular_values(module.lora_A, module.lora_B, module.scaling)
    except NumericsError:
        return ModuleReading(module.name, r, None, None, None)
    rank, norm = criteria.energy(values, ENERGY), float(np.linalg.norm(values))
    return ModuleReading(module.name, r, rank, stable_rank(values), norm)


class Watch:
    """What has been told already: a module is warned of once for each kind."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()
        self._saturated: dict[str, int] = {}

    def warnings(self, reading: Reading) -> tuple[Warned, ...]:
        """The warnings that a reading gives rise to."""
        for one in reading.modules:
            self._saturated[one.name] = self._saturated.get(one.name, 0) + 1 if one.saturated else 0
        found: Mapping[str, list[str]] = {
            NAN: [one.name for one in reading.modules if one.norm is None],
            DEAD: [one.name for one in reading.modules if one.dead],
            SATURATED_KIND: [name for name, times in self._saturated.items() if times >= PATIENCE],
        }
        return tuple(warned for kind, names in found.items() if (warned := self._new(kind, names, reading)) is not None)

    def _new(self, kind: str, names: list[str], reading: Reading) -> Warned | None:
        new = tuple(name for name in names if (kind, name) not in self._told)
        if not new:
            return None
        self._told.update((kind, name) for name in new)
        listed = first_few(new, NAMED)
        count = f"{len(names)} of {len(reading.modules)} modules"
        return Warned(
            reading.step, kind, new, f"Step {reading.step}: {count} {MEANING[kind]} ({listed}). {ADVICE[kind]}"
        )


MEANING = {
    NAN: "have NaN or infinity in their factors",
    DEAD: "have no update at all",
    SATURATED_KIND: f"use all their rank: {percent(ENERGY)} of the energy takes {percent(SATURATED)} of it or more",
}
ADVICE = {
    NAN: "Lower the learning rate.",
    DEAD: "They do not train: look at target_modules, frozen parameters and the learning rate, or leave them out.",
    SATURATED_KIND: "If the validation loss levels off, a higher r may help; `lorarank estimate` on a probe tells.",
}


def _median(values: Iterable[float | None]) -> float:
    return float(np.median([value for value in values if value is not None]))
