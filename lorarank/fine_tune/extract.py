"""A LoRA of a chosen rank from a full fine-tune (floor 3): the best rank-k part of W_tuned − W_base per matrix."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lorarank import __version__
from lorarank.adapters.layout import Block, Layout, Slot, downcast, vacant, write
from lorarank.adapters.write_peft import WEIGHTS
from lorarank.choices import check_least
from lorarank.errors import ModelError, NumericsError, OptionError
from lorarank.fine_tune.findings import outside
from lorarank.fine_tune.loaded import doubts, loaded_name
from lorarank.fine_tune.weights import Models, Pair, open_models
from lorarank.numerics.leading import NO_NUMBERS, leading_svd
from lorarank.resize.options import DTYPES
from lorarank.result import Result

SCHEMA = 1


@dataclass(frozen=True)
class Kept:
    """One matrix: ``kept`` is the share of its ‖ΔW‖² that the LoRA holds."""

    name: str
    norm: float
    kept: float


@dataclass(frozen=True)
class Extraction(Result):
    """A LoRA that was written.

    Attributes
    ----------
    output : its folder.
    rank : of every module; alpha is the same, so that the scaling is 1.
    modules : the linear layers that changed.
    parameters : numbers stored.
    kept : share of ‖ΔW‖² of these layers together that it holds.
    padded : layers that are smaller than the rank, so that the rest of their factors is zero.
    left_out : ‖·‖² of everything else that changed (embeddings, heads, norms, biases), as a share of all change.
    outside : kinds of matrices among that, by the words that an audit has for them.
    notes : what is to be known of the modules' names.
    schema, lorarank : version of this layout, and of the package.
    """

    output: Path
    rank: int
    modules: tuple[Kept, ...]
    parameters: int
    kept: float
    left_out: float
    padded: int = 0
    outside: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    schema: int = SCHEMA
    lorarank: str = __version__


def extract(
    base: str | Path,
    tuned: str | Path,
    output: Path,
    rank: int,
    *,
    dtype: str = DTYPES[0],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Extraction:
    """Write the LoRA of a rank that is nearest to a fine-tune, as a PEFT folder.

    Parameters
    ----------
    base, tuned : folders, safetensors files, or hub ids.
    output : a folder that does not exist, or is empty; it appears whole or not at all.
    rank : of every module; where a matrix is smaller, the rest of the factors is zero.
    dtype : of the factors, one of :data:`lorarank.resize.options.DTYPES`.
    progress : called with matrices done and in all.

    Raises
    ------
    OptionError
        A rank below 1, or above that of every linear layer; or something is in the way.
    ResourceError
        It cannot be written.
    SourceError, AdapterError, ModelError
        The models cannot be read, have nothing in common, or no linear layer changed.
    NumericsError
        NaN or infinity in a weight, or a factor that ``dtype`` cannot hold, naming it.
    """
    if dtype not in DTYPES:
        raise OptionError(f"--dtype {dtype}", "it is none that is written", do=f"give {', '.join(DTYPES)}")
    check_least("--rank", rank)
    vacant(output)
    models = open_models(base, tuned)
    largest = max((min(pair.out_features, pair.in_features) for pair in models.matrices if pair.linear), default=rank)
    if rank > largest:
        raise OptionError(f"--rank {rank}", "no linear layer has so many", do=f"give at most {largest}")
    blocks: list[Block] = []
    modules, rest, padded = [], [_squared(key, norm) for key, norm in models.changed_vectors()], 0
    outside_kinds: set[str] = set()
    for index, pair in enumerate(models.matrices, start=1):
        for update in pair.updates():
            change = update.change
            if not pair.linear:
                rest.append(_squared(pair.key, float(np.linalg.norm(change))))
                outside_kinds |= {pair.kind} if rest[-1] else set()
            elif change.any():
                kept, block = _factors(pair, loaded_name(pair.module, models.config), change, rank, dtype)
                modules.append(kept)
                blocks.append(block)
                padded += min(change.shape) < rank
        progress(index, len(models.matrices))
    if not modules:
        raise _no_layer(str(tuned), outside_kinds, any(rest))
    metadata = {"format": "pt", "made_by": f"lorarank {__version__}"}
    write(Layout(WEIGHTS, tuple(blocks), metadata, _config(str(base), models, modules, rank)), output)
    whole = sum(one.norm**2 for one in modules)
    return Extraction(
        output=output,
        rank=rank,
        modules=tuple(modules),
        parameters=sum(slot.size for block in blocks for slot in block.slots),
        kept=sum(one.kept * one.norm**2 for one in modules) / whole,
        left_out=sum(rest) / (whole + sum(rest)),
        padded=padded,
        outside=tuple(sorted(outside_kinds)),
        notes=(*models.notes, *doubts(models.config, [one.name for one in modules], gguf=models.gguf)),
    )


def _no_layer(tuned: str, kinds: Collection[str], differs: bool) -> ModelError:
    """Why there is nothing to be put into a LoRA."""
    what = "no linear layer differs from the base's"
    if not differs:
        return ModelError(tuned, what, do="check which is which")
    return ModelError(tuned, f"{what}, only {outside(kinds)} do", do="carry them as they are: a LoRA holds none of it")


def _squared(key: str, norm: float) -> float:
    """The square of what changed in a tensor that no factor is made of."""
    if not math.isfinite(norm):
        raise NumericsError(key, NO_NUMBERS, do="take another checkpoint")
    return norm**2


def _factors(pair: Pair, name: str, change: NDArray[np.float64], rank: int, dtype: str) -> tuple[Kept, Block]:
    """``lora_A`` (rank, in) and ``lora_B`` (out, rank), each with the root of σ."""
    try:
        found = leading_svd(change, rank)
    except NumericsError as error:
        raise NumericsError(pair.key, error.what, do=error.do) from None
    root, count = np.sqrt(found.s), len(found.s)
    lora_A, lora_B = np.zeros((rank, pair.in_features)), np.zeros((pair.out_features, rank))
    lora_A[:count], lora_B[:, :count] = root[:, None] * found.Vt, found.U * root
    factors = {
        key: downcast(factor, dtype, key)
        for side, factor in (("lora_A", lora_A), ("lora_B", lora_B))
        for key in [f"base_model.model.{name}.{side}.weight"]
    }
    block = Block(tuple(Slot(key, dtype, raw.shape) for key, raw in factors.items()), lambda: list(factors.values()))
    return Kept(name, found.norm, 1 - (found.residual / found.norm) ** 2), block


def _config(base: str, models: Models, modules: Sequence[Kept], rank: int) -> dict[str, object]:
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": any(pair.transposed for pair in models.matrices),
        "target_modules": _targets(
            {one.name for one in modules}, (loaded_name(name, models.config) for name in models.names)
        ),
        "task_type": None,
        "inference_mode": True,
        "init_lora_weights": True,
    }


def _targets(changed: Collection[str], tensors: Iterable[str]) -> list[str]:
    """Ends of names where no other module has one of them, else each name whole.

    >>> _targets({"layers.0.q", "layers.1.q"}, ["layers.0.q.weight", "layers.1.q.weight", "norm.weight"])
    ['q']
    >>> _targets({"layers.0.q", "proj.0"}, ["layers.0.q.weight", "layers.1.q.weight", "proj.0.weight"])
    ['layers.0.q', 'proj.0']
    """
    ends = {".".join(parts[-2:] if parts[-1].isdecimal() else parts[-1:]) for parts in (x.split(".") for x in changed)}
    for name in tensors:
        parts = name.split(".")
        for stop in range(1, len(parts)):
            hit = parts[stop - 1] in ends or ".".join(parts[max(0, stop - 2) : stop]) in ends
            if hit and ".".join(parts[:stop]) not in changed:
                return sorted(changed)
    return sorted(ends)
