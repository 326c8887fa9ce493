"""How much of large data is made tokens of: of millions of rows that would take longer than the probe (floor 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lorarank import corpus
from lorarank.corpus import Document
from lorarank.probe.options import ProbeOptions

READ_TOKENS = 2**21
"""Of data with more tokens about so many are read, or twice as many as are trained on."""

LEAST_DOCUMENTS = 100
"""Documents that are read in any case, and for each replicate: a few long ones say little of the others."""

LENGTH_CHARACTERS = 2**22
"""Characters of the documents whose lengths are looked at."""

HELDOUT_CHARACTERS = 2**21
"""Characters of the held-out documents that are read, at least; what is measured of them is far less."""


@dataclass(frozen=True)
class Excerpt:
    """How what was read stands to all of the data.

    ``share`` of the characters to train on, 1 where it is all of them. All documents together have ``more_answers``
    times as many distinct answers as those that are read; ``told`` are the keys of the held-out documents whose answer
    is that of any document to train on.
    """

    share: float = 1.0
    more_answers: float = 1.0
    told: frozenset[str] = frozenset()


def tokens_to_read(options: ProbeOptions, budget: int) -> int:
    """About so many of the data to train on, where it has more."""
    return max(READ_TOKENS, 2 * options.replicates * budget)


@dataclass(frozen=True)
class Lengths:
    """Tokens of whole documents, and the characters of those documents."""

    tokens: tuple[int, ...]
    characters: int

    @classmethod
    def of(cls, documents: Sequence[Document], tokenizer: Any) -> Lengths:
        """Of all documents, or of some where they are many."""
        some, _ = corpus.sample(documents, LENGTH_CHARACTERS, least=LEAST_DOCUMENTS)
        whole = corpus.tokenize(some, tokenizer, max_length=2**31 - 1).documents
        return cls(tuple(piece.input_ids.size for piece in whole), sum(document.characters for document in some))

    def per_token(self, longest: float) -> float:
        """Characters for each token that is kept of documents with at most ``longest``."""
        return self.characters / float(np.minimum(self.tokens, longest).sum())


def excerpt(
    train: Sequence[Document], heldout: Sequence[Document], characters: float, *, replicates: int
) -> tuple[tuple[Document, ...], tuple[Document, ...], Excerpt]:
    """About so many ``characters`` of the documents to train on, and a quarter of that of those that are held out."""
    chosen, share = corpus.sample(train, characters, least=LEAST_DOCUMENTS * replicates)
    held, _ = corpus.sample(heldout, max(HELDOUT_CHARACTERS, characters / 4), least=LEAST_DOCUMENTS)
    if share == 1:
        return chosen, held, Excerpt()
    answers, read = ({document.answer for document in documents} for documents in (train, chosen))
    told = frozenset(document.key for document in held if document.answer in answers)
    return chosen, held, Excerpt(share, len(answers) / len(read), told)
