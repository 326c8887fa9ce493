"""What a gain on held-out data is told from: token frequencies alone, and prompts of other rows (floor 1)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lorarank.corpus.rows import Rows
from lorarank.corpus.tokens import TokenDocument, prompt_within

NEIGHBOURS = 16
"""So many following documents are looked through for one with another prompt."""

LEAST_SHARE = 0.5
"""Where fewer of the documents than this can get another prompt, nothing is said of prompts."""


def frequency_losses(train: Rows, heldout: Rows, *, documents: int, vocabulary: int) -> NDArray[np.float64]:
    """Held-out loss of a model that knows how often each token is a target in training, and nothing else.

    Tokens never seen share the mass that Witten & Bell (The zero-frequency problem, 1991, method C) set aside for
    novelty: of N tokens of T kinds, T / (N + T).

    Parameters
    ----------
    train, heldout : rows; only their targets count.
    documents : how many documents ``heldout.document`` counts.
    vocabulary : number of tokens there are.

    Returns
    -------
    (documents,) float64 : loss totals in nats.

    >>> def rows(*ids): return Rows(*(np.array([kind]) for kind in (ids, [True] * len(ids), ids, [0] * len(ids))))
    >>> frequency_losses(rows(0, 0, 1), rows(0, 2), documents=1, vocabulary=4).round(4).tolist()
    [2.5257]
    """
    counts = np.bincount(train.input_ids[train.loss_mask], minlength=vocabulary).astype(np.float64)
    seen = counts > 0
    kinds = int(seen.sum())
    unseen = counts.size - kinds
    novelty = kinds if unseen else 0
    mass = np.where(seen, counts, novelty / max(unseen, 1)) / max(counts.sum() + novelty, 1.0)
    ids = heldout.input_ids[heldout.loss_mask]
    sums = np.zeros(documents)
    np.add.at(sums, heldout.document[heldout.loss_mask], -np.log(np.maximum(mass[ids], np.finfo(np.float64).tiny)))
    return sums


def with_other_prompts(
    pieces: Sequence[TokenDocument], *, row_length: int, begin: int | None = None
) -> tuple[TokenDocument, ...] | None:
    """Every completion behind the prompt of one of the documents that follow, the next that has another one.

    Documents without such a neighbour, and those with several turns of targets, stay as they are.

    Parameters
    ----------
    pieces : tokenised documents that have prompts.
    row_length : most tokens; too long a prompt is cut from the left.
    begin : the id that the tokenizer begins every document with, if any; a prompt that is cut keeps it.

    Returns
    -------
    The documents in the same order, targets unchanged; ``None`` where fewer than half could get another prompt.

    >>> def document(*ids): return TokenDocument("key", np.array(ids), np.array([False] * (len(ids) - 1) + [True]))
    >>> dealt = with_other_prompts([document(1, 1, 7), document(2, 2, 8)], row_length=8)
    >>> [one.input_ids.tolist() for one in dealt]
    [[2, 2, 7], [1, 1, 8]]
    """
    dealt, changed = [], 0
    lengths = [_prompt_length(piece) for piece in pieces]
    for at, (piece, length) in enumerate(zip(pieces, lengths, strict=True)):
        other = None
        if length:
            prompt = piece.input_ids[:length]
            following = itertools.islice(itertools.cycle(range(len(pieces))), at + 1, at + 1 + NEIGHBOURS)
            others = (pieces[one].input_ids[: lengths[one]] for one in following if lengths[one])
            other = next((one for one in others if not np.array_equal(one, prompt)), None)
        changed += other is not None
        if other is not None:
            room = row_length - (piece.input_ids.size - length)
            piece = _behind(other[prompt_within(other, room, begin)], piece, length)
        dealt.append(piece)
    return tuple(dealt) if changed >= LEAST_SHARE * len(pieces) else None


def _prompt_length(piece: TokenDocument) -> int:
    """Tokens before the targets where these are one run, else 0."""
    mask = piece.loss_mask
    begin = int(mask.argmax())
    return begin if mask[begin : begin + int(mask.sum())].all() else 0


def _behind(prompt: NDArray[np.int32], piece: TokenDocument, length: int) -> TokenDocument:
    """The piece with ``prompt`` in the place of its first ``length`` tokens."""
    return TokenDocument(
        piece.key,
        np.concatenate([prompt, piece.input_ids[length:]]),
        np.concatenate([np.zeros(prompt.size, dtype=np.bool_), piece.loss_mask[length:]]),
    )
