"""Conversations through a chat template, and which tokens are the assistant's (floor 1).

A template that marks them ({% generation %}) is believed. Most do not; then the text rendered up to a turn, with the
generation prompt, is compared with the whole: the turn begins where that ends, which is where the model will begin to
write when it is used, and it ends with all that the template puts behind it, the end-of-turn token included. Trained on
is what the whole shows of a turn: many templates leave the thoughts of earlier turns out.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from lorarank.corpus.documents import Document, Message, plain_text
from lorarank.corpus.encoding import BATCH, Encoded, common_prefix, encode
from lorarank.corpus.template import apply, render, template_of
from lorarank.corpus.turns import Turn
from lorarank.errors import CorpusError

MARKED = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")

LAST_WORD = re.compile(r"[^\s>]+>*\Z")
"""A thought that the generation prompt begins may end right before it."""

Span = tuple[int, int]
"""Characters [begin, end) of one assistant turn in the rendered conversation."""


def tokenize_chats(documents: Sequence[Document], tokenizer: Any) -> list[Encoded]:
    """Tokens and targets of documents that have messages, whole.

    Raises
    ------
    CorpusError : no chat template; a conversation it does not accept; a template whose rendering of a conversation
        does not begin with its rendering of the first turns, so that no one can say where an answer starts.
    """
    if not documents:
        return []
    marked = MARKED.search(template_of(tokenizer)) is not None and getattr(tokenizer, "is_fast", False)
    results: list[Encoded] = []
    for (kind, template), run in itertools.groupby(documents, key=lambda document: (document.kind, document.template)):
        alike = list(run)
        for start in range(0, len(alike), BATCH):
            batch = alike[start : start + BATCH]
            if kind == "completion":
                results.extend(_answers(batch, tokenizer, dict(template)))
            elif marked:
                results.extend(_marked(batch, tokenizer, dict(template)))
            else:
                results.extend(_by_prefix(batch, tokenizer, dict(template)))
    return results


def _answers(documents: Sequence[Document], tokenizer: Any, template: dict[str, Any]) -> list[Encoded]:
    """A conversational prompt and its completion: everything after the generation prompt is a target, as in TRL."""
    asked = render(tokenizer, documents, [d.messages[: d.context] for d in documents], template, prompt=True)
    whole = render(tokenizer, documents, [d.messages for d in documents], template)
    for document, text in zip(documents, whole, strict=True):
        _require(document.messages[-1], text, document)
    prompts, texts = (encode(tokenizer, some, special=False) for some in (asked, whole))
    return [Encoded.of(ids, common_prefix(alone, ids)) for alone, ids in zip(prompts, texts, strict=True)]


def _marked(documents: Sequence[Document], tokenizer: Any, template: dict[str, Any]) -> list[Encoded]:
    options = {**template, "tokenize": True, "return_dict": True, "return_assistant_tokens_mask": True}
    out = apply(tokenizer, documents, [d.messages for d in documents], options)
    return [
        Encoded(np.array(ids, np.int32), np.array(mask, np.bool_))
        for ids, mask in zip(out["input_ids"], out["assistant_masks"], strict=True)
    ]


def _by_prefix(documents: Sequence[Document], tokenizer: Any, template: dict[str, Any]) -> list[Encoded]:
    whole = render(tokenizer, documents, [d.messages for d in documents], template)
    turns = [(at, i) for at, d in enumerate(documents) for i, m in enumerate(d.messages) if m["role"] == "assistant"]
    of_turn = [documents[at] for at, _ in turns]
    before = render(tokenizer, of_turn, [documents[at].messages[:i] for at, i in turns], template, prompt=True)
    after = render(tokenizer, of_turn, [documents[at].messages[: i + 1] for at, i in turns], template)
    spans: list[list[Span]] = [[] for _ in documents]
    for (at, i), prompt, through in zip(turns, before, after, strict=True):
        document, text = documents[at], whole[at]
        turn = Turn(tokenizer, template, document, i, text)
        begin, end = turn.begin(prompt), turn.end(through)
        if begin is None or end is None:
            raise CorpusError(
                f"row {document.row}",
                f"the chat template renders turn {i + 1} differently within the conversation and on its own",
                why="so the assistant's tokens cannot be told from the others",
                do="use a chat template with {% generation %} marks, or write one exchange a row",
            )
        if all(m["role"] != "assistant" for m in document.messages[i + 1 :]):  # thoughts of others may be left out
            _require(document.messages[i], text[begin:end], document)
        spans[at].append((begin, end))
    return _targets(tokenizer, whole, spans)


def _require(message: Message, rendered: str, document: Document) -> None:
    """Templates of vision models leave out content that is not in blocks: better to say so than to train on nothing."""
    word = LAST_WORD.search(plain_text(message).strip())
    if word and word[0] not in rendered:
        raise CorpusError(
            f"row {document.row}",
            "the chat template leaves out what the assistant says",
            do="use another template"
            if isinstance(message["content"], list)
            else 'write content as [{"type": "text", "text": …}], or use another template',
        )


def _targets(tokenizer: Any, texts: Sequence[str], spans: Sequence[Sequence[Span]]) -> list[Encoded]:
    """Tokens of rendered conversations; a token is a target when its last character lies in a span."""
    if not getattr(tokenizer, "is_fast", False):
        return [_slow_targets(tokenizer, text, some) for text, some in zip(texts, spans, strict=True)]
    out = tokenizer(
        list(texts),
        add_special_tokens=False,
        return_attention_mask=False,
        return_offsets_mapping=True,
        verbose=False,
    )
    results = []
    for ids, offsets, some in zip(out["input_ids"], out["offset_mapping"], spans, strict=True):
        # ends, not starts: a byte-level tokenizer leaves the space in front of a word out of its token's extent
        ends = np.array(offsets, np.int64).reshape(-1, 2)[:, 1]
        mask = np.zeros(len(ids), np.bool_)
        for begin, end in some:
            mask |= (begin < ends) & (ends <= end)
        results.append(Encoded(np.array(ids, np.int32), mask))
    return results


def _slow_targets(tokenizer: Any, text: str, spans: Sequence[Span]) -> Encoded:
    """The same for a tokenizer that does not tell where its tokens lie: the text up to each border is tokenised."""
    ids, *heads = encode(tokenizer, [text, *(text[:border] for span in spans for border in span)], special=False)
    borders = [common_prefix(head, ids) for head in heads]
    mask = np.zeros(len(ids), np.bool_)
    for begin, end in zip(borders[::2], borders[1::2], strict=True):
        mask[begin:end] = True
    return Encoded(np.array(ids, np.int32), mask)
