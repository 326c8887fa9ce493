"""Adapters on disk: the only place that knows file formats, key names and scaling (floor 1).

``open`` is the one way in: the first reader in :data:`READERS` that recognises a path reads it, and all of them give
the same :class:`Adapter`.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, cast

from lorarank.adapters.adapter import Adapter, Factors, LoraModule
from lorarank.adapters.candidate import Candidate
from lorarank.adapters.store import READ, TORCH_SUFFIXES
from lorarank.errors import LorarankError, SourceError, printable
from lorarank.sources import at_home, locate

logger = logging.getLogger(__name__)

EIGHT_BITS = (
    "Factors are stored in 8 bits: their numbers are taken as they are, without a scale, as ComfyUI does. Factors are "
    "written as bfloat16, which holds each of these numbers."
)
"""What to know of an adapter in the dtypes that only whole models have scales for."""

LEFT = "The file holds other tensors beside these, under {}: they are not read, and nothing is written without them."
"""What to know of a checkpoint of which an adapter is a part."""

COPIES = "The file holds tensors of the same names beside these, under {}: they are not read, nor written."
"""The same, where these are averages of the adapter or what it began with."""

__all__ = ["READERS", "Adapter", "Factors", "LoraModule", "Reader", "hub_files", "open", "reader"]


class Reader(Protocol):
    """What the module of a format offers.

    Attributes
    ----------
    HUB_FILES : shell patterns of the files that it needs from a repository on the hub.
    """

    HUB_FILES: Sequence[str]

    def recognises(self, candidate: Candidate) -> bool:
        """Whether a folder or file is meant to be of it; damaged ones are, so that ``read`` can say how."""

    def read(self, candidate: Candidate) -> Adapter:
        """The adapter, or a :class:`~lorarank.errors.LorarankError` where it cannot be trusted."""


READERS = (
    "gguf",
    "mlx",
    "torchtune",
    "adapterhub",
    "peft",
    "cloneofsimo",
    "xlabs",
    "longcat",
    "ai_toolkit",
    "diffusers",
    "kohya",
    "pairs",
)
"""Modules of this package, in this order: what is told by its file's name or configuration first, what has to be
guessed last."""


def reader(name: str) -> Reader:
    """One of :data:`READERS`; its module is imported when it is its turn, since most adapters are one of the first.

    >>> "adapter_config.json" in reader("peft").HUB_FILES
    True
    """
    return cast(Reader, importlib.import_module(f"{__name__}.{name}"))


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
        locate(source, allow_patterns=hub_files, last_resort=lambda: hub_files(pickled=True), bars=False)
    )
    try:
        found = _noted(_read(candidate))
    except LorarankError:
        raise
    except OSError as error:  # a folder that may not be looked into, a disk that fails
        raise SourceError(candidate.path, f"cannot be read ({error.strerror or error})") from None
    logger.info("%s: %s, %d modules", printable(source), found.format, len(found.modules))
    return found


def _read(candidate: Candidate) -> Adapter:
    """The adapter, by the first reader that recognises it."""
    for one in map(reader, READERS):
        if one.recognises(candidate):
            return one.read(candidate)
    from lorarank.adapters import foreign

    raise foreign.declined(candidate)


def _noted(found: Adapter) -> Adapter:
    """The adapter with notes on its dtype, and on what else is in its file."""
    notes = list(found.notes)
    if any("float8" in module.dtype for module in found.modules):
        notes.append(EIGHT_BITS)
    for note, beside in ((LEFT, "left"), (COPIES, "copies")):
        if names := getattr(found.store, beside, ()):
            notes.append(note.format(printable(", ".join(names))))
    return replace(found, notes=tuple(notes))


def hub_files(pickled: bool = False) -> list[str]:
    """What any of the readers needs from a repository on the hub, as shell patterns; ``pickled``: of one that holds its
    tensors in pickles alone.

    >>> "adapter_config.json" in hub_files()
    True
    """
    names = {name for one in map(reader, READERS) for name in one.HUB_FILES}
    return sorted(name for name in names if name.endswith(TORCH_SUFFIXES) == pickled)


def _inside(source: str | Path) -> Candidate | None:
    """One of several adapters in a file or PEFT folder, where ``source`` is the path of one with a name behind it."""
    try:
        path = Path(at_home(str(source)))
        if path.exists() or not path.name or path.name.endswith(READ):  # whose file is missing then
            return None
        candidate = Candidate(path.parent, member=path.name)
        holds = path.parent.is_file() or candidate.config is not None
    except (OSError, ValueError):  # what locate has a sentence for
        return None
    return candidate if holds else None
