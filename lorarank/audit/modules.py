"""One module of an adapter: what it is and its figures, or why there are none (floor 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lorarank.adapters import LoraModule
from lorarank.audit.figures import Figures, figures_of
from lorarank.errors import NumericsError
from lorarank.module_names import layer_index, module_type


@dataclass(frozen=True)
class ModuleAudit:
    """One module.

    Attributes
    ----------
    name, type, layer : its path, and what the path says; ``layer`` is ``None`` outside all layers.
    kind, dtype : of the module and of its stored factors, see :class:`lorarank.adapters.LoraModule`.
    out_features, in_features : shape of ΔW.
    r, scaling, parameters : of the adapter on it.
    figures : ``None`` where its numbers could not be measured.
    problem : why not; empty otherwise.
    """

    name: str
    type: str
    layer: int | None
    kind: str
    dtype: str
    out_features: int
    in_features: int
    r: int
    scaling: float
    parameters: int
    figures: Figures | None
    problem: str = ""

    @property
    def parameters_per_rank(self) -> int:
        """Parameters that a unit of rank costs here: out + in."""
        return self.out_features + self.in_features

    def stored_at(self, k: float) -> int:
        """Parameters it would have at rank ``k``, or its own where that is smaller.

        Shared factors (grouped convolutions, stacks of experts) hold fewer numbers than r·(out + in).
        """
        return min(self.parameters, int(k) * self.parameters_per_rank)


def audit_modules(
    modules: Sequence[LoraModule], spectra: Sequence[NDArray[np.float64] | NumericsError], shares: Sequence[float]
) -> tuple[ModuleAudit, ...]:
    """Every module with its figures; NaN, infinity and overflow make one with a ``problem``, not an error.

    Parameters
    ----------
    modules : of one adapter.
    spectra : the singular values of each, as :func:`lorarank.spectrum.of_modules` gives them.
    shares : of energy, each in (0, 1].
    """
    alike: dict[int, dict[int, NDArray[np.float64]]] = {}  # number of singular values → place → them
    for index, spectrum in enumerate(spectra):
        if not isinstance(spectrum, NumericsError):
            alike.setdefault(len(spectrum), {})[index] = spectrum
    figures: dict[int, Figures] = {}
    for found in alike.values():
        shapes = [(modules[index].out_features, modules[index].in_features) for index in found]
        figures |= zip(found, figures_of(np.stack(list(found.values())), shapes, shares), strict=True)
    return tuple(
        _module(module, figures.get(index), spectrum.what if isinstance(spectrum, NumericsError) else "")
        for index, (module, spectrum) in enumerate(zip(modules, spectra, strict=True))
    )


def _module(module: LoraModule, figures: Figures | None, problem: str) -> ModuleAudit:
    if figures is not None and not math.isfinite(figures.norm):
        figures, problem = None, "its norm is beyond float64"
    return ModuleAudit(
        name=module.name,
        type=module_type(module.name),
        layer=layer_index(module.name),
        kind=module.kind,
        dtype=module.dtype,
        out_features=module.out_features,
        in_features=module.in_features,
        r=module.r,
        scaling=module.scaling,
        parameters=module.parameters,
        figures=figures,
        problem=problem,
    )
