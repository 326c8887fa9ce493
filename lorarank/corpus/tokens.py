"""Documents to tokens, and which of them carry loss, as TRL's supervised trainer does it (floor 1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorarank.corpus.chat import tokenize_chats
from lorarank.corpus.documents import Document
from lorarank.corpus.encoding import Encoded, common_prefix, encode
from lorarank.errors import CorpusError, OptionError


@dataclass(frozen=True, eq=False)
class TokenDocument:
    """A document, or a piece of a long text, as tokens.

    ``input_ids`` (length,) int32; ``loss_mask`` (length,) bool, True where the token is a target, never for the first;
    ``key`` is the document's, the same for all its pieces.
    """

    key: str
    input_ids: NDArray[np.int32]
    loss_mask: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class TokenSet:
    """Tokenised documents, in order.

    Attributes
    ----------
    documents : each at most ``max_length`` long and with at least one target.
    truncated : documents that were longer: texts came apart into pieces, the others lost tokens.
    dropped : documents that had no target, or kept none.
    begin : the id that the tokenizer begins every document with, if any.
    """

    documents: tuple[TokenDocument, ...]
    truncated: int
    dropped: int
    begin: int | None


def tokenize(documents: Sequence[Document], tokenizer: Any, *, max_length: int) -> TokenSet:
    """Tokens and targets of every document.

    - text: every token is a target; an end-of-sequence token follows unless the text ends with it. Too long: cut into
      consecutive pieces.
    - completion: the completion and its end-of-sequence token are targets, the prompt is not. Both are tokenised as
      one string, nothing in between; the completion begins where that differs from the prompt alone. Too long: the
      prompt is cut from the left, down to one token; then the completion at its end.
    - messages: through the chat template; assistant turns are targets (:mod:`lorarank.corpus.chat`). Too long: cut at
      the end, or, where that leaves no target, around the first assistant turn as if it were a completion.

    Where the tokenizer itself begins documents with a beginning-of-sequence token, every piece keeps it, since models
    trained with it fall apart without; it is never doubled by one written in the text.

    Parameters
    ----------
    documents : as read.
    tokenizer : as transformers has them: callable on a list of texts, with ``eos_token``, ``eos_token_id``,
        ``bos_token``, ``bos_token_id``, ``chat_template`` and ``apply_chat_template``.
    max_length : most tokens in a document, at least 2.

    Raises
    ------
    OptionError : ``max_length`` below 2.
    CorpusError : no document has a target; messages without a chat template, or with one that does not show which
        tokens are the assistant's.

    >>> class Letters:
    ...     eos_token, eos_token_id, bos_token, bos_token_id, chat_template = "$", ord("$"), None, None, None
    ...     def __call__(self, texts, **options):
    ...         return {"input_ids": [[ord(letter) for letter in text] for text in texts]}
    >>> [sum_] = tokenize([Document("key", "completion", "2+2=", "4", (), 1)], Letters(), max_length=8).documents
    >>> "".join(map(chr, sum_.input_ids)), sum_.loss_mask.astype(int).tolist()
    ('2+2=4$', [0, 0, 0, 0, 1, 1])
    """
    if max_length < 2:
        raise OptionError("document length", f"{max_length} tokens leave none to predict", do="give at least 2")
    frame = _Frame.of(tokenizer)
    chats = iter(tokenize_chats([document for document in documents if document.messages], tokenizer))
    plain = iter(_tokenize_plain([document for document in documents if not document.messages], tokenizer, frame))
    pieces: list[TokenDocument] = []
    truncated = dropped = 0
    for document in documents:
        whole = next(chats if document.messages else plain)
        truncated += len(whole.ids) > max_length
        before = len(pieces)
        for ids, mask in _fit(document.kind, whole, max_length, frame.begin):
            mask[:1] = False
            if mask.any():
                pieces.append(TokenDocument(document.key, ids, mask))
        dropped += len(pieces) == before
    if not pieces:
        raise CorpusError("data", f"none of {len(documents)} documents has a token to predict", do="give longer texts")
    return TokenSet(tuple(pieces), truncated, dropped, frame.begin)


def prompt_within(prompt: NDArray[np.int32], room: int, begin: int | None) -> NDArray[np.intp]:
    """Which tokens of a prompt stay where there is ``room`` for so many: it is cut from the left, but for ``begin``.

    >>> prompt_within(np.array([1, 5, 6, 7], np.int32), 3, begin=1).tolist()
    [0, 2, 3]
    """
    room = min(prompt.size, room)
    head = min(int(begin in prompt[:1]), room)
    return np.delete(np.arange(prompt.size), slice(head, prompt.size - (room - head)))


def total_tokens(documents: Iterable[TokenDocument]) -> int:
    """Tokens of all documents together, targets and others.

    >>> total_tokens([TokenDocument("a", np.arange(3, dtype=np.int32), np.array([False, True, True]))])
    3
    """
    return sum(document.input_ids.size for document in documents)


def unique_tokens(documents: Iterable[TokenDocument]) -> tuple[int, int]:
    """``(tokens, target tokens)`` with every distinct document counted once: what there is to be learnt.

    >>> one = TokenDocument("a", np.arange(3, dtype=np.int32), np.array([False, True, True]))
    >>> unique_tokens([one, one])
    (3, 2)
    """
    # pieces of one text share its key and differ in their tokens
    distinct = {(document.key, document.input_ids.tobytes()): document.loss_mask for document in documents}
    return sum(mask.size for mask in distinct.values()), sum(int(mask.sum()) for mask in distinct.values())


def distinct_targets(documents: Iterable[TokenDocument]) -> dict[bytes, int]:
    """Every distinct run of target tokens, as bytes, with its length: what is answered, however it is asked for.

    >>> mask = np.array([False, True, True])
    >>> asked = [TokenDocument(str(first), np.array([first, 7, 8], dtype=np.int32), mask) for first in (1, 2)]
    >>> list(distinct_targets(asked).values())
    [2]
    """
    return {document.input_ids[document.loss_mask].tobytes(): int(document.loss_mask.sum()) for document in documents}


@dataclass(frozen=True)
class _Frame:
    """What the tokenizer puts around a text of its own accord: ``begin``, the id it starts with, if any."""

    begin: int | None
    ends: bool

    @classmethod
    def of(cls, tokenizer: Any) -> _Frame:
        [ids] = encode(tokenizer, ["a"])
        begins = len(ids) > 1 and ids[0] == tokenizer.bos_token_id
        return cls(ids[0] if begins else None, len(ids) > 1 and ids[-1] == tokenizer.eos_token_id)


def _tokenize_plain(documents: Sequence[Document], tokenizer: Any, frame: _Frame) -> list[Encoded]:
    begin, end = tokenizer.bos_token or "", tokenizer.eos_token or ""
    prompts, texts = [], []
    for document in documents:
        prompt, completion = document.prompt, document.completion
        if frame.ends:
            completion = completion.removesuffix(end)  # the tokenizer adds it
        elif not completion.endswith(end):
            completion += end
        if frame.begin is not None and prompt:
            prompt = prompt.removeprefix(begin)
        elif frame.begin is not None:
            completion = completion.removeprefix(begin)
        prompts.append(prompt)
        texts.append(prompt + completion)
    whole = encode(tokenizer, texts)
    asked = iter(encode(tokenizer, [prompt for prompt in prompts if prompt]))
    results = []
    for prompt, ids in zip(prompts, whole, strict=True):
        if not prompt:
            results.append(Encoded.of(ids, 0))
            continue
        alone = next(asked)
        alone = alone[:-1] if frame.ends else alone
        results.append(Encoded.of(ids, common_prefix(alone, ids)))
    return results


Piece = tuple[NDArray[np.int32], NDArray[np.bool_]]


def _fit(kind: str, whole: Encoded, most: int, begin: int | None) -> list[Piece]:
    ids, mask = whole.ids, whole.mask
    if len(ids) <= most:
        return [(ids, mask)]
    head = int(ids[0] == begin)
    if kind == "text":
        step = most - head
        starts = range(head, len(ids), step)
        return [
            (np.concatenate([ids[:head], ids[s : s + step]]), np.concatenate([mask[:head], mask[s : s + step]]))
            for s in starts
        ]
    targets = np.flatnonzero(mask)
    if not len(targets):
        return []
    start, stop = int(targets[0]), len(ids)
    if kind == "messages":
        if mask[1:most].any():
            return [(ids[:most], mask[:most])]
        # the first assistant turn: as far as the targets go on without a gap
        stop = start + int(np.argmin(np.append(mask[start:], False)))
    # whatever the completion leaves goes to the end of the prompt, of which one token stays in any case
    prompt = prompt_within(ids[:start], max(most - (stop - start), 1), begin)
    kept = np.r_[prompt, start:stop][:most]
    return [(ids[kept], mask[kept])]
