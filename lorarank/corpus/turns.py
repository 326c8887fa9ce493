"""Where an assistant turn stands in a rendered conversation (floor 1)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorarank.corpus.documents import Document, Message, plain_text
from lorarank.corpus.encoding import common_prefix
from lorarank.corpus.template import render

TAGS = "<["
"""What thoughts, tools and roles are opened with."""

BEGUN_TAG = re.compile(r"[<\[][^<>\[\]\s]*")

MARK = "-lorarank-mark-"
"""Stands where a template is asked what follows. The text without it is compared, so data that holds it is refused."""


@dataclass(frozen=True)
class Turn:
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
        return render(self.tokenizer, [self.document], [turns], self.template, prompt=prompt)[0]


def _shared(prompt: str, text: str) -> int:
    """How many characters both begin with, but for a tag that is only begun: <think> and <table> share none."""
    shared = common_prefix(prompt, text)
    if shared == len(prompt):
        return shared
    begun = max(prompt.rfind(tag, 0, shared) for tag in TAGS)
    return begun if begun >= 0 and BEGUN_TAG.fullmatch(prompt, begun, shared) else shared


def _marked_turn(message: Message) -> Message | None:
    """A turn with :data:`MARK` behind the name of the last tool that it calls, or else behind its last word."""
    calls = message.get("tool_calls")
    call = calls[-1] if isinstance(calls, list) and calls else None
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if isinstance(calls, list) and isinstance(call, Mapping) and isinstance(function, Mapping):
        named = {**function, "name": f"{function.get('name')}{MARK}"}
        return {**message, "tool_calls": [*calls[:-1], {**call, "function": named} if "function" in call else named]}
    content = message.get("content")
    if isinstance(content, list) and content:
        *blocks, block = content
        return {**message, "content": [*blocks, {**block, "text": _with_mark(block["text"])}]}
    return {**message, "content": _with_mark(content)} if content else None


def _with_mark(text: str) -> str:
    """:data:`MARK` before the space at the end, which templates may strip."""
    words = text.rstrip()
    return words + MARK + text[len(words) :]
