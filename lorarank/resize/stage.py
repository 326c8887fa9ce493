"""The straight way from an adapter to the files of a smaller one, or of the same in another format (floor 2)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from lorarank import __version__
from lorarank.adapters import LoraModule
from lorarank.adapters.adapter import Factors
from lorarank.adapters.layout import Layout, vacant, write
from lorarank.adapters.replacement import Replacement, shared_by, stored_dtypes
from lorarank.adapters.tensors import BLOCKED, SMALL_FLOATS
from lorarank.adapters.write import BAKED, as_it_was, lay_out
from lorarank.adapters.write_peft import shared_ranks, staying
from lorarank.adapters.write_stored import COMPLETE
from lorarank.errors import NumericsError
from lorarank.numerics.linalg import truncated_factors
from lorarank.resize import loss
from lorarank.resize.opened import Opened, open_source
from lorarank.resize.options import ConvertOptions, ResizeOptions
from lorarank.resize.ranks import choose, grouped
from lorarank.resize.record import record
from lorarank.resize.result import Resized
from lorarank.sources import Source
from lorarank.spectrum import Grams, grams_of, measure

RECORD = "resize.json"
"""What a folder is given beside the adapter: the result, for the record."""

WIDER = dict.fromkeys(SMALL_FLOATS, "bfloat16") | dict.fromkeys(BLOCKED, "float32")
"""Stored dtype → the one that is written for it."""


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
    opened = open_source(source, options)
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
        result = record(opened, output, options, spectra, ranks, pieces, layout, tuple(command))
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
    opened = open_source(source, options)
    ranks = [module.r for module in opened.adapter.modules]
    pieces, layout = _laid_out(opened, ranks, lambda module: (None, None), options)
    return _written(record(opened, output, options, (), ranks, pieces, layout, tuple(command)), layout, output)


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
