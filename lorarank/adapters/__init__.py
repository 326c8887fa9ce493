"""Adapters on disk: the only place that knows file formats, key names and scaling (floor 1).

``open`` is the one way in: the first reader in :data:`READERS` that recognises a path reads it, and all of them give
the same :class:`Adapter`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorarank.adapters import (
    ai_toolkit,
    cloneofsimo,
    diffusers,
    foreign,
    gguf,
    kohya,
    mlx,
    pairs,
    peft,
    torchtune,
    xlabs,
)
from lorarank.adapters.adapter import Adapter, Factors, LoraModule
from lorarank.adapters.candidate import Candidate
from lorarank.errors import LorarankError, SourceError, printable
from lorarank.sources import locate

logger = logging.getLogger(__name__)

__all__ = ["READERS", "Adapter", "Factors", "LoraModule", "Reader", "open"]


@dataclass(frozen=True)
class Reader:
    """One format.

    Attributes
    ----------
    recognises : whether a folder or file is meant to be of it; damaged ones are, so that ``read`` can say how.
    read : the adapter, or a :class:`~lorarank.errors.LorarankError` where it cannot be trusted.
    hub_files : shell patterns of the files that it needs from a repository on the hub.
    """

    recognises: Callable[[Candidate], bool]
    read: Callable[[Candidate], Adapter]
    hub_files: Sequence[str]


READERS = (
    Reader(gguf.recognises, gguf.read, gguf.HUB_FILES),
    Reader(mlx.recognises, mlx.read, mlx.HUB_FILES),
    Reader(torchtune.recognises, torchtune.read, torchtune.HUB_FILES),
    Reader(peft.recognises, peft.read, peft.HUB_FILES),
    Reader(cloneofsimo.recognises, cloneofsimo.read, cloneofsimo.HUB_FILES),
    Reader(xlabs.recognises, xlabs.read, xlabs.HUB_FILES),
    Reader(ai_toolkit.recognises, ai_toolkit.read, ai_toolkit.HUB_FILES),
    Reader(diffusers.recognises, diffusers.read, diffusers.HUB_FILES),
    Reader(kohya.recognises, kohya.read, kohya.HUB_FILES),
    Reader(pairs.recognises, pairs.read, pairs.HUB_FILES),
)
"""In this order: what is told by its file's name or configuration first, what has to be guessed last."""


def open(source: str | Path) -> Adapter:
    """Open an adapter: shapes, scaling and notes; numbers are read by ``module.factors()``, a module at a time.

    Parameters
    ----------
    source : a folder, one of the files in it, or a hub id ``owner/name[@revision]``. One of several adapters that
        share a file is named as if it were a file in there: ``folder/adapter_model.bin/its_name``.

    Raises
    ------
    SourceError
        It leads nowhere, or a file cannot be read.
    AdapterError
        It is damaged, inconsistent, or of a kind that is not read; one sentence says which.
    MissingExtraError
        A ``.bin`` or ``.pt`` file needs torch, which is not installed.

    >>> open("lora-that-is-not-there")
    Traceback (most recent call last):
        ...
    lorarank.errors.SourceError: lora-that-is-not-there: no such file or folder, and no hub id either. \
Name a folder, a file, or a hub id like owner/name or owner/name@revision.
    """
    candidate = _inside(source) or Candidate(
        locate(source, allow_patterns=sorted({name for reader in READERS for name in reader.hub_files}))
    )
    try:
        for reader in READERS:
            if reader.recognises(candidate):
                found = reader.read(candidate)
                logger.info("%s: %s, %d modules", printable(source), found.format, len(found.modules))
                return found
        raise foreign.declined(candidate)
    except LorarankError:
        raise
    except OSError as error:  # a folder that may not be looked into, a disk that fails
        raise SourceError(candidate.path, f"cannot be read ({error.strerror or error})") from None


def _inside(source: str | Path) -> Candidate | None:
    """One of several adapters in a file or PEFT folder, where ``source`` is the path of one with a name behind it."""
    try:
        path = Path(source).expanduser()
        if path.exists() or not path.name:
            return None
        candidate = Candidate(path.parent, member=path.name)
        holds = path.parent.is_file() or candidate.config is not None
    except (OSError, ValueError, RuntimeError):  # what locate has a sentence for
        return None
    return candidate if holds else None
