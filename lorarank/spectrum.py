"""From an adapter to the spectrum of every module (floor 2): numpy only, a module at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorarank.adapters import Adapter, LoraModule
from lorarank.adapters.adapter import Stored
from lorarank.choices import check_metric
from lorarank.errors import NumericsError, OptionError, RunError
from lorarank.forked import shared
from lorarank.module_names import layer_index, module_type
from lorarank.numerics.linalg import singular_values
from lorarank.numerics.stacked import gram_pair, singular_values_of

WORTH_A_PROCESS = 4_000_000
"""Numbers in factors from which another process pays: they take 30 ms at r = 64, and a process takes 4."""

STACK, LARGEST_STACKED = 6, 128
"""The most modules of one r whose cores are computed at once, and the largest r. Of 210 modules six at once save a
seventh of the time at r = 64, twelve no more, and six at r = 128 but 3 %, for more memory."""

STACKS_EACH = 4
"""The fewest stacks for each of several processes, so that none waits long for the last one."""

Grams = tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The update of one module.

    Attributes
    ----------
    module : its path in the base model.
    type : last part of the path, e.g. ``q_proj``.
    layer : the first whole number in the path, ``None`` where there is none.
    out_features, in_features : shape of ΔW.
    r, scaling : of the adapter on this module.
    parameters : LoRA parameters stored for it.
    singular_values : (min(r, out, in),) float64, descending, scaling included, in the metric asked for.
    """

    module: str
    type: str
    layer: int | None
    out_features: int
    in_features: int
    r: int
    scaling: float
    parameters: int
    singular_values: NDArray[np.float64]

    @property
    def parameters_per_rank(self) -> int:
        """Parameters that one more rank costs here: out + in."""
        return self.out_features + self.in_features


def measure(
    adapter: Adapter, *, metric: str = "weight", moments: Path | None = None, replicate: int = 0
) -> tuple[Spectrum, ...]:
    """Spectra of all modules of an adapter, in its order.

    Parameters
    ----------
    adapter : as opened; its factors are read here, one module at a time.
    metric : one of :data:`lorarank.choices.METRICS`.
    moments : ``moments.safetensors`` of the run; needed by every metric but ``weight``.
    replicate : which of the run's adapters this is, counted from 0.

    Raises
    ------
    OptionError
        An unknown metric, or one that needs moments where there are none.
    NumericsError
        NaN or infinity in the factors, naming the module.
    RunError
        The moments are missing, damaged or of another adapter.
    """
    with grams_of(metric, moments, replicate) as grams:
        return tuple(of_module(module, grams(module)) for module in adapter.modules)


@contextmanager
def grams_of(metric: str, moments: Path | None, replicate: int = 0) -> Iterator[Callable[[LoraModule], Grams]]:
    """Within the block, a module's Gram matrices in the metric: ``gram_A`` and ``gram_B``, each (r, r) or ``None``.

    Parameters and errors are those of :func:`measure`.

    >>> with grams_of("weight", None) as grams:
    ...     grams(None)
    (None, None)
    """
    check_metric(metric)
    if metric == "weight":
        yield lambda module: (None, None)
        return
    if moments is None:
        raise OptionError(
            f"--metric {metric}",
            "an adapter alone does not hold the moments it needs",
            do="give a run folder, or leave --metric out",
        )
    with _opened(moments) as file:
        yield lambda module: _grams(file, moments, module, replicate, metric)


def of_module(module: LoraModule, grams: Grams = (None, None)) -> Spectrum:
    """The spectrum of one module, whose factors are read here.

    Parameters
    ----------
    module : of an adapter that has been opened.
    grams : (r, r) Gram matrices of A and of B in place of the factors' own, for metrics other than ``weight``.

    Raises
    ------
    NumericsError
        NaN or infinity in the factors, naming the module.
    """
    return Spectrum(
        module=module.name,
        type=module_type(module.name),
        layer=layer_index(module.name),
        out_features=module.out_features,
        in_features=module.in_features,
        r=module.r,
        scaling=module.scaling,
        parameters=module.parameters,
        singular_values=_values(module, grams),
    )


def of_modules(
    modules: Sequence[LoraModule],
    *,
    jobs: int = 1,
    where: object = "the adapter",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[NDArray[np.float64] | NumericsError]:
    """Singular values of many modules in the weight metric, in their order: an error where one has NaN or infinity.

    Parameters
    ----------
    modules : of an adapter that has been opened.
    jobs : the most processes to share them with, see :func:`lorarank.forked.shared`; small adapters use fewer.
    where : for messages: the adapter.
    progress : called with modules done and in all.

    Raises
    ------
    SourceError, AdapterError, ResourceError
        The file is gone, was changed since it was opened, or does not fit into memory; or a process was killed.
    """
    processes = max(1, min(jobs, sum(module.parameters for module in modules) // WORTH_A_PROCESS))
    stacks = _stacks(modules, STACK if processes == 1 else min(STACK, len(modules) // (STACKS_EACH * processes)))
    before = [0, *accumulate(map(len, stacks))]
    found = shared(
        lambda index: _of_stack(stacks[index]),
        len(stacks),
        processes=processes,
        where=where,
        progress=lambda index, _: progress(before[index], len(modules)),
    )
    return [values for stack in found for values in stack]


def _stacks(modules: Sequence[LoraModule], most: int) -> list[list[LoraModule]]:
    """Modules that follow each other and have one r, so many together; those of a large r are alone."""
    found: list[list[LoraModule]] = []
    for r, same in groupby(modules, key=lambda module: module.r):
        alike, size = list(same), max(1, most) if r <= LARGEST_STACKED else 1
        found += [alike[start : start + size] for start in range(0, len(alike), size)]
    return found


def _of_stack(modules: Sequence[LoraModule]) -> list[NDArray[np.float64] | NumericsError]:
    """Singular values of modules of one r; their factors are read one module at a time."""
    if len(modules) == 1:
        return [_alone(modules[0])]
    found: list[NDArray[np.float64] | NumericsError | None] = [None] * len(modules)
    grams: dict[int, NDArray[np.float64]] = {}
    for place, module in enumerate(modules):
        try:
            read = _read(module)
        except NumericsError as error:
            found[place] = _bare(error)
        else:
            (found if read.ndim == 1 else grams)[place] = read
    if grams:
        stacked = singular_values_of(np.stack(list(grams.values())), [modules[place].scaling for place in grams])
        for place, values in zip(grams, stacked, strict=True):
            found[place] = values
    return [_alone(module) if values is None else values for module, values in zip(modules, found, strict=True)]


def _read(module: LoraModule) -> NDArray[np.float64]:
    """A module's two Gram matrices (2, r, r), or its singular values where those do not serve."""
    stored = module.read()
    grams = gram_pair(*stored)
    return _values_of(module, stored) if grams is None else grams


def _alone(module: LoraModule) -> NDArray[np.float64] | NumericsError:
    try:
        return _values(module)
    except NumericsError as error:
        return _bare(error)


def _bare(error: NumericsError) -> NumericsError:
    """The error to keep, without its traceback: that has the module's factors."""
    error.__context__ = None
    return error.with_traceback(None)


def _values(module: LoraModule, grams: Grams = (None, None)) -> NDArray[np.float64]:
    return _values_of(module, module.read(), grams)


def _values_of(module: LoraModule, stored: Stored, grams: Grams = (None, None)) -> NDArray[np.float64]:
    try:
        return singular_values(*stored, module.scaling, gram_A=grams[0], gram_B=grams[1])
    except NumericsError as error:
        raise NumericsError(module.name, error.what, why=error.why, do=error.do) from None


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        file = safe_open(path, framework="numpy")
    except FileNotFoundError:
        raise RunError(path, "the file is missing", do="run the probe again") from None
    except (OSError, SafetensorError) as error:
        raise RunError(path, f"it is no readable safetensors file ({error})", do="run the probe again") from None
    with file:
        yield file


def _grams(file: Any, path: Path, module: LoraModule, replicate: int, metric: str) -> Grams:
    """``gram_A`` and, in the loss metric, ``gram_B`` of a module, (r, r) float64 each."""
    from lorarank.runs import moment_keys  # a bare adapter has no run

    keys = moment_keys(replicate, module.name)
    found = [_gram(file, path, key, module.r) for key in (keys if metric == "loss" else keys[:1])]
    return found[0], found[1] if len(found) == 2 else None


def _gram(file: Any, path: Path, key: str, r: int) -> NDArray[np.float64]:
    from safetensors import SafetensorError

    try:
        gram: NDArray[np.float64] = np.asarray(file.get_tensor(key), dtype=np.float64)
    except (SafetensorError, TypeError, AttributeError):
        raise RunError(f"{path}: {key}", "the moments are missing", do="run the probe again") from None
    if gram.shape != (r, r):
        raise RunError(f"{path}: {key}", f"its shape is {gram.shape}, not {(r, r)}", do="run the probe again")
    if not np.isfinite(gram).all():
        raise NumericsError(f"{path}: {key}", "NaN or infinity among the moments", do="use --metric weight")
    return gram
