"""What a probe works on, before any weight is loaded: documents as rows, and the model's shapes (floor 2)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorarank import corpus
from lorarank.corpus import DocumentSet, Rows, TokenDocument
from lorarank.errors import CorpusError
from lorarank.probe import model as models
from lorarank.probe.excerpt import Excerpt, Lengths, excerpt, tokens_to_read
from lorarank.probe.options import (
    HELDOUT_SHARE,
    LONGEST_ROW,
    PART_DOCUMENTS,
    ProbeOptions,
    batch_tokens_for,
    heldout_tokens_for,
)
from lorarank.sources import folder_at, locate

MODEL_FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
"""What is fetched of a model on the hub: never pickles, never code."""

SHORTEST_ROW = 128


@dataclass(frozen=True, eq=False)
class Heldout:
    """Held-out rows; ``groups`` (token documents,) int64 says which document each piece belongs to."""

    rows: Rows
    keys: tuple[str, ...]
    groups: NDArray[np.int64]
    pieces: int
    tokens: int
    target_tokens: int

    def per_document(self, values: NDArray[Any]) -> NDArray[Any]:
        """Sums over the pieces of each document, (documents,)."""
        total = np.zeros(len(self.keys), dtype=values.dtype)
        np.add.at(total, self.groups, values)
        return total


@dataclass(frozen=True, eq=False)
class Material:
    """Everything read before the weights.

    ``parts`` are each replicate's token documents, of ``documents`` together; of large data they are an ``excerpt``,
    from which the ``unique`` tokens and ``truncated`` documents of all of it follow. ``begin`` is the id that the
    tokenizer begins every document with. ``batch_tokens`` and ``heldout_tokens`` (at most so many are measured, of
    ``heldout_documents``) go with a ``budget`` of training tokens; see :meth:`sized`.
    """

    folder: Path
    config: Any
    kind: str
    fingerprint: str
    excerpt: Excerpt
    parts: tuple[tuple[TokenDocument, ...], ...]
    documents: int
    heldout_documents: tuple[TokenDocument, ...]
    unique_tokens: int
    unique_target_tokens: int
    skipped: tuple[str, ...]
    truncated: int
    row_length: int
    begin: int | None
    notes: tuple[str, ...] = ()
    budget: int = 0
    batch_tokens: int = 0
    heldout_tokens: int = 0

    def sized(self, budget: int, options: ProbeOptions) -> Material:
        """The same with batch and held-out set for a budget of training tokens.

        Raises
        ------
        CorpusError
            The data has fewer tokens than one batch.
        """
        batch_tokens = max(options.batch_tokens or batch_tokens_for(budget), self.row_length)
        smallest = min(map(corpus.total_tokens, self.parts))
        if smallest < batch_tokens:
            raise CorpusError(
                options.data,
                f"{smallest} training tokens are fewer than one batch of {batch_tokens}"
                + (" in one of the replicates' parts" if len(self.parts) > 1 else ""),
                do=f"give more data, or a smaller batch with --batch-tokens {max(8, smallest // 8)}",
            )
        heldout_tokens = heldout_tokens_for(budget, hurried=options.minutes is not None)
        return dataclasses.replace(self, budget=budget, batch_tokens=batch_tokens, heldout_tokens=heldout_tokens)

    @property
    def rows_per_step(self) -> int:
        """Rows in an optimiser step."""
        return max(1, self.batch_tokens // self.row_length)

    @property
    def step_tokens(self) -> int:
        """Tokens of an optimiser step, padding counted: whole rows, and so no more than were asked for."""
        return self.rows_per_step * self.row_length

    def rows(self, replicate: int, seed: int, packed: bool) -> Rows:
        """A replicate's training rows."""
        return corpus.pack(self.parts[replicate], row_length=self.row_length, seed=seed, packed=packed)

    @property
    def heldout_pieces(self) -> tuple[TokenDocument, ...]:
        """The held-out documents that are measured."""
        return _some(self.heldout_documents, self.heldout_tokens, least=2)

    def heldout_part(self, share: float) -> tuple[TokenDocument, ...]:
        """The first of :attr:`heldout_pieces`: a ``share`` of the tokens that are asked for, or a few documents if
        these are more. Where there are fewer held-out tokens than that, they are all of them."""
        return _some(self.heldout_pieces, share * self.heldout_tokens, least=PART_DOCUMENTS)

    def epochs(self, trained: int, rows: Rows) -> float:
        """Passes over a replicate's data that training on so many tokens of its ``rows`` is."""
        return trained * self.excerpt.share / int((rows.document >= 0).sum())

    def repeated(self) -> tuple[int, float]:
        """Tokens of the distinct targets of training, and the share of the held-out pieces whose target is one.

        Of data that is read in part, answers are compared as text, all of them.
        """
        targets = corpus.distinct_targets(piece for part in self.parts for piece in part)
        pieces, part = self.heldout_pieces, self.excerpt
        if part.share < 1:
            again = [piece.key in part.told for piece in pieces]
        else:
            again = [piece.input_ids[piece.loss_mask].tobytes() in targets for piece in pieces]
        return round(sum(targets.values()) * part.more_answers), sum(again) / max(1, len(again))

    def heldout(self, packed: bool, pieces: tuple[TokenDocument, ...] | None = None) -> Heldout:
        """The held-out rows, or those of other ``pieces``."""
        pieces = self.heldout_pieces if pieces is None else pieces
        keys = tuple(dict.fromkeys(piece.key for piece in pieces))
        number = {key: at for at, key in enumerate(keys)}
        return Heldout(
            corpus.pack(pieces, row_length=self.row_length, seed=0, packed=packed),
            keys,
            np.array([number[piece.key] for piece in pieces], dtype=np.int64),
            len(pieces),
            corpus.total_tokens(pieces),
            sum(int(piece.loss_mask.sum()) for piece in pieces),
        )


def gather(options: ProbeOptions, budget: int | None = None) -> Material:
    """Read model configuration, tokenizer and data; split, tokenise, and choose the shape of the rows.

    Parameters
    ----------
    options : of the probe.
    budget : of training tokens, where it is another than that of the options.

    Raises
    ------
    SourceError, ModelError, CorpusError, OptionError
        See the functions that read each of them.
    """
    folder = folder_at(locate(options.model, allow_patterns=MODEL_FILES))
    config = models.load_config(folder)
    tokenizer = models.load_tokenizer(folder)
    found = corpus.read(options.data)
    skipped, fingerprint = found.skipped, found.fingerprint
    notes: tuple[str, ...] = ()
    if options.val is None:
        train, heldout = corpus.split_heldout(found.documents, share=HELDOUT_SHARE)
    else:
        other = corpus.read(options.val, split="validation")
        notes = _two_shapes(found, other)
        heldout, skipped, fingerprint = other.documents, skipped + other.skipped, f"{fingerprint}+{other.fingerprint}"
        train = corpus.without(found.documents, heldout)
        if not train:
            raise CorpusError(options.data, f"every document is also in {options.val}", do="give other held-out data")
        if both := len(found.documents) - len(train):
            notes += (f"Documents left out of training because they are held out too: {both:,}.",)
    lengths = Lengths.of(train, tokenizer)
    row_length = options.row_length or _row_length(lengths.tokens, config)
    budget = options.token_budget if budget is None else budget
    characters = tokens_to_read(options, budget) * lengths.per_token(math.inf if found.kind == "text" else row_length)
    chosen, held, part = excerpt(train, heldout, characters, replicates=options.replicates)
    if part.share < 1:
        notes += (
            f"Of {len(train):,} documents to train on {len(chosen):,} are read, chosen by their hash; what is said "
            "of tokens follows from them.",
        )
    token_sets = [
        corpus.tokenize(some, tokenizer, max_length=row_length) for some in corpus.parts(chosen, options.replicates)
    ]
    measured = corpus.tokenize(held, tokenizer, max_length=row_length)
    dropped = sum(tokens.dropped for tokens in token_sets)
    if without_target := dropped + measured.dropped:
        notes += (f"Documents left out because they have no token to predict: {without_target:,}.",)
    unique, unique_targets = corpus.unique_tokens([piece for some in token_sets for piece in some.documents])
    read = Material(
        folder,
        config,
        found.kind,
        fingerprint,
        part,
        tuple(tokens.documents for tokens in token_sets),
        len(train) - round(dropped / part.share),
        measured.documents,
        round(unique / part.share),
        round(unique_targets / part.share),
        skipped,
        round(sum(tokens.truncated for tokens in token_sets) / part.share),
        row_length,
        measured.begin,
        notes,
    )
    return read.sized(budget, options)


def _two_shapes(data: DocumentSet, val: DocumentSet) -> tuple[str, ...]:
    """A note where held-out documents have other fields than those to train on.

    Text carries loss everywhere, the other shapes on answers alone. With text on one side the gain would be that on
    prompts which nothing was trained on, or leave out most of what was, and a rank be found for neither; data is
    brought to one shape sooner than that is understood. Two shapes of answers are measured as they are.

    Raises
    ------
    CorpusError
        One of the two is text.
    """
    trained, held = data.documents[0].shape, val.documents[0].shape
    if trained == held:
        return ()
    if "text" in (data.kind, val.kind):
        raise CorpusError(
            val.source,
            f"the held-out data is {held}, and that to train on {trained}",
            why="text carries loss on all its tokens and other data on answers alone, so one would be trained and "
            "another measured",
            do="give both in the same fields",
        )
    return (f"Held-out data is {held}, and that to train on {trained}: their answers are laid out in two ways.",)


def _row_length(lengths: Sequence[int], config: Any) -> int:
    """The power of two that holds 99 of 100 documents whole, from 128 up to what the model and TRL's default allow."""
    wanted = max(SHORTEST_ROW, 1 << (int(np.percentile(lengths, 99)) - 1).bit_length())
    text = config.get_text_config()
    names = ("max_position_embeddings", "max_seq_len")  # the second is MPT's; XLNet has no end, and says -1
    longest = next((int(size) for name in names if (size := getattr(text, name, None) or 0) > 0), LONGEST_ROW)
    return min(wanted, LONGEST_ROW, longest)


def _some(pieces: Sequence[TokenDocument], most: float, *, least: int) -> tuple[TokenDocument, ...]:
    """Whole documents in the order of their hash, up to ``most`` tokens and at least ``least`` documents."""
    kept: list[TokenDocument] = []
    total, keys = 0, set[str]()
    for piece in sorted(pieces, key=lambda p: p.key):  # stable: pieces of one document stay together, in order
        if piece.key not in keys and total + piece.input_ids.size > most and len(keys) >= least:
            break
        kept.append(piece)
        keys.add(piece.key)
        total += piece.input_ids.size
    return tuple(kept)
