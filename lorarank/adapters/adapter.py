"""What every reader of an adapter format produces (floor 1)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorarank.adapters.tensors import Numbers, Store

Factors = tuple[NDArray[np.float64], NDArray[np.float64]]
"""``lora_A`` (r, in) and ``lora_B`` (out, r)."""

Stored = tuple[Numbers, Numbers]
"""The same, of any dtype of :data:`~lorarank.adapters.tensors.Numbers`."""


@dataclass(frozen=True)
class LoraModule:
    """The low-rank update of one weight: ΔW = ``scaling * lora_B @ lora_A``, (out, in).

    A layer that computes ``W @ x`` has ΔW in the orientation of ``W``. Layers that store their weight as (in, out),
    embeddings and GPT-2's Conv1D, have it transposed; a convolution has it with all axes but the first flattened.

    Attributes
    ----------
    name : path of the module in the base model; of one expert of a stack, with the expert's index in it. Unique.
    kind : ``linear``, ``embedding``, ``conv1d``, ``conv2d``, ``conv3d``, or ``parameter`` (a weight that is targeted
        directly, as those of stacked experts are).
    r : rows of ``lora_A``, the largest rank that ΔW can have.
    in_features, out_features : shape of ΔW; of a convolution, in = input channels × kernel size.
    scaling : what the product is multiplied by.
    dtype : stored dtype, e.g. ``bfloat16``; both, where the two factors differ: ``float32, float16``.
    parameters : numbers stored for ``lora_A`` and ``lora_B``.
    keys : of the tensors they are stored in, ``lora_A``'s first.
    expert : index in a stack of experts, or among the parts of a fused projection that share their tensors; else
        ``None``.
    alpha : key of the tensor that holds its alpha, where there is one.
    transposed : letters of the factors that are stored the other way round, ``A`` (in, r) or ``B`` (r, out).
    rows : of the stored ``lora_B``, those that are this module's where it is a piece of what is stored, or has them in
        another order; ``None`` where all are, as they are.
    read : gives the factors at this moment, in the narrowest float that holds them; raises what
        :meth:`factors` does.

    >>> module = LoraModule("q", "linear", 1, 3, 2, 0.5, "float32", 5, ("q.lora_A.weight", "q.lora_B.weight"),
    ...                     read=lambda: (np.ones((1, 3)), np.ones((2, 1))))
    >>> lora_A, lora_B = module.factors()
    >>> (module.scaling * lora_B @ lora_A).tolist()
    [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]
    """

    name: str
    kind: str
    r: int
    in_features: int
    out_features: int
    scaling: float
    dtype: str
    parameters: int
    keys: tuple[str, str]
    expert: int | None = None
    alpha: str | None = None
    transposed: str = ""
    rows: NDArray[np.intp] | None = field(default=None, repr=False, compare=False)
    read: Callable[[], Stored] = field(kw_only=True, repr=False, compare=False)

    @property
    def is_part(self) -> bool:
        """Whether it shares its tensors with other parts of a fused projection."""
        return self.expert is not None and self.kind == "linear"

    def factors(self) -> Factors:
        """``lora_A`` (r, in) and ``lora_B`` (out, r), float64, read from the file at this moment.

        Raises
        ------
        NumericsError
            NaN or infinity among them, naming the tensor.
        SourceError, AdapterError
            The file is gone or was changed since it was opened.
        """
        lora_A, lora_B = self.read()
        return lora_A.astype(np.float64, copy=False), lora_B.astype(np.float64, copy=False)


@dataclass(frozen=True)
class Adapter:
    """An adapter that has been opened: shapes and scaling, no numbers yet.

    Attributes
    ----------
    source : the folder or file it was opened from.
    format : ``peft``, ``kohya``, ``diffusers``, ``attention-processors``, ``ai-toolkit``, ``xlabs``, ``longcat``,
        ``cloneofsimo``, ``mlx``, ``torchtune``, ``adapterhub``, ``gguf``, or ``pairs``, of no known tool.
    base_model : path or hub id of the base model, where the adapter names it.
    config : the adapter's configuration as stored; the file's own metadata where there is no other.
    modules : in natural order (layer 2 before layer 10), at least one.
    carried : keys of stored tensors that are no part of the modules: ``modules_to_save``, biases, DoRA's magnitudes.
        Alphas and Tucker cores are part of them: they are in the modules' ``scaling`` and ``lora_A``.
    notes : sentences about what a reader of the numbers has to know.
    store : the tensors it was opened from, for what is copied as it is; ``None`` where a format keeps it elsewhere.
    """

    source: Path
    format: str
    base_model: str | None
    config: Mapping[str, Any] = field(repr=False)
    modules: tuple[LoraModule, ...]
    carried: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    store: Store | None = field(default=None, repr=False, compare=False)

    @property
    def parameters(self) -> int:
        """Numbers stored for all LoRA factors together."""
        return sum(module.parameters for module in self.modules)


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Sorting key that puts ``layers.2`` before ``layers.10``.

    >>> sorted(["h.10.q", "h.2.q", "h.q"], key=natural_order)
    ['h.2.q', 'h.10.q', 'h.q']
    """
    return [(0, int(part), "") if part.isascii() and part.isdecimal() else (1, 0, part) for part in _PARTS.split(name)]


_PARTS = re.compile(r"([0-9]{1,18})")
