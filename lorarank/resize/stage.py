"""The straight way from an adapter to the files of a smaller one, or of the same in another format (floor 2)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from lorarank import __version__, adapters, runs
from lorarank.adapters import Adapter, LoraModule
from lorarank.adapters.adapter import Factors
from lorarank.adapters.layout import CODES, Layout, Slot, vacant, write
from lorarank.adapters.names import by_path
from lorarank.adapters.names.base import open_base
from lorarank.adapters.replacement import Replacement, core_key, shared_by, stored_dtypes
from lorarank.adapters.tensors import BLOCKED, SMALL_FLOATS
from lorarank.adapters.write import BAKED, STORED, as_it_was, lay_out
from lorarank.adapters.write_kohya import has_other_names
from lorarank.adapters.write_peft import shared_ranks, staying
from lorarank.adapters.write_stored import COMPLETE
from lorarank.choices import FORMATS
from lorarank.errors import NumericsError, OptionError
from lorarank.module_names import module_type
from lorarank.numerics.linalg import truncated_factors
from lorarank.numerics.pooling import energies
from lorarank.resize import loss
from lorarank.resize.options import ConvertOptions, ResizeOptions
from lorarank.resize.ranks import choose, grouped
from lorarank.resize.result import Resized, ResizedModule
from lorarank.runs import Run
from lorarank.spectrum import Grams, Spectrum, grams_of, measure

RECORD = "resize.json"
"""What a folder is given beside the adapter: the result, for the record."""

WIDER = dict.fromkeys(SMALL_FLOATS, "bfloat16") | dict.fromkeys(BLOCKED, "float32")
"""Stored dtype → the one that is written for it."""

GGUF_BY = ", from which llama.cpp's convert_lora_to_gguf.py makes a GGUF file"

Source = str | Path


@dataclass(frozen=True)
class Opened:
    """An adapter, what it was opened from and, where that was one, the run it is of.

    ``adapter`` has its modules named as the format ``form`` needs them, ``stored`` is the format that it was in, and
    ``parameters`` is what it stores.
    """

    source: str
    adapter: Adapter
    run: Run | None
    form: str
    stored: str
    parameters: int

    @property
    def moments(self) -> Path | None:
        """The run's second moments."""
        return self.run.moments if self.run is not None else None


def resize(source: Source, output: str | Path, options: ResizeOptions, *, command: Sequence[str] = ()) -> Resized:
    """Cut an adapter to a smaller rank and write it.

    Every module's ΔW becomes its best approximation of the new rank in the metric asked for; a module that keeps its
    rank keeps its very factors. What is no LoRA factor is copied byte for byte. The input is only read.

    Parameters
    ----------
    source : an adapter as :func:`lorarank.adapters.open` takes it, or a run folder, whose first adapter is meant.
    output : new or empty folder; or a new ``.safetensors`` file, for formats without a configuration.
    options : how small, and in which form.
    command : what was run, for the record.

    Raises
    ------
    SourceError, AdapterError, RunError, NumericsError
        The source cannot be read or trusted, or the format cannot hold it.
    OptionError
        Options that do not go with the source, or an output that is in the way.
    ResourceError
        The output cannot be written; nothing is left behind.

    >>> resize("adapter-that-is-not-there", "small", ResizeOptions(rank=8))
    Traceback (most recent call last):
        ...
    lorarank.errors.SourceError: adapter-that-is-not-there: no such file or folder, and no hub id either. ...
    """
    output = Path(output)
    vacant(output)
    opened = _open(source, options)
    adapter = opened.adapter
    spectra = measure(adapter, metric=options.metric, moments=opened.moments)
    labels = shared_ranks(adapter.modules) if adapter.format == "peft" else list(map(shared_by, adapter.modules))
    complete = opened.form == adapter.format and opened.form in COMPLETE
    stay = frozenset(module.name for module in adapter.modules) if complete else staying(adapter)
    groups, homes = grouped(spectra, labels, [module.name in stay for module in adapter.modules])
    chosen = choose(groups, options, partial(loss.kept, opened.run, options.metric))
    ranks = [chosen[home] for home in homes]
    with grams_of(options.metric, opened.moments) as grams:
        pieces, layout = _laid_out(opened, ranks, grams, options)
        result = _result(opened, output, options, spectra, ranks, pieces, layout, tuple(command))
        return _written(result, layout, output)


def convert(source: Source, output: str | Path, options: ConvertOptions, *, command: Sequence[str] = ()) -> Resized:
    """Write an adapter in another format, dtype or scaling; every ΔW stays what it was, to the dtype's rounding.

    Parameters
    ----------
    source, output, command : as for :func:`resize`.
    options : in which form.

    Raises
    ------
    OptionError, RunError, ResourceError, SourceError, AdapterError
        As :func:`resize` does.
    """
    output = Path(output)
    vacant(output)
    opened = _open(source, options)
    ranks = [module.r for module in opened.adapter.modules]
    pieces, layout = _laid_out(opened, ranks, lambda module: (None, None), options)
    return _written(_result(opened, output, options, (), ranks, pieces, layout, tuple(command)), layout, output)


def _open(source: Source, options: ConvertOptions) -> Opened:
    folder = runs.folder_of(source)
    run = None if folder is None else runs.read(folder)
    stored = adapters.open(source if run is None else run.adapters[0])
    form = _form(stored, options)
    own = form == stored.format and not (options.to == "kohya" and has_other_names(stored))
    if options.base is not None and own:
        raise OptionError("--base", f"the adapter keeps its format, {form}, and names", do="leave it out, or add --to")
    base = None if options.base is None else open_base(options.base)
    named = own and form != "diffusers"  # whose files hold names of the models' first code too
    with as_it_was(options.to):
        adapter = stored if named else by_path(stored, base, form)
    if form == stored.format == "kohya" and not own:
        adapter = dataclasses.replace(adapter, format="diffusers")  # by its names
    return Opened(str(source), adapter, run, form, stored.format, stored.parameters)


def _written(result: Resized, layout: Layout, output: Path) -> Resized:
    plain = dataclasses.asdict(result)
    write(layout, output, {RECORD: json.dumps(plain, indent=1, sort_keys=True) + "\n"})
    return result


def _laid_out(
    opened: Opened, ranks: Sequence[int], grams: Callable[[LoraModule], Grams], options: ConvertOptions
) -> tuple[list[Replacement], Layout]:
    """A replacement for every module that keeps a rank, and the files of all of them."""
    pieces = [
        _replacement(module, rank, grams, options, opened.form)
        for module, rank in zip(opened.adapter.modules, ranks, strict=True)
        if rank > 0
    ]
    with as_it_was(options.to):
        layout = lay_out(opened.adapter, pieces, opened.form)
    return pieces, dataclasses.replace(layout, metadata={**layout.metadata, "lorarank": __version__})


def _form(adapter: Adapter, options: ConvertOptions) -> str:
    form = options.to or adapter.format
    if form not in (*FORMATS, *STORED):
        raise OptionError(
            "--to",
            f"the input is in the format {form}, which is not written",
            do="give --to peft" + (GGUF_BY if form == "gguf" else ""),
        )
    return form


def _replacement(
    module: LoraModule, rank: int, grams: Callable[[LoraModule], Grams], options: ConvertOptions, form: str
) -> Replacement:
    # kohya's readers take an alpha of 0 for r
    baked = options.bake_alpha or form in BAKED or (form == "kohya" and module.scaling == 0)
    first, second = stored_dtypes(module)
    dtypes = (options.dtype or WIDER.get(first, first), options.dtype or WIDER.get(second, second))
    scaling = 1.0 if baked else module.scaling
    read = partial(_factors, module, rank, grams, baked)
    return Replacement(module, rank, scaling, dtypes, read, plain=options.to is not None, baked=options.bake_alpha)


def _factors(module: LoraModule, rank: int, grams: Callable[[LoraModule], Grams], baked: bool) -> Factors:
    """The new factors of a module: cut, as they are, or filled up with zeros; with its scaling in them if ``baked``."""
    lora_A, lora_B = module.factors()
    if rank < module.r:
        gram_A, gram_B = grams(module)
        try:
            lora_A, lora_B = truncated_factors(lora_A, lora_B, rank, gram_A=gram_A, gram_B=gram_B)
        except NumericsError as error:
            raise NumericsError(module.name, error.what, why=error.why, do=error.do) from None
    elif rank > module.r:
        lora_A = np.pad(lora_A, ((0, rank - module.r), (0, 0)))
        lora_B = np.pad(lora_B, ((0, 0), (0, rank - module.r)))
    if baked and module.scaling != 1:
        root = float(np.sqrt(abs(module.scaling)))
        lora_A, lora_B = lora_A * root, lora_B * np.copysign(root, module.scaling)
    return lora_A, lora_B


def _result(
    opened: Opened,
    output: Path,
    options: ConvertOptions,
    spectra: Sequence[Spectrum],
    ranks: Sequence[int],
    pieces: Sequence[Replacement],
    layout: Layout,
    command: tuple[str, ...],
) -> Resized:
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
