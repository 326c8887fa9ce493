"""What came of a resize or a conversion, for the record (floor 2)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from lorarank.adapters import Adapter
from lorarank.adapters.layout import CODES, Layout, Slot
from lorarank.adapters.replacement import Replacement, core_key, stored_dtypes
from lorarank.errors import OptionError
from lorarank.module_names import module_type
from lorarank.numerics.pooling import energies
from lorarank.resize import loss
from lorarank.resize.opened import Opened
from lorarank.resize.options import ConvertOptions, ResizeOptions
from lorarank.resize.result import Resized, ResizedModule
from lorarank.spectrum import Spectrum


def record(
    opened: Opened,
    output: Path,
    options: ConvertOptions,
    spectra: Sequence[Spectrum],
    ranks: Sequence[int],
    pieces: Sequence[Replacement],
    layout: Layout,
    command: tuple[str, ...],
) -> Resized:
    """The result, from what was opened, the rank of each of its modules, and what is to be written.

    Raises
    ------
    OptionError
        The files take more numbers than ``--params`` allows.
    """
    adapter = opened.adapter
    written = {slot.key for block in layout.blocks for slot in block.slots}
    modules = _modules(adapter, spectra, ranks, {piece.module.name: piece for piece in pieces}, written)
    resizing = isinstance(options, ResizeOptions)
    metric = options.metric if isinstance(options, ResizeOptions) else "weight"
    measured, unmeasured = loss.measured(opened.run, metric, ranks) if resizing else (None, "")
    if measured is not None and options.dtype is not None:
        unmeasured = f"The loss was measured in the run, before the factors were rounded to {options.dtype}."
    return Resized(
        source=opened.source,
        output=str(output),
        criterion=_criterion(options, {piece.r for piece in pieces}),
        metric=metric,
        format_before=opened.stored,
        format=opened.form,
        dtypes_before=tuple(dict.fromkeys(dtype for piece in pieces for dtype in stored_dtypes(piece.module))),
        dtypes=tuple(dict.fromkeys(dtype for piece in pieces for dtype in piece.dtypes)),
        r_before=tuple(sorted({module.r for module in adapter.modules})),
        r=tuple(sorted({piece.r for piece in pieces})),
        parameters_before=opened.parameters,
        parameters=_parameters(layout, modules, options),
        bytes_before=_stored_bytes(adapter),
        bytes=layout.bytes,
        carried=len(adapter.carried),
        dropped=sum((module.energy or 0.0) * module.dropped for module in modules),
        loss=measured,
        modules=modules,
        notes=(*adapter.notes, *layout.notes, *_doubts(options), *([unmeasured] if unmeasured else [])),
        command=command,
    )


def _modules(
    adapter: Adapter,
    spectra: Sequence[Spectrum],
    ranks: Sequence[int],
    pieces: dict[str, Replacement],
    written: Collection[str],
) -> tuple[ResizedModule, ...]:
    """What became of each module; ``written`` are the names of all tensors of the new file."""
    shares = energies([module.singular_values for module in spectra])
    anew = any(piece.changed for piece in pieces.values()) or len(pieces) < len(adapter.modules)
    found = []
    for index, (module, rank) in enumerate(zip(adapter.modules, ranks, strict=True)):
        piece = pieces.get(module.name)
        grown = rank * (module.in_features + module.out_features)
        between = core_key(adapter, module)
        rewritten = (anew and (rank != module.r or module.kind == "linear")) or not (
            between is None or between in written
        )
        found.append(
            ResizedModule(
                name=module.name,
                type=module_type(module.name),
                out_features=module.out_features,
                in_features=module.in_features,
                r_before=module.r,
                r=rank,
                scaling_before=module.scaling,
                scaling=piece.scaling if piece is not None else 0.0,
                parameters_before=module.parameters,
                parameters=grown if rewritten else module.parameters,
                energy=float(shares[index]) if spectra else None,
                dropped=_tail(spectra[index].singular_values, rank) if spectra else 0.0,
            )
        )
    return tuple(found)


def _parameters(layout: Layout, modules: Sequence[ResizedModule], options: ConvertOptions) -> int:
    """Numbers in all factors as they are written."""
    if layout.parameters is None:
        return sum(module.parameters for module in modules)
    budget = options.params if isinstance(options, ResizeOptions) else None
    if budget is not None and layout.parameters > budget:
        raise OptionError(
            f"--params {budget}",
            f"with the zeros between modules that share a layer in this format it takes {layout.parameters:,}",
            do="give more, or write another format",
        )
    return layout.parameters


def _tail(values: np.ndarray[tuple[int], np.dtype[np.float64]], rank: int) -> float:
    """Share of Σσ² beyond the first ``rank``, summed from the smallest up; 0 for a zero update."""
    if values.size == 0 or values[0] == 0:
        return 0.0
    squares = np.square(values / values[0])[::-1]
    lost = squares[: max(values.size - rank, 0)].sum()
    return float(lost / squares.sum())


def _criterion(options: ConvertOptions, ranks: Collection[int]) -> str:
    """What decided the ranks, in the words of the command line; ``ranks`` are those that came of it."""
    if not isinstance(options, ResizeOptions):
        return ""
    value = getattr(options, options.criterion)
    shown = f"{value:,}" if isinstance(value, int) else f"{value:g}"
    per_module = options.per_module or options.criterion == "threshold_global"
    one = "one rank for all modules" if len(ranks) == 1 else "one rank for all modules that had a higher one"
    return f"{options.flag} {shown}, {'a rank for each module' if per_module else one}"


def _doubts(options: ConvertOptions) -> list[str]:
    """What is known to be the lesser choice: data/evidence/keep-loss.json and resize.json."""
    if not isinstance(options, ResizeOptions) or options.metric == "loss":
        return []
    if options.criterion == "threshold_global" or (options.criterion == "params" and options.per_module):
        return [
            f"Singular values of different modules are compared here in the metric {options.metric}, which is no "
            "common currency: where it was measured, one rank for all mostly lost less at the same parameters, and "
            "ranks by --metric loss, which needs a run, least."
        ]
    return []


def _stored_bytes(adapter: Adapter) -> int | None:
    store = adapter.store
    if store is None or any(tensor.dtype not in CODES for tensor in store.tensors.values()):
        return None
    return sum(Slot(key, tensor.dtype, tensor.shape).bytes for key, tensor in store.tensors.items())
