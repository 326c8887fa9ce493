"""What the numbers were measured on, by content: the weights whole, and the data as tokens (floor 2).

An interrupted probe and the kept points of a sweep are gone on with only where these are as they were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from lorarank.errors import ModelError

if TYPE_CHECKING:  # it loads torch, and a sweep asks what changed without
    from lorarank.probe.material import Material

TOKENS = "tokens"
"""Key of the data as tokens, beside the names of files."""

BLOCK = 2**20
"""Bytes read at a time: weights are larger than the memory may be."""


def contents(material: Material) -> dict[str, str]:
    """SHA-256 (hex) of the configuration, of every weight file, by name, and of the data as tokens.

    The tokens stand for the tokenizer and the chat template: a change of those that matters to any number changes
    them, and one that does not (another order of keys, a template for tools that no row uses) leaves them.

    Raises
    ------
    ModelError
        A file cannot be read.
    """
    return {**{path.name: _sha256(path) for path in _files(material.folder)}, TOKENS: _tokens(material)}


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """The first thing that is not as it was, in words; ``None`` where all is.

    >>> changed({"config.json": "5f", "tokens": "e1"}, {"config.json": "5f", "tokens": "07"})
    'the tokenizer or the chat template'
    >>> changed({"model.safetensors": "5f"}, {"model.safetensors": "5f"}) is None
    True
    """
    names = sorted({*before, *now})
    found = next((name for name in names if before.get(name) != now.get(name)), None)
    return "the tokenizer or the chat template" if found == TOKENS else found


def _files(folder: Path) -> Iterator[Path]:
    """The configuration and the weights; pickled ones count where there are no others, as when a model is loaded."""
    yield folder / "config.json"
    yield from sorted(folder.glob("*.index.json"))
    yield from sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))


def _sha256(path: Path) -> str:
    try:
        now = path.stat()
        return _sha256_of(path, (now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns))
    except OSError as error:
        raise ModelError(path, f"it cannot be read ({error.strerror or error})") from None


@cache
def _sha256_of(path: Path, state: tuple[int, ...]) -> str:
    """Once a process for a file whose ``state`` stays as it is: a second a gigabyte is not to be paid twice."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _tokens(material: Material) -> str:
    """Over the tokens and targets of all documents, in order; they are of fixed types, so bytes are enough."""
    digest = hashlib.sha256()
    for documents in (*material.parts, material.heldout_documents):
        digest.update(f"{len(documents)} documents\n".encode())
        for document in documents:
            digest.update(f"{document.key} {document.input_ids.size}\n".encode())
            digest.update(document.input_ids.tobytes())
            digest.update(document.loss_mask.tobytes())
    return digest.hexdigest()
