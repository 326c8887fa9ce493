"""Calling a chat template (floor 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lorarank.corpus.documents import Document, Message
from lorarank.errors import CorpusError


def template_of(tokenizer: Any) -> str:
    """The chat template that is used where a row does not choose another.

    Raises
    ------
    CorpusError : there is none.
    """
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


def apply(
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


def render(
    tokenizer: Any,
    documents: Sequence[Document],
    turns: Sequence[Sequence[Message]],
    template: dict[str, Any],
    *,
    prompt: bool = False,
) -> list[str]:
    """Text of each conversation; ``prompt`` adds the words after which the assistant writes."""
    options = {**template, "tokenize": False, "add_generation_prompt": prompt}
    return list(apply(tokenizer, documents, turns, options)) if turns else []
