"""Files that are whole or not there (floor 1).

Everything is written to a temporary name and moved into place, so that no reader ever sees half a file.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from lorarank.errors import ResourceError, printable

logger = logging.getLogger(__name__)

TEMPORARY = ".lorarank-tmp"
"""How temporary names end; a process that is killed leaves one behind."""

MOST_OF_NAME = 40
"""Characters of a file's name in its temporary one, whose bytes then fit into the 255 that file systems take."""

CANNOT_SYNC = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
"""What file systems of networks and drives in the cloud say, where they have no ``fsync``."""

INTACT = "what was written before is intact"
AGAIN = "make room or fix the permissions, then run it again"


def write(output: Path, content: bytes) -> None:
    """Write a file where a person said; its folder has to be there.

    Raises
    ------
    ResourceError
        It cannot be written there.
    """
    do = "make room, fix the permissions, or name another file"
    try:
        is_folder, has_place = output.is_dir(), output.parent.is_dir()
    except OSError as error:  # no way there, or a name that is too long
        raise disk_error(output, error, why="", do=do) from None
    if is_folder or not has_place:
        what = "it is a folder" if is_folder else f"there is no folder {output.parent}"
        raise ResourceError(output, what, do="name a file in a folder that exists")
    with replaced(output, why="", do=do) as temporary, temporary.open("wb") as file:
        file.write(content)
        to_disk(file)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file of ours: to a temporary name beside ``path``, flushed to the disk, and moved into place.

    Raises
    ------
    ResourceError
        It cannot be written.
    """
    with replaced(path) as temporary, temporary.open("wb") as file:
        file.write(content)
        to_disk(file)


@contextmanager
def replaced(path: Path, *, why: str = INTACT, do: str = AGAIN) -> Iterator[Path]:
    """A temporary name beside ``path`` for what is to stand there: moved into place when all went well, else removed.

    Raises
    ------
    ResourceError
        It cannot be written; ``why`` and ``do`` are those of :func:`disk_error`.
    """
    # two writers do not meet in it
    temporary = path.with_name(f".{path.name[:MOST_OF_NAME]}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        yield temporary
        temporary.replace(path)
        logger.info("wrote %s, %d bytes", printable(path), path.stat().st_size)
    except OSError as error:
        _remove(temporary)
        raise disk_error(path, error, why=why, do=do) from None
    except BaseException:
        _remove(temporary)
        raise


def clear_leftovers(folder: Path) -> None:
    """Remove what writers that were killed left in a folder; nobody may be writing there.

    >>> clear_leftovers(Path("no-such-folder"))
    """
    for path in folder.glob(f".*{TEMPORARY}"):
        _remove(path)


def disk_error(path: Path, error: OSError, *, why: str = INTACT, do: str = AGAIN) -> ResourceError:
    """The line for a write that failed; ``do`` is how to go on.

    >>> print(disk_error(Path("run"), OSError(28, "No space left on device")))
    run: it cannot be written (No space left on device); what was written before is intact. Make room or fix the \
permissions, then run it again.
    """
    return ResourceError(path, f"it cannot be written ({error.strerror or error})", why=why, do=do)


def to_disk(file: IO[bytes]) -> None:
    """Wait until what was written to a file is on the disk, where its file system can say so."""
    file.flush()
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise


def _remove(temporary: Path) -> None:
    """Where it cannot be removed, why it was to be is what matters: a disk that is read-only refuses both."""
    with suppress(OSError):
        temporary.unlink()
