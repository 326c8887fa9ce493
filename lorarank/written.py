"""Files that are written where a person said (floor 1)."""

from __future__ import annotations

from pathlib import Path

from lorarank.errors import ResourceError
from lorarank.json_files import write_bytes


def write(output: Path, content: bytes) -> None:
    """Write a file whole or not at all; its folder has to be there.

    Raises
    ------
    ResourceError
        It cannot be written there.
    """
    if output.is_dir() or not output.parent.is_dir():
        what = "it is a folder" if output.is_dir() else f"there is no folder {output.parent}"
        raise ResourceError(output, what, do="name a file in a folder that exists")
    try:
        write_bytes(output, content)
    except ResourceError as error:
        raise ResourceError(output, error.what, do="make room, fix the permissions, or name another file") from None
