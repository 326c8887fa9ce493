"""Files that are whole or not there (floor 1).

Everything is written to a temporary name and moved into place, so that no reader ever sees half a file.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lorarank.errors import ResourceError, printable

logger = logging.getLogger(__name__)

TEMPORARY = ".lorarank-tmp"
"""How temporary names end; a process that is killed leaves one behind."""

INTACT = "what was written before is intact"
AGAIN = "make room or fix the permissions, then run it again"


def write(output: Path, content: bytes) -> None:
    """Write a file where a person said; its folder has to be there.

    Raises
    ------
    ResourceError
        It cannot be written there.
    """
    if output.is_dir() or not output.parent.is_dir():
        what = "it is a folder" if output.is_dir() else f"there is no folder {output.parent}"
        raise ResourceError(output, what, do="name a file in a folder that exists")
    with replaced(output, why="", do="make room, fix the permissions, or name another file") as temporary:
        _flush(temporary, content)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file of ours: to a temporary name beside ``path``, flushed to the disk, and moved into place.

    Raises
    ------
    ResourceError
        It cannot be written.
    """
    with replaced(path) as temporary:
        _flush(temporary, content)


@contextmanager
def replaced(path: Path, *, why: str = INTACT, do: str = AGAIN) -> Iterator[Path]:
    """A temporary name beside ``path`` for what is to stand there: moved into place when all went well, else removed.

    Raises
    ------
    ResourceError
        It cannot be written; ``why`` and ``do`` are those of :func:`disk_error`.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}")  # two writers do not meet in it
    try:
        yield temporary
        temporary.replace(path)
        logger.info("wrote %s, %d bytes", printable(path), path.stat().st_size)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise disk_error(path, error, why=why, do=do) from None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def clear_leftovers(folder: Path) -> None:
    """Remove what writers that were killed left in a folder; nobody may be writing there.

    >>> clear_leftovers(Path("no-such-folder"))
    """
    for path in folder.glob(f".*{TEMPORARY}"):
        path.unlink(missing_ok=True)


def disk_error(path: Path, error: OSError, *, why: str = INTACT, do: str = AGAIN) -> ResourceError:
    """The line for a write that failed; ``do`` is how to go on.

    >>> print(disk_error(Path("run"), OSError(28, "No space left on device")))
    run: it cannot be written (No space left on device); what was written before is intact. Make room or fix the \
permissions, then run it again.
    """
    return ResourceError(path, f"it cannot be written ({error.strerror or error})", why=why, do=do)


def _flush(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
