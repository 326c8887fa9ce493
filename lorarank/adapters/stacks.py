"""Factors of all experts of a layer in two tensors with three dimensions, or of a fused projection in two (floor 1).

So MLX and llama.cpp keep them, and Tinker, of which either factor may be shared by all experts
(thinking-machines-lab/tinker-cookbook ``tinker_cookbook/scripts/merge_tinker_adapter_to_hf_model.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod

import numpy as np

from lorarank.adapters.adapter import LoraModule, Stored
from lorarank.adapters.factors import dtype_of, factor_shape, is_narrow
from lorarank.adapters.named_factors import Named
from lorarank.adapters.peft_experts import MOST_EXPERTS, MOST_MODULES
from lorarank.adapters.tensors import Store, read_finite
from lorarank.errors import AdapterError


class Stacks:
    """The stacks of a store; the one read last is kept, since its experts are asked for in a row."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._latest: tuple[Named, Stored] | None = None
        self._experts = 0

    def modules(
        self, one: Named, scaling: float, name: Callable[[int], str], *, transposed: str = "", parts: int = 0
    ) -> list[LoraModule]:
        """A module for every expert.

        Parameters
        ----------
        one : ``A`` (E, r, in) or (E·r, in), ``B`` (E, out, r); one of them may have E = 1, for all experts.
        scaling : of each product.
        name : from an expert's index to the name of its module.
        transposed : ``AB`` where they are (E, in, r) and (E, r, out); so they are taken, too, where r is larger than
            both sides the one way and not the other.
        parts : of a fused projection, where it is one: ``B`` is (parts·out, r) then.

        Raises
        ------
        AdapterError
            The shapes do not fit each other.
        """
        stored_A, stored_B = factor_shape(self._store, one.A), factor_shape(self._store, one.B)
        if parts:
            stored_B = (parts, stored_B[0] // parts, stored_B[1])
        if len(stored_A) == len(stored_B) == 3 and is_narrow(stored_A[1:], stored_B[1:], "AB"):
            transposed = transposed or ("" if is_narrow(stored_A[1:], stored_B[1:], "") else "AB")
        turn = bool(transposed) and len(stored_A) == 3
        shape_A, shape_B = (turned_shape(stored_A), turned_shape(stored_B)) if turn else (stored_A, stored_B)
        experts, r = (shape_B[0], shape_B[2]) if len(shape_B) == 3 else (0, 0)
        if len(shape_A) == 3 and 1 in (shape_A[0], experts) and shape_A[1] == r:
            experts, rows = max(shape_A[0], experts), max(shape_A[0], experts) * r
        else:
            rows = prod(shape_A[:-1])
        if not experts or len(shape_A) not in (2, 3) or rows != experts * r or shape_A[0] not in (1, experts, rows):
            raise AdapterError(
                f"{self._store.path}: {one.A}",
                f"its shape {stored_A} does not fit the shape {stored_B} of {one.B}",
                why="the update is their product",
            )
        if experts > MOST_EXPERTS:
            raise AdapterError(f"{self._store.path}: {one.A}", f"{experts:,} experts are more than any model has")
        self._experts += experts
        if self._experts > MOST_MODULES:
            raise AdapterError(
                self._store.path, f"its experts are more than the {MOST_MODULES:,} modules any model has"
            )
        return [
            LoraModule(
                name=name(expert),
                kind="linear" if parts else "parameter",
                r=r,
                in_features=shape_A[-1],
                out_features=shape_B[1],
                scaling=scaling,
                dtype=dtype_of(self._store, one.A, one.B),
                parameters=r * (shape_A[-1] + shape_B[1]),
                keys=(one.A, one.B),
                expert=expert,
                transposed=transposed,
                read=partial(self._factors, one, expert, (shape_B[1], r), transposed),
            )
            for expert in range(experts)
        ]

    def _factors(self, one: Named, expert: int, shape_B: tuple[int, int], transposed: str) -> Stored:
        """``lora_A`` (r, in) and ``lora_B`` (out, r)."""
        latest = self._latest
        if latest is None or latest[0] != one:
            self._latest = None  # so that two stacks are never held at once
            lora_A, lora_B = read_finite(self._store, one.A), read_finite(self._store, one.B)
            if transposed:
                lora_A, lora_B = lora_A.swapaxes(1, 2), lora_B.swapaxes(1, 2)
            latest = one, (lora_A.reshape(-1, shape_B[1], lora_A.shape[-1]), lora_B.reshape(-1, *shape_B))
            self._latest = latest
        lora_A, lora_B = latest[1]
        return np.array(lora_A[expert % len(lora_A)]), np.array(lora_B[expert % len(lora_B)])


def before_last(module: str) -> Callable[[int], str]:
    """Names of the modules of a stack's experts, each with its index before the last part.

    >>> before_last("layers.0.experts.up_proj")(3), before_last("experts")(3)
    ('layers.0.experts.3.up_proj', 'experts.3')
    """
    parent, _, last = module.rpartition(".")
    return lambda expert: f"{parent}.{expert}.{last}" if parent else f"{last}.{expert}"


def turned_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape with its last two dimensions the other way round.

    >>> turned_shape((8, 64, 4))
    (8, 4, 64)
    """
    return (*shape[:-2], shape[-1], shape[-2])
