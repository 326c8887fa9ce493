"""Documents: rows of data understood as text, prompt and completion, or messages (floor 1)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorarank.corpus.files import open_table
from lorarank.errors import CorpusError

Message = Mapping[str, Any]
"""One turn: ``role``, ``content`` (text, text blocks or None), and what else the chat template reads."""

RENAMED = {"from": "role", "value": "content"}
"""Keys of a turn in the from/value style, and what TRL calls them."""

SPEAKERS = {"human": "user", "gpt": "assistant"}
"""Roles of ShareGPT's files, in that style, and what chat templates call them."""

NEEDED = "name the fields text, or prompt and completion, or messages"


@dataclass(frozen=True)
class Document:
    """One document before tokenisation.

    Attributes
    ----------
    key : sha256 (hex) of the content: equal for duplicates, wherever they stand.
    kind : "text", "completion" or "messages".
    prompt : the prompt of a "completion"; else empty.
    completion : the completion, or the whole of a "text"; empty where there are messages.
    messages : the turns of "messages", or those of a conversational prompt followed by its completion.
    row : line, item or row in the source, counted from 1.
    context : how many of ``messages`` are the prompt of a conversational "completion"; else 0.
    template : further arguments for the chat template (``tools`` and the row's ``chat_template_kwargs``).
    """

    key: str
    kind: str
    prompt: str
    completion: str
    messages: tuple[Message, ...] = field(hash=False)
    row: int
    context: int = 0
    template: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def group(self) -> str:
        """Hash (hex) of what must never stand on both sides of a split: the prompt, or the first user turn.

        Many data sets answer one prompt several times; a model that has trained on one answer has an easier time with
        the others. A document without either is its own group.

        >>> row = Document("k", "completion", "2+2=", "4", (), 1)
        >>> row.group == Document("l", "completion", "2+2=", "four", (), 2).group
        True
        """
        if self.messages:
            asked = next((m.get("content") for m in self.messages if m.get("role") == "user"), None)
            return _hash(asked) if asked else self.key
        return _hash(self.prompt) if self.prompt.strip() else self.key

    @property
    def shape(self) -> str:
        """In words, the fields that the row had."""
        shapes = {"text": "text", "messages": "messages", "completion": "prompt and completion"}
        return shapes[self.kind] + (" in messages" if self.context else "")

    @property
    def answer(self) -> str:
        """What carries loss, as text: all of a text, the completion, or what the assistant says."""
        turns = self.messages[self.context :]
        return self.completion + "".join(plain_text(turn) for turn in turns if turn.get("role") == "assistant")

    @property
    def characters(self) -> int:
        """Its length, without what a chat template adds; one at least."""
        return max(1, len(self.prompt) + len(self.completion) + sum(map(len, map(plain_text, self.messages))))

    @property
    def said(self) -> str:
        """Hash (hex) of all its words, whatever fields they stood in and whatever space is between them.

        >>> Document("k", "completion", "2+2=", " 4", (), 1).said == Document("l", "text", "", "2+2= 4", (), 2).said
        True
        """
        words = "".join(plain_text(m) for m in self.messages) if self.messages else self.prompt + self.completion
        return _hash("".join(words.split()))


@dataclass(frozen=True)
class DocumentSet:
    """The usable documents of one source.

    Attributes
    ----------
    source : the file or hub id they came from.
    kind : the kind they all have.
    documents : in the order of the source.
    skipped : a sentence for each row that could not be used: "line 7: empty completion".
    fingerprint : sha256 (hex) over the keys in order.
    """

    source: str
    kind: str
    documents: tuple[Document, ...]
    skipped: tuple[str, ...]
    fingerprint: str


def read(source: str | Path, *, split: str = "train") -> DocumentSet:
    """Read a JSONL, JSON, CSV or Parquet file, a folder that holds one, or a hub dataset ``owner/name[@revision]``.

    The formats are those of TRL's ``SFTTrainer``, looked for in its order: ``prompt`` + ``completion`` (both text, or
    both lists of messages), ``messages`` (also ``conversations`` with from/value), ``text``. Rows that are well formed
    but empty are skipped and listed; everything else that is wrong is an error.

    Parameters
    ----------
    source : where the rows are.
    split : split of a hub dataset; in a folder, the file's name without its suffix.

    Raises
    ------
    CorpusError : no such source, a malformed line, fields missing or of the wrong type, two kinds in one source, or
        no usable row; the message names the file and the line.
    MissingExtraError : Parquet or a hub dataset without the packages they need.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "train.jsonl")
    ...     _ = file.write_text('{"prompt": "2+2=", "completion": "4"}\\n{"prompt": "3+3=", "completion": ""}\\n')
    ...     data = read(file)
    >>> data.kind, len(data.documents), data.skipped
    ('completion', 1, ('line 2: empty completion',))
    """
    table = open_table(source, split)
    documents: list[Document] = []
    skipped: list[str] = []
    for number, row in table.rows:
        result = _document(row, number, table.place(number))
        if isinstance(result, str):
            skipped.append(f"{table.unit} {number}: {result}")
            continue
        if documents and result.shape != documents[0].shape:
            raise CorpusError(
                table.place(number),
                f"this is {result.shape}, but {table.unit} {documents[0].row} is {documents[0].shape}",
                do="keep one kind in a file",
            )
        documents.append(result)
    if not documents:
        reasons = f"{len(skipped)} skipped, the first: {skipped[0]}" if skipped else "there is no row at all"
        raise CorpusError(table.name, f"no usable row ({reasons})", do=NEEDED)
    fingerprint = hashlib.sha256("\n".join(d.key for d in documents).encode("ascii")).hexdigest()
    return DocumentSet(table.name, documents[0].kind, tuple(documents), tuple(skipped), fingerprint)


def _document(row: Any, number: int, place: str) -> Document | str:
    """The row as a document, or the reason why it is skipped."""
    if not isinstance(row, Mapping):
        raise CorpusError(place, f"expected an object, found {_type(row)}", do=NEEDED)
    filled = [name for name, value in row.items() if value is not None]
    # a table with one column for every format leaves the others null
    there = filled if _kind(filled) else list(row)
    kind = _kind(there)
    if kind is None:
        found = ", ".join(map(str, row)) or "none"
        raise CorpusError(place, f"it lacks the fields this reads (found: {found})", do=NEEDED)
    names = {
        "text": ("text",),
        "completion": ("prompt", "completion"),
        "messages": ("messages" if "messages" in there else "conversations",),
    }[kind]
    for name in names:
        if row[name] is None:
            return f"{name} is null"
    if kind == "messages":
        return _conversation(row, number, place, kind, _messages(row[names[0]], names[0], place), 0)
    if kind == "completion" and isinstance(row["prompt"], list):
        prompt, answer = (_messages(row[name], name, place) for name in names)
        if not prompt or not answer:
            return "empty prompt" if not prompt else "empty completion"
        return _conversation(row, number, place, kind, prompt + answer, len(prompt))
    for name in names:
        if not isinstance(row[name], str):
            raise CorpusError(place, f"{name} should be text, but is {_type(row[name])}")
    if not row[names[-1]].strip():
        return f"empty {names[-1]}"
    return _finish(kind, row["prompt"] if kind == "completion" else "", row[names[-1]], (), number)


def _kind(names: list[Any]) -> str | None:
    if "prompt" in names and "completion" in names:
        return "completion"
    if "messages" in names or "conversations" in names:
        return "messages"
    return "text" if "text" in names else None


def _conversation(
    row: Mapping[str, Any], number: int, place: str, kind: str, messages: tuple[Message, ...], context: int
) -> Document | str:
    if not messages:
        return "empty messages"
    answers = [m for m in messages[context:] if m["role"] == "assistant"]
    if not answers:
        roles = ", ".join(dict.fromkeys(m["role"] for m in messages))
        return f"no assistant turn (roles: {roles})"
    if not any(plain_text(m).strip() or m.get("tool_calls") for m in answers):
        return "empty assistant turn"
    template: dict[str, Any] = {}
    tools, more = row.get("tools"), row.get("chat_template_kwargs")
    if isinstance(tools, str):
        try:
            tools = json.loads(tools)
        except ValueError as error:
            raise CorpusError(place, "tools is text, but not JSON") from error
    for name, value, wanted in (("tools", tools, list), ("chat_template_kwargs", more, dict)):
        if value is not None and not isinstance(value, wanted):
            raise CorpusError(place, f"{name} should be {NAMES[wanted]}, but is {_type(value)}")
    if tools:
        template["tools"] = tools
    template.update(more or {})
    return _finish(kind, "", "", messages, number, context, template)


def _messages(value: Any, name: str, place: str) -> tuple[Message, ...]:
    if not isinstance(value, list):
        raise CorpusError(place, f"{name} should be a list of messages, but is {_type(value)}")
    messages: list[Message] = []
    for at, turn in enumerate(value, start=1):
        if not isinstance(turn, Mapping):
            raise CorpusError(place, f"turn {at} of {name} should be an object, but is {_type(turn)}")
        # Parquet gives every turn the union of all fields; a null one was never there
        message = {str(key): given for key, given in turn.items() if given is not None}
        for key, usual in RENAMED.items():
            given = message.pop(key, None)
            if given is not None and usual not in message:
                message[usual] = SPEAKERS.get(given, given) if isinstance(given, str) and usual == "role" else given
        message.setdefault("content", None)
        if not isinstance(message.get("role"), str):
            raise CorpusError(place, f"turn {at} of {name} has no role", do="give every turn a role and a content")
        content = message["content"]
        blocks = content if isinstance(content, list) else []
        if not (content is None or isinstance(content, str | list)):
            raise CorpusError(place, f"the content of turn {at} of {name} should be text, but is {_type(content)}")
        if not all(isinstance(b, Mapping) and isinstance(b.get("text"), str) for b in blocks):
            raise CorpusError(place, f"turn {at} of {name} holds more than text", why="a probe trains on text only")
        messages.append(message)
    return tuple(messages)


def plain_text(message: Message) -> str:
    """The text of a turn, blocks joined; "" where it has none.

    >>> plain_text({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]})
    'ab'
    """
    content = message.get("content")
    if isinstance(content, list):
        return "".join(block["text"] for block in content)
    return content or ""


def _finish(
    kind: str,
    prompt: str,
    completion: str,
    messages: tuple[Message, ...],
    row: int,
    context: int = 0,
    template: Mapping[str, Any] | None = None,
) -> Document | str:
    try:
        key = _hash([kind, prompt, completion, messages, context, template or {}])
    except UnicodeEncodeError:
        return "half a surrogate pair, which is not valid Unicode"
    except TypeError as error:  # dates, bytes: Parquet has types that no chat template reads
        return f"a value that is not JSON ({error})"
    return Document(key, kind, prompt, completion, messages, row, context, template or {})


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, ensure_ascii=False, sort_keys=True).encode("utf-8")).hexdigest()


NAMES: dict[type, str] = {
    str: "text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


def _type(value: object) -> str:
    return NAMES.get(type(value), type(value).__name__)
