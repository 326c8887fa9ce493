"""Conversations through a chat template, and which tokens are the assistant's (floor 1).

A template that marks them ({% generation %}) is believed. Most do not; then the text rendered up to a turn, with the
generation prompt, is compared with the whole: the turn begins where that ends, which is where the model will begin to
write when it is used, and it ends with all that the template puts behind it, the end-of-turn token included. Trained on
is what the whole shows of a turn: many templates leave the thoughts of earlier turns out.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lorarank.corpus.documents import Document, Message, plain_text
from lorarank.corpus.encoding import BATCH, Encoded, common_prefix, encode
from lorarank.errors import CorpusError

MARKED = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")

TAGS = "<["
"""What thoughts, tools and roles are opened with."""

BEGUN_TAG = re.compile(r"[<\[][^<>\[\]\s]*")

LAST_WORD = re.compile(r"[^\s>]+>*\Z")
"""A thought that the generation prompt begins may end right before it."""

MARK = "-lorarank-mark-"
"""Stands where a template is asked what follows. The text without it is compared, so data that holds it is refused."""

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
    marked = MARKED.search(_template(tokenizer)) is not None and getattr(tokenizer, "is_fast", False)
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


def _template(tokenizer: Any) -> str:
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    if not template:
        raise CorpusError(
            getattr(tokenizer, "name_or_path", "") or "tokenizer",
            "it has no chat template, so messages have no text",
            do="use the instruction-tuned model, or write the data as prompt and completion, or as text",
        )
    return str(template)


def _apply(
    tokenizer: Any, documents: Sequence[Document], turns: Sequence[Sequence[Message]], options: dict[str, Any]
) -> Any:
    """The chat template on ``turns`` of the ``documents``; when it fails, the error names the first that does."""
    try:
        return tokenizer.apply_chat_template([list(t) for t in turns], **options)
    except Exception as error:  # templates are programs: they raise what they like
        rows = (
            document.row for document, some in zip(documents, turns, strict=True) if _fails(tokenizer, some, options)
        )
        raise CorpusError(
            f"row {next(rows, documents[0].row)}",
            f"the chat template does not accept this conversation ({error})",
            do="fix or leave out the row",
        ) from error


def _fails(tokenizer: Any, turns: Sequence[Message], options: dict[str, Any]) -> bool:
    try:
        tokenizer.apply_chat_template([list(turns)], **options)
    except Exception:  # as above
        return True
    return False


def _render(
    tokenizer: Any,
    documents: Sequence[Document],
    turns: Sequence[Sequence[Message]],
    template: dict[str, Any],
    *,
    prompt: bool = False,
) -> list[str]:
    """Text of each conversation; ``prompt`` adds the words after which the assistant writes."""
    options = {**template, "tokenize": False, "add_generation_prompt": prompt}
    return list(_apply(tokenizer, documents, turns, options)) if turns else []


def _answers(documents: Sequence[Document], tokenizer: Any, template: dict[str, Any]) -> list[Encoded]:
    """A conversational prompt and its completion: everything after the generation prompt is a target, as in TRL."""
    asked = _render(tokenizer, documents, [d.messages[: d.context] for d in documents], template, prompt=True)
    whole = _render(tokenizer, documents, [d.messages for d in documents], template)
    for document, text in zip(documents, whole, strict=True):
        _require(plain_text(document.messages[-1]).strip(), text, document)
    prompts, texts = (encode(tokenizer, some, special=False) for some in (asked, whole))
    return [Encoded.of(ids, common_prefix(alone, ids)) for alone, ids in zip(prompts, texts, strict=True)]


def _marked(documents: Sequence[Document], tokenizer: Any, template: dict[str, Any]) -> list[Encoded]:
    options = {**template, "tokenize": True, "return_dict": True, "return_assistant_tokens_mask": True}
    out = _apply(tokenizer, documents, [d.messages for d in documents], options)
    return [
        Encoded(np.array(ids, np.int32), np.array(mask, np.bool_))
        for ids, mask in zip(out["input_ids"], out["assistant_masks"], strict=True)
    ]


def _by_prefix(documents: Sequence[Document], tokenizer: Any, template: dict[str, Any]) -> list[Encoded]:
    whole = _render(tokenizer, documents, [d.messages for d in documents], template)
    turns = [(at, i) for at, d in enumerate(documents) for i, m in enumerate(d.messages) if m["role"] == "assistant"]
    of_turn = [documents[at] for at, _ in turns]
    before = _render(tokenizer, of_turn, [documents[at].messages[:i] for at, i in turns], template, prompt=True)
    after = _render(tokenizer, of_turn, [documents[at].messages[: i + 1] for at, i in turns], template)
    spans: list[list[Span]] = [[] for _ in documents]
    for (at, i), prompt, through in zip(turns, before, after, strict=True):
        document, text = documents[at], whole[at]
        turn = _Turn(tokenizer, template, document, i, text)
        begin, end = turn.begin(prompt), turn.end(through)
        if begin is None or end is None:
            raise CorpusError(
                f"row {document.row}",
                f"the chat template renders turn {i + 1} differently within the conversation and on its own",
                why="so the assistant's tokens cannot be told from the others",
                do="use a chat template with {% generation %} marks, or write one exchange a row",
            )
        if all(m["role"] != "assistant" for m in document.messages[i + 1 :]):  # thoughts of others may be left out
            _require(plain_text(document.messages[i]).strip(), text[begin:end], document)
        spans[at].append((begin, end))
    return _targets(tokenizer, whole, spans)


@dataclass(frozen=True)
class _Turn:
    """Assistant turn ``at`` of a ``document``, and where it is in the ``text`` of the whole conversation.

    Usually the text begins with what the turns up to this one are on their own. Where it does not, since a template
    shows thoughts after the last question only or closes the last turn otherwise, the same conversation with a mark
    in it tells where words end.
    """

    tokenizer: Any
    template: dict[str, Any]
    document: Document
    at: int
    text: str

    def begin(self, prompt: str) -> int | None:
        """The first character; ``prompt`` is the conversation up to the turn and the words that ask for it."""
        if self.text.startswith(prompt):
            return len(prompt)
        # the generation prompt may open a thought that the whole leaves out; what stands before it must agree
        bare = self._rendered(self.document.messages[: self.at])
        if self.text.startswith(bare):
            return _shared(prompt, self.text)
        whole = self._parted(self.at - 1, self.text)
        before = self._parted(self.at - 1, bare, self.at)
        asked = self._parted(self.at - 1, prompt, self.at, prompt=True)
        if whole is None or before is None or asked is None:
            return None
        shared = _shared(asked[1], whole[1])
        told = shared >= len(before[1]) and (shared == len(asked[1]) or asked[1][shared] in TAGS)
        return len(whole[0]) + shared if told else None

    def end(self, through: str) -> int | None:
        """Behind the last character; ``through`` is the conversation up to the turn and with it."""
        if self.text.startswith(through):
            return len(through)
        eos = self.tokenizer.eos_token or ""
        open_end = through.removesuffix(eos)
        whole, last = self._parted(self.at, self.text), self._parted(self.at, through, self.at + 1)
        if whole is None or last is None:
            silent = not plain_text(self.document.messages[self.at]).strip()
            return len(open_end) if silent and self.text.startswith(open_end) else None
        closing = last[1].removesuffix(eos)
        closings = itertools.chain(last[1:], [closing] if closing else self._closings())
        found = next((words for words in closings if whole[1].startswith(words)), None)
        return None if found is None else len(whole[0]) + len(found)

    def _closings(self) -> Iterator[str]:
        """What stands behind the words of the turns before that are not the assistant's, the nearest first."""
        for at in reversed(range(self.at)):
            if self.document.messages[at]["role"] != "assistant":
                parted = self._parted(at, self._rendered(self.document.messages[: at + 1]), at + 1)
                if parted is not None:
                    yield parted[1]

    def _parted(self, at: int, text: str, stop: int | None = None, *, prompt: bool = False) -> tuple[str, str] | None:
        """``text``, which is the turns up to ``stop``, cut behind the words of turn ``at``; ``None`` where these do not
        stand in it as they are."""
        turns = list(self.document.messages[:stop])
        if at < 0 or (marked := _marked_turn(turns[at])) is None:
            return None
        found = self._rendered([*turns[:at], marked, *turns[at + 1 :]], prompt=prompt)
        head, mark, tail = found.partition(MARK)
        tail = tail.replace(MARK, "")  # a tool that answers may be named again
        return (head, tail) if mark and head + tail == text else None

    def _rendered(self, turns: Sequence[Message], *, prompt: bool = False) -> str:
        return _render(self.tokenizer, [self.document], [turns], self.template, prompt=prompt)[0]


def _shared(prompt: str, text: str) -> int:
    """How many characters both begin with, but for a tag that is only begun: <think> and <table> share none."""
    shared = common_prefix(prompt, text)
    if shared == len(prompt):
        return shared
    begun = max(prompt.rfind(tag, 0, shared) for tag in TAGS)
    return begun if begun >= 0 and BEGUN_TAG.fullmatch(prompt, begun, shared) else shared


def _marked_turn(message: Message) -> Message | None:
    """A turn with :data:`MARK` behind the name of the last tool that it calls, or else behind its last word."""
    if calls := message.get("tool_calls"):
        *others, call = calls
        function = call.get("function", call)
        named = {**function, "name": f"{function.get('name')}{MARK}"}
        return {**message, "tool_calls": [*others, {**call, "function": named} if "function" in call else named]}
    content = message.get("content")
    if isinstance(content, list) and content:
        *blocks, block = content
        return {**message, "content": [*blocks, {**block, "text": _with_mark(block["text"])}]}
    return {**message, "content": _with_mark(content)} if content else None


def _with_mark(text: str) -> str:
    """:data:`MARK` before the space at the end, which templates may strip."""
    words = text.rstrip()
    return words + MARK + text[len(words) :]


def _require(said: str, rendered: str, document: Document) -> None:
    """Templates of vision models leave out content that is not in blocks: better to say so than to train on nothing."""
    word = LAST_WORD.search(said)
    if word and word[0] not in rendered:
        raise CorpusError(
            f"row {document.row}",
            "the chat template leaves out what the assistant says",
            do='write content as [{"type": "text", "text": …}], or use another template',
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
