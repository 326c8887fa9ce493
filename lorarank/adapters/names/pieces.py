"""A module under another name, or in pieces: rows of ``lora_B`` are rows of ΔW (floor 1)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lorarank.adapters.adapter import Factors, LoraModule

Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Piece:
    """A module of the base model.

    Attributes
    ----------
    name : its path.
    rows : which rows of the stored ``lora_B`` are its, in its own order; ``None`` where all are, as they are.
    """

    name: str
    rows: Rows | None = None

    def of(self, module: LoraModule) -> LoraModule:
        """The module that a stored one is, or is a piece of; ``lora_A`` is the same in all its pieces.

        >>> stored = LoraModule("qkv", "linear", 1, 2, 6, 1.0, "float32", 8, ("a", "b"),
        ...                     read=lambda: (np.ones((1, 2)), np.arange(6.0)[:, None]))
        >>> k = Piece("k", np.arange(2, 4)).of(stored)
        >>> k.name, k.out_features, k.parameters, k.factors()[1].ravel().tolist()
        ('k', 2, 4, [2.0, 3.0])
        """
        if self.rows is None:
            return replace(module, name=self.name)
        count = len(self.rows)
        return replace(
            module,
            name=self.name,
            out_features=count,
            parameters=module.parameters - module.r * (module.out_features - count),
            rows=self.rows,
            read=partial(_chosen, module, self.rows),
        )


def _chosen(module: LoraModule, rows: Rows) -> Factors:
    lora_A, lora_B = module.factors()
    return lora_A, lora_B[rows]


def split(names: tuple[str, ...], sizes: tuple[int, ...]) -> tuple[Piece, ...]:
    """Modules that lie in one after the other.

    >>> [piece.rows.tolist() for piece in split(("q", "k"), (2, 1))]
    [[0, 1], [2]]
    """
    ends = np.cumsum(sizes)
    return tuple(Piece(name, np.arange(end - size, end)) for name, size, end in zip(names, sizes, ends, strict=True))


def half_turned(out: int, heads: int) -> Rows:
    """Rows of queries or keys whose halves of each head alternate, put back into halves as transformers keeps them.

    Rotary embeddings turn pairs of numbers: neighbours in Meta's, llama.cpp's and torchtune's code, the two halves of a
    head in transformers' (``permute``, ggml-org/llama.cpp ``conversion/llama.py``; ``_permute_lora_matrix``,
    pytorch/torchtune ``torchtune/models/convert_weights.py``).

    >>> half_turned(8, 2).tolist()
    [0, 2, 1, 3, 4, 6, 5, 7]
    """
    rows: Rows = np.arange(out).reshape(heads, out // heads // 2, 2).swapaxes(1, 2).reshape(out)
    return rows
