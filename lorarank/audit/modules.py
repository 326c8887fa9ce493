"""One module of an adapter: what it is and its figures, or why there are none (floor 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lorarank.adapters import LoraModule
from lorarank.audit.figures import Figures, figures_of
from lorarank.errors import NumericsError
from lorarank.module_names import layer_index, module_type
from lorarank.spectrum import of_module


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


def audit_module(module: LoraModule, shares: Sequence[float]) -> ModuleAudit:
    """Measure one module; its factors are read here, and let go.

    NaN, infinity and overflow make a module with a ``problem``, not an error: the others can still be measured.

    Raises
    ------
    SourceError, AdapterError, ResourceError
        The file is gone, was changed since it was opened, or does not fit into memory.
    """
    figures, problem = None, ""
    try:
        sv = of_module(module).singular_values
        figures = figures_of(sv, (module.out_features, module.in_features), shares)
        if not math.isfinite(figures.norm):
            figures, problem = None, "its norm is beyond float64"
    except NumericsError as error:
        problem = f"{error.what}"
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
