"""Calling a tokenizer (floor 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BATCH = 1000
"""Texts in one call: enough that the call itself costs nothing, few enough that its encodings stay small."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """A whole document: ``ids`` (length,) int32, and which are targets: ``mask`` (length,) bool."""

    ids: NDArray[np.int32]
    mask: NDArray[np.bool_]

    @classmethod
    def of(cls, ids: Sequence[int], start: int) -> Encoded:
        """Targets from token ``start`` on.

        >>> Encoded.of([5, 6, 7], 1).mask
        array([False,  True,  True])
        """
        return cls(np.array(ids, np.int32), np.arange(len(ids)) >= start)


def encode(tokenizer: Any, texts: Sequence[str], *, special: bool = True) -> list[list[int]]:
    """Token ids of each text; ``special`` lets the tokenizer add what it puts around a document."""
    ids: list[list[int]] = []
    for start in range(0, len(texts), BATCH):
        # verbose=False: a text longer than the model's context is cut here later, and needs no warning
        batch = tokenizer(
            list(texts[start : start + BATCH]), add_special_tokens=special, return_attention_mask=False, verbose=False
        )
        ids.extend(batch["input_ids"])
    return ids


def common_prefix(first: Sequence[Any], second: Sequence[Any]) -> int:
    """How many leading tokens, or characters, two sequences share.

    >>> common_prefix([1, 2, 3], [1, 2, 4, 5])
    2
    """
    if first == second[: len(first)]:
        return len(first)
    return next((at for at, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), len(second))
