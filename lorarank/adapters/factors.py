"""From named tensors to modules: the part that all layouts of down and up pairs share (floor 1).

:mod:`lorarank.adapters.named_factors` brings together what belongs to one module, and :func:`build` checks the shapes
before anything is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorarank.adapters.adapter import Adapter, LoraModule, Stored
from lorarank.adapters.candidate import Candidate
from lorarank.adapters.named_factors import Named
from lorarank.adapters.peft_config import usable_alpha
from lorarank.adapters.tensors import BLOCKED, FLOATS, SMALL_FLOATS, Numbers, Store, read_finite, read_number
from lorarank.errors import AdapterError

KINDS = {2: "linear", 3: "conv1d", 4: "conv2d", 5: "conv3d"}
"""Dimensions of ``lora_A`` → kind of the module."""

MOST_SPREAD = 2**25
"""Numbers of a factor that is larger in memory than on disk (268 MB); real ones have a few million at most."""

PARTS = (2, 3)
"""Of q, k and v, how many a fused projection can have factors for."""

MAGNITUDE = re.compile(r"magnitude_vector|\.(?:dora_scale|magnitude(?:_[rc])?|weight_m_wdecomp\.weight)$")
"""Of DoRA by PEFT, kohya, Stable Audio 3 and DoRA's authors (NVlabs/DoRA ``peft/tuners/dora.py``)."""


def factor_shape(store: Store, key: str) -> tuple[int, ...]:
    """Shape of a tensor that can be a factor: plain floats, at least two dimensions, none empty.

    Raises
    ------
    AdapterError
        It is none, and why.
    """
    tensor = store.tensors[key]
    if tensor.dtype not in FLOATS | BLOCKED and tensor.dtype not in SMALL_FLOATS:
        raise AdapterError(
            f"{store.path}: {key}",
            f"stored as {tensor.dtype}",
            why="only floats of 8 bits or more, without scales, hold a factor by themselves",
            do="convert it to bfloat16, with its scales, where it comes from",
        )
    if len(tensor.shape) < 2 or tensor.size == 0:
        raise AdapterError(
            f"{store.path}: {key}",
            f"its shape {tensor.shape} is that of no factor",
            why="DeepSpeed ZeRO-3 and FSDP leave empty or flat ones where the model was not gathered before saving; "
            "layers of e3nn, as in MACE, keep all of their weights flat",
            do="gather the model and save it again",
        )
    return tensor.shape


def dtype_of(store: Store, *keys: str) -> str:
    """Stored dtypes of some tensors, each once.

    >>> from types import SimpleNamespace as Some
    >>> dtype_of(Some(tensors={"a": Some(dtype="float16"), "b": Some(dtype="float16")}), "a", "b")
    'float16'
    """
    return ", ".join(dict.fromkeys(store.tensors[key].dtype for key in keys))


def turned(store: Store, one: Named, usual: str = "") -> str:
    """Letters of the factors of a layer that are stored the other way round, where names do not say it for sure.

    Bare ``lora_A`` are (r, in) with loralib and (in, r) with PaddleNLP (``paddlenlp/peft/lora/lora_layers.py``), bare
    ``lora_a`` (in, r) with MLX. ``usual`` is kept unless it makes r larger than the layer, and the other way does not.
    """
    shape_A, shape_B = factor_shape(store, one.A), factor_shape(store, one.B)
    if len(shape_A) != 2 or len(shape_B) != 2:
        return usual
    other = "" if usual else "AB"
    return other if is_narrow(shape_A, shape_B, other) and not is_narrow(shape_A, shape_B, usual) else usual


def kept(store: Store, one: Named) -> str:
    """Letters of the factors of a layer that are stored the other way round, with names of PEFT's and diffusers'.

    Those are the weights of layers, (r, in) and (out, r) in torch, and what is bare :func:`turned` tells. Paddle has
    all of them the other way round, and its safetensors files say that they are its own (``write_lora_layers``,
    PaddlePaddle/PaddleMIX ``ppdiffusers/ppdiffusers/loaders/lora.py``).
    """
    if is_paddle(store):
        return "AB" if len(factor_shape(store, one.A)) == len(factor_shape(store, one.B)) == 2 else ""
    return "" if one.A.endswith(".weight") else turned(store, one)


def is_paddle(store: Store) -> bool:
    """Whether the metadata of a file say that Paddle's code has written it."""
    return getattr(store, "metadata", {}).get("format") == "pd"


def is_narrow(shape_A: tuple[int, ...], shape_B: tuple[int, ...], transposed: str) -> bool:
    """Whether two factors fit each other, with an r no larger than the layer.

    >>> is_narrow((32, 4), (4, 32), ""), is_narrow((32, 4), (4, 32), "AB"), is_narrow((32, 4), (4, 8), "")
    (False, True, False)
    """
    (r, inner), (outer, columns) = (shape_A[::-1], shape_B[::-1]) if transposed else (shape_A, shape_B)
    return r == columns and r <= max(inner, outer)


def fused_parts(store: Store, one: Named) -> int:
    """How many projections share a pair of factors, as loralib (``MergedLinear``) and LitGPT keep q, k and v:
    ``lora_A`` (parts·r, in) and ``lora_B`` (parts·out, r). 1 where there is one, and where they are not all as wide as
    their input: sizes are not stored, and grouped heads have others.

    >>> from types import SimpleNamespace as Some
    >>> A, B = (Some(dtype="float32", shape=shape, size=512) for shape in ((8, 64), (128, 4)))
    >>> fused_parts(Some(tensors={"A": A, "B": B}), Named("c_attn", "A", "B"))
    2
    """
    shape_A, shape_B = factor_shape(store, one.A), factor_shape(store, one.B)
    if one.alpha is not None or len(shape_A) != 2 or len(shape_B) != 2:
        return 1
    fits = (parts for parts in PARTS if shape_A[0] == parts * shape_B[1] and shape_B[0] == parts * shape_A[1])
    return next(fits, 1)


def alpha_scaling(store: Store, one: Named, transposed: str = "") -> float:
    """alpha/r, or 1 where no alpha is stored; ``transposed`` as for :func:`build`.

    Raises
    ------
    AdapterError
        The alpha is no usable number.
    """
    if one.alpha is None:
        return 1.0
    r = factor_shape(store, one.A)[1 if "A" in transposed else 0]
    return usable_alpha(read_number(store, one.alpha), f"{store.path}: {one.alpha}") / r


def build(store: Store, one: Named, scaling: float, *, transposed: str = "", kind: str = "") -> LoraModule:
    """The module of a pair of factors.

    Parameters
    ----------
    store : that holds them.
    one : ``A`` (r, in) or, of a convolution, (r, in, k, …); ``B`` (out, r) or (out, r, 1, …). With ``mid``
        (r, r, k, …), ``A`` is (r, in, 1, …).
    scaling : of their product.
    transposed : letters of the factors that are stored the other way round, ``A`` (in, r) or ``B`` (r, out).
    kind : of the module, by default what the number of dimensions says.

    Raises
    ------
    AdapterError
        They do not fit each other, or are no factors.
    """
    shape_A, shape_B = factor_shape(store, one.A), factor_shape(store, one.B)
    flat = len(shape_A) == len(shape_B) == 2
    fits = flat if transposed else len(shape_A) in KINDS and set(shape_B[2:]) <= {1}
    down = shape_A[::-1] if "A" in transposed else shape_A
    up = shape_B[::-1] if "B" in transposed else shape_B
    if fits and up[1] < down[0] and down[0] % up[1] == 0 and up[1] > 0:
        raise AdapterError(
            f"{store.path}: {one.A}",
            f"a fused projection in {down[0] // up[1]} parts of r = {up[1]}, as loralib and LitGPT keep them",
            why="how many outputs each part is for is not stored",
            do="save it with each projection by itself, or in PEFT's layout",
        )
    if not fits or down[0] != up[1]:
        raise AdapterError(
            f"{store.path}: {one.A}",
            f"its shape {shape_A} does not fit the shape {shape_B} of {one.B}",
            why="the update is their product",
        )
    kernel, dimensions = prod(down[2:]), len(down)
    if one.mid is not None:
        shape_mid = factor_shape(store, one.mid)
        if kernel != 1 or len(shape_mid) not in KINDS or shape_mid[:2] != (down[0], down[0]):
            raise AdapterError(
                f"{store.path}: {one.mid}",
                f"its shape {shape_mid} does not fit between the shapes {shape_A} and {shape_B} of the factors",
            )
        kernel, dimensions = prod(shape_mid[2:]), len(shape_mid)
        if down[0] * down[1] * kernel > MOST_SPREAD:
            raise AdapterError(f"{store.path}: {one.mid}", f"would spread over {down[0]:,}×{down[1] * kernel:,}")
    keys = [one.A, one.B] + ([] if one.mid is None else [one.mid])
    return LoraModule(
        name=one.module,
        kind=kind or KINDS[dimensions],
        r=down[0],
        in_features=down[1] * kernel,
        out_features=up[0],
        scaling=scaling,
        dtype=dtype_of(store, *keys),
        parameters=sum(store.tensors[key].size for key in keys),
        keys=(one.A, one.B),
        alpha=one.alpha,
        transposed=transposed,
        read=partial(_read, store, one, transposed),
    )


def _read(store: Store, one: Named, transposed: str) -> Stored:
    lora_A, lora_B = read_finite(store, one.A), read_finite(store, one.B)
    if "A" in transposed:
        lora_A = np.ascontiguousarray(lora_A.T)
    if "B" in transposed:
        lora_B = np.ascontiguousarray(lora_B.T)
    lora_A, lora_B = lora_A.reshape(len(lora_A), -1), lora_B.reshape(len(lora_B), -1)
    if one.mid is not None:
        # the core convolves what A makes of the input: (i, j, k, …) and (j, in) to (i, in, k, …)
        mid = read_finite(store, one.mid).astype(np.float64)
        lora_A = np.tensordot(mid, lora_A.astype(np.float64), axes=(1, 0))
        lora_A = np.moveaxis(lora_A, -1, 1).reshape(len(lora_A), -1)
    return lora_A, lora_B


def spread(lora_B: Numbers, groups: int, parts: Sequence[bool]) -> NDArray[np.float64]:
    """A grouped ``lora_B`` as an ordinary one: each group of outputs uses its own part of the r columns only.

    Parameters
    ----------
    lora_B : (groups · m, r / groups)
    parts : for each block of m outputs, whether it has a group; blocks without one stay zero.

    Returns
    -------
    lora_B : (len(parts) · m, r)

    >>> spread(np.array([[1.0], [2.0]]), 2, [True, False, True]).tolist()
    [[1.0, 0.0], [0.0, 0.0], [0.0, 2.0]]
    """
    m, columns = len(lora_B) // groups, lora_B.shape[1]
    full = np.zeros((len(parts), m, groups * columns))
    slots = [slot for slot, enabled in enumerate(parts) if enabled]
    for group, slot in enumerate(slots):
        full[slot, :, group * columns : (group + 1) * columns] = lora_B[group * m : (group + 1) * m]
    return full.reshape(len(parts) * m, groups * columns)


def assemble(
    candidate: Candidate,
    form: str,
    modules: Sequence[LoraModule],
    carried: Sequence[str],
    *,
    notes: Iterable[str] = (),
    base_model: str | None = None,
    config: Mapping[str, Any] | None = None,
    named: bool = False,
) -> Adapter:
    """An adapter of some modules.

    Parameters
    ----------
    candidate : it was read from.
    form : name of the format.
    modules : at least one, each with a name of its own.
    carried : keys of the tensors that are no part of them.
    notes, base_model : see :class:`~lorarank.adapters.adapter.Adapter`.
    config : as stored, by default the metadata of the file.
    named : whether ``candidate.member`` has been looked for.

    Raises
    ------
    AdapterError
        No module, two of the same name, or one of several adapters asked for where there is but one.
    """
    where = candidate.weights or candidate.path
    if candidate.member is not None and not named:
        raise AdapterError(where, f"holds no adapter named {candidate.member}, but a single one", do=f"name {where}")
    if not modules:
        first = ", ".join(carried[:3]) or "none"
        raise AdapterError(where, f"holds no pair of factors among its {len(carried)} tensors ({first})")
    names: set[str] = set()
    for module in modules:
        if module.name in names:
            raise AdapterError(f"{where}: {module.keys[0]}", f"a second update of the module {module.name}")
        names.add(module.name)
    return Adapter(
        source=candidate.path,
        format=form,
        base_model=base_model,
        config=dict(candidate.metadata) if config is None else config,
        modules=tuple(modules),
        carried=tuple(carried),
        notes=tuple(notes),
        store=candidate.store,
    )
