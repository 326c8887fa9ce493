"""Spectra by module, by type and by layer (floor 2)."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from lorarank.adapters import Adapter, LoraModule
from lorarank.estimate.constants import LOSS_SHARE
from lorarank.estimate.recommendation import (
    AdapterSummary,
    LayerSummary,
    ModuleSummary,
    Replication,
    TypeSummary,
)
from lorarank.estimate.rule import median_rank
from lorarank.numerics import criteria, measures
from lorarank.numerics.linalg import Factors
from lorarank.numerics.pooling import energies, median_of, pooled_rank
from lorarank.numerics.replication import Likeness, likeness
from lorarank.runs import Truncation
from lorarank.spectrum import Spectrum


def same_shapes(adapters: Sequence[Adapter]) -> bool:
    """Whether the adapters change the same modules, of the same shapes; ranks may differ."""
    shapes = [{module.name: (module.out_features, module.in_features) for module in a.modules} for a in adapters]
    return all(shape == shapes[0] for shape in shapes)


def compare_replicates(adapters: Sequence[Adapter]) -> Mapping[str, Likeness]:
    """Module → what two or more adapters of the same modules have in common there, one module in memory at a time."""
    others = [{module.name: module for module in adapter.modules} for adapter in adapters]
    return {module.name: _likeness([other[module.name] for other in others]) for module in adapters[0].modules}


def _likeness(modules: Sequence[LoraModule]) -> Likeness:
    return likeness([Factors(*module.factors(), scaling=module.scaling) for module in modules])


def replication_of(
    adapters: Sequence[Adapter], figures: Mapping[str, Likeness], weight: Sequence[Spectrum]
) -> Replication:
    """Energy-weighted summary of the modules' figures; the weights are those of the first adapter."""
    weights = energies([module.singular_values for module in weight])
    replicated = np.array([figures[module.module].replicated_rank for module in weight])
    agreements = np.array([figures[module.module].agreement for module in weight])
    return Replication(
        adapters=len(adapters),
        agreement=float(weights @ agreements),
        replicated_median=median_of(replicated, weights),
        replicated_mean=float(weights @ replicated),
    )


def summarise_adapter(adapter: Adapter, spectra: Sequence[Spectrum], share: float) -> AdapterSummary:
    """One adapter in a line."""
    values = [module.singular_values for module in spectra]
    return AdapterSummary(
        source=str(adapter.source),
        base_model=adapter.base_model,
        r=tuple(sorted({module.r for module in adapter.modules})),
        modules=len(adapter.modules),
        parameters=adapter.parameters,
        median=median_rank(values, share),
        pooled=pooled_rank(values, share),
        notes=tuple(adapter.notes),
    )


def summarise_modules(
    spectra: Sequence[Spectrum], ranks: Sequence[int], figures: Mapping[str, Likeness]
) -> tuple[ModuleSummary, ...]:
    """Every module with its energy rank and its other measures."""
    rows = zip(spectra, energies([module.singular_values for module in spectra]), ranks, strict=True)
    return tuple(_module(module, float(energy), rank, figures.get(module.module)) for module, energy, rank in rows)


def _module(module: Spectrum, energy: float, rank: int, pair: Likeness | None) -> ModuleSummary:
    sv = module.singular_values
    return ModuleSummary(
        name=module.module,
        type=module.type,
        layer=module.layer,
        out_features=module.out_features,
        in_features=module.in_features,
        r=module.r,
        scaling=module.scaling,
        parameters=module.parameters,
        norm=float(np.linalg.norm(sv)),
        energy=energy,
        rank=rank,
        effective_rank=measures.effective_rank(sv),
        energy_entropy_rank=measures.energy_entropy_rank(sv),
        stable_rank=measures.stable_rank(sv),
        participation_ratio=measures.participation_ratio(sv),
        numerical_rank=criteria.numerical(sv, (module.out_features, module.in_features)),
        replicated=pair.replicated_rank if pair else None,
        agreement=pair.agreement if pair else None,
    )


def summarise_types(
    spectra: Sequence[Spectrum],
    ranks: Sequence[int],
    truncation: Truncation | None = None,
    gain: float = 0.0,
    allowed: float = LOSS_SHARE,
) -> tuple[TypeSummary, ...]:
    """Module types with the median of their energy ranks, the dearest to leave out first; else by energy.

    Where a run has measured what is lost without one, it could be left out if that is at most ``allowed`` of the gain.
    """
    excesses = {item.type: item.excess for item in truncation.without} if truncation and gain > 0 else {}
    found = []
    for kind, modules, energy, rank in _groups(spectra, ranks, [module.type for module in spectra]):
        excess = excesses.get(kind)
        known = excess is not None and math.isfinite(excess.mean)
        found.append(
            TypeSummary(
                type=kind,
                modules=len(modules),
                parameters_per_rank=sum(module.parameters_per_rank for module in modules),
                energy=energy,
                rank=rank,
                excess=excess.mean / gain if excess and known else None,
                excess_se=excess.se / gain if excess and known else None,
                spare=excess.mean <= allowed * gain if excess and known else None,
            )
        )
    return tuple(sorted(found, key=lambda t: (t.excess is None, -(t.excess or 0.0), -t.energy, t.type)))


def summarise_layers(spectra: Sequence[Spectrum], ranks: Sequence[int]) -> tuple[LayerSummary, ...]:
    """Layers in order with the median of their energy ranks; modules outside all layers come last."""
    rows = (
        LayerSummary(layer, len(modules), energy, rank)
        for layer, modules, energy, rank in _groups(spectra, ranks, [module.layer for module in spectra])
    )
    return tuple(sorted(rows, key=lambda row: (row.layer is None, row.layer or 0)))


Key = TypeVar("Key", bound=Hashable)


def _groups(
    spectra: Sequence[Spectrum], ranks: Sequence[int], keys: Sequence[Key]
) -> Iterator[tuple[Key, list[Spectrum], float, float]]:
    """Modules that share a key, their part of the energy and their median rank, in the order of first appearance."""
    weights = energies([module.singular_values for module in spectra])
    members: dict[Key, list[int]] = {}
    for index, key in enumerate(keys):
        members.setdefault(key, []).append(index)
    for key, indices in members.items():
        energy = weights[indices]
        yield key, [spectra[i] for i in indices], float(energy.sum()), median_of([ranks[i] for i in indices], energy)
