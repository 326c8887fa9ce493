"""The straight way from two adapters to what they have in common (floor 2); a module of each in memory at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lorarank import adapters, runs
from lorarank.adapters import Adapter, LoraModule
from lorarank.adapters.components import common_part, component, parts_of
from lorarank.adapters.names import FLATTENED
from lorarank.adapters.write_kohya import stems
from lorarank.compare.options import CompareOptions
from lorarank.compare.result import Compared, ComparedAdapter, ComparedGroup, ComparedModule, OneSided, Spans
from lorarank.compare.verdict import verdict
from lorarank.errors import AdapterError, NumericsError
from lorarank.estimate.constants import ENERGY
from lorarank.module_names import module_type
from lorarank.numerics import criteria
from lorarank.numerics.linalg import Factors, singular_values
from lorarank.numerics.pooling import median_of
from lorarank.numerics.replication import Side, agreement, principal_angles, replicated_rank, subspace_agreement
from lorarank.sources import Source

Floats = NDArray[np.float64]


def compare(first: Source, second: Source, options: CompareOptions | None = None) -> Compared:
    """Say what two adapters have in common, module by module, and what that means for merging them.

    They may differ in rank, scaling and format; what is compared are their delta weights, in the weight metric.

    Parameters
    ----------
    first, second : adapters as :func:`lorarank.adapters.open` takes them, or run folders, whose first adapter is meant.

    Raises
    ------
    SourceError, AdapterError, RunError
        A source that cannot be read or trusted; or two that share no module of one shape.
    NumericsError
        NaN or infinity in one of them.

    >>> compare("adapter-that-is-not-there", "another")
    Traceback (most recent call last):
        ...
    lorarank.errors.SourceError: adapter-that-is-not-there: no such file or folder, and no hub id either. ...
    """
    options = options or CompareOptions()
    one, two = _open(first), _open(second)
    mine, yours = _paired(one, two)
    one_sided = _one_sided(mine, yours)
    apart = {module.name for module in one_sided}
    shared = [name for name in mine if name not in apart]
    if not shared:
        raise AdapterError(
            f"{one.source} and {two.source}",
            "have no module of one name and shape in common",
            why="only updates of the same weights can be compared",
            do="give two adapters of the same base model, in one format where their names of modules differ",
        )
    modules = tuple(_module(name, mine[name], yours[name], options) for name in shared)
    kinds = dict.fromkeys(module.type for module in modules)
    return Compared(
        first=_described(one, first, [mine[name] for name in shared], [module.first_norm for module in modules]),
        second=_described(two, second, [yours[name] for name in shared], [module.second_norm for module in modules]),
        whole=_group("all", modules),
        types=tuple(_group(kind, [module for module in modules if module.type == kind]) for kind in kinds),
        modules=modules,
        one_sided=one_sided,
        notes=_notes(one, two),
    )


def _open(source: Source) -> Adapter:
    folder = runs.folder_of(source)
    return adapters.open(source if folder is None else runs.read(folder).adapters[0])


def _paired(one: Adapter, two: Adapter) -> tuple[dict[str, LoraModule], dict[str, LoraModule]]:
    """Modules of both by common names: where one adapter alone has underscores for dots, by the other's."""
    flat = [any(FLATTENED.fullmatch(module.name) for module in adapter.modules) for adapter in (one, two)]
    several = any(len(parts_of(adapter)) > 1 for adapter in (one, two))
    mine, yours = _named(one, several), _named(two, several)
    if flat == [True, False]:
        return _renamed(one, two, yours), yours
    if flat == [False, True]:
        return mine, _renamed(two, one, mine)
    return mine, yours


def _renamed(flat: Adapter, other: Adapter, named: Mapping[str, LoraModule]) -> dict[str, LoraModule]:
    """Modules of an adapter in kohya's layout by the names that the same modules have in the other one."""
    known, own = stems(other), stems(flat)
    names = {known[module.name]: name for name, module in named.items() if module.name in known}
    return {names.get(own.get(module.name, ""), module.name): module for module in flat.modules}


def _named(adapter: Adapter, several: bool) -> dict[str, LoraModule]:
    """Modules by name, without the part of a pipeline where that is the same for all: PEFT names none. Where one of two
    adapters is for ``several`` parts, with the part, which the path itself tells of a single model."""
    if not several:
        part = common_part(adapter)
        return {module.name.removeprefix(part): module for module in adapter.modules}
    return {_whole(adapter, module.name): module for module in adapter.modules}


def _whole(adapter: Adapter, name: str) -> str:
    try:
        return ".".join(component(name, named=adapter.format != "peft"))
    except AdapterError:
        return name


def _one_sided(mine: Mapping[str, LoraModule], yours: Mapping[str, LoraModule]) -> tuple[OneSided, ...]:
    found = [OneSided(name, "only in the first") for name in mine if name not in yours]
    found += [OneSided(name, "only in the second") for name in yours if name not in mine]
    found += [
        OneSided(name, "other shape")
        for name, module in mine.items()
        if name in yours
        and (module.out_features, module.in_features) != (yours[name].out_features, yours[name].in_features)
    ]
    return tuple(found)


def _module(name: str, one: LoraModule, two: LoraModule, options: CompareOptions) -> ComparedModule:
    first, second = (Factors(*module.factors(), scaling=module.scaling) for module in (one, two))
    try:
        spectra = [singular_values(*update) for update in (first, second)]
        norms = [float(np.linalg.norm(values)) for values in spectra]
        k = options.directions or min(criteria.energy(values, ENERGY) for values in spectra)
        rho = agreement(first, second)
        out, into = (_spans(first, second, k, side) for side in ("out", "in"))
        replicated = replicated_rank(first, second), replicated_rank(second, first)
    except NumericsError as error:
        raise NumericsError(name, error.what, why=error.why, do=error.do) from None
    overlap = min(out.agreement, into.agreement) if out is not None and into is not None else None
    return ComparedModule(
        name=name,
        type=module_type(name),
        out_features=one.out_features,
        in_features=one.in_features,
        first_r=one.r,
        second_r=two.r,
        first_norm=norms[0],
        second_norm=norms[1],
        agreement=rho,
        first_replicates=replicated[0],
        second_replicates=replicated[1],
        out=out,
        into=into,
        verdict=verdict(rho, norms[0], norms[1], overlap),
    )


def _spans(first: Factors, second: Factors, k: int, side: Side) -> Spans | None:
    """The spans of the leading k singular vectors on one side; ``None`` where an update has none."""
    angles = principal_angles(first, second, max(k, 1), side=side)
    if not angles.size:
        return None
    degrees = np.rad2deg(angles)
    dimension = first.lora_B.shape[0] if side == "out" else first.lora_A.shape[1]
    return Spans(
        k=angles.size,
        agreement=subspace_agreement(angles),
        chance=angles.size / dimension,
        smallest_angle=float(degrees[0]),
        median_angle=float(np.median(degrees)),
        largest_angle=float(degrees[-1]),
    )


def _group(kind: str, modules: Sequence[ComparedModule]) -> ComparedGroup:
    """Modules side by side. Sums are relative to the largest norms, so that no square overflows."""
    first, second = (np.array([getattr(module, f"{side}_norm") for module in modules]) for side in ("first", "second"))
    sizes = [float(norms.max()) for norms in (first, second)]
    one, two = (norms / size if size else norms for norms, size in zip((first, second), sizes, strict=True))
    weights: Floats = one * two
    total = float(np.linalg.norm(one) * np.linalg.norm(two))
    rho = float(weights @ [module.agreement for module in modules]) / total if total else 0.0
    norms = [float(np.linalg.norm(values)) * size for values, size in zip((one, two), sizes, strict=True)]
    out, into = (_mean([getattr(module, side) for module in modules], weights) for side in ("out", "into"))
    return ComparedGroup(
        type=kind,
        modules=len(modules),
        first_norm=norms[0],
        second_norm=norms[1],
        agreement=rho,
        first_replicates=median_of([module.first_replicates for module in modules], weights),
        second_replicates=median_of([module.second_replicates for module in modules], weights),
        out=out,
        into=into,
        verdict=verdict(rho, norms[0], norms[1], min(out, into)),
    )


def _mean(spans: Sequence[Spans | None], weights: Floats) -> float:
    """Mean subspace agreement; modules where an update is zero have no weight."""
    values = np.array([0.0 if one is None else one.agreement for one in spans])
    return float(weights @ values / weights.sum()) if weights.any() else 0.0


def _described(
    adapter: Adapter, source: Source, shared: Sequence[LoraModule], norms: Sequence[float]
) -> ComparedAdapter:
    names = {module.name for module in shared}
    rest = [module for module in adapter.modules if module.name not in names]
    others = [float(np.linalg.norm(singular_values(*module.factors(), module.scaling))) for module in rest]
    largest = max([*norms, *others])
    energy, left = (float(np.square(np.array(values) / (largest or 1.0)).sum()) for values in (norms, others))
    return ComparedAdapter(
        source=str(source),
        format=adapter.format,
        base_model=adapter.base_model,
        r=tuple(sorted({module.r for module in adapter.modules})),
        modules=len(adapter.modules),
        parameters=adapter.parameters,
        compared=energy / (energy + left) if energy + left else 0.0,
    )


def _notes(one: Adapter, two: Adapter) -> tuple[str, ...]:
    found = list(dict.fromkeys((*one.notes, *two.notes)))
    if one.base_model and two.base_model and one.base_model != two.base_model:
        found.append(
            f"The adapters name different base models, {one.base_model} and {two.base_model}: if the weights below "
            "them differ, so does what their updates mean."
        )
    carried = [str(adapter.source) for adapter in (one, two) if adapter.carried]
    if carried:
        found.append(
            f"What is no LoRA factor (in {' and '.join(carried)}) was not compared, and a merge would meet it."
        )
    return tuple(found)
