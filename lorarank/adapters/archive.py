"""A zip archive from a stranger: its list of entries is bounded before any of it is read (floor 1)."""

from __future__ import annotations

from io import FileIO
from pathlib import Path

from lorarank.adapters.torch_nesting import CONVERT
from lorarank.errors import AdapterError

MOST_DIRECTORY_BYTES = 4_000_000
"""The part that lists the entries, one a tensor: about 70 bytes each."""


class Archive(FileIO):
    """What ``zipfile`` is given to read: an archive of which no list of entries is read that is longer than any
    adapter's."""

    def __init__(self, file: FileIO, path: Path) -> None:
        super().__init__(file.fileno(), closefd=False)
        self.path = path

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MOST_DIRECTORY_BYTES:
            raise AdapterError(self.path, "its list of entries is longer than any adapter needs", do=CONVERT)
        return super().read(size) or b""
