"""Adapters on disk: the only place that knows file formats, key names and scaling (floor 1).

``open`` is the one way in: the first reader in :data:`READERS` that recognises a path reads it, and all of them give
the same :class:`Adapter`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorarank.adapters import foreign, peft
from lorarank.adapters.adapter import Adapter, Factors, LoraModule
from lorarank.errors import LorarankError, SourceError
from lorarank.sources import locate

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

    recognises: Callable[[Path], bool]
    read: Callable[[Path], Adapter]
    hub_files: Sequence[str]


READERS = (Reader(peft.recognises, peft.read, peft.HUB_FILES),)


def open(source: str | Path) -> Adapter:
    """Open an adapter: shapes, scaling and notes; numbers are read by ``module.factors()``, a module at a time.

    Parameters
    ----------
    source : a folder, one of the files in it, or a hub id ``owner/name[@revision]``.

    Raises
    ------
    SourceError
        It leads nowhere, or a file cannot be read.
    AdapterError
        It is damaged, inconsistent, or of a kind that is not read; one sentence says which.
    MissingExtraError
        A ``.bin`` file needs torch, which is not installed.

    >>> open("lora-that-is-not-there")
    Traceback (most recent call last):
        ...
    lorarank.errors.SourceError: lora-that-is-not-there: no such file or folder, and no hub id either. \
Name a folder, a file, or a hub id like owner/name or owner/name@revision.
    """
    path = locate(source, allow_patterns=[name for reader in READERS for name in reader.hub_files])
    try:
        for reader in READERS:
            if reader.recognises(path):
                return reader.read(path)
        raise foreign.declined(path)
    except LorarankError:
        raise
    except OSError as error:  # a folder that may not be looked into, a disk that fails
        raise SourceError(path, f"cannot be read ({error.strerror or error})") from None
