"""One writer at a time for a table or a folder (floor 1).

The kernel keeps the lock (``flock``, https://man7.org/linux/man-pages/man2/flock.2.html) and lets it go when the
process ends, however it ends: nothing is left behind that a resumed run would have to clear. Where there is no such
lock, on Windows and on some network file systems, nobody is kept out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lorarank.errors import RunError
from lorarank.files import clear_leftovers


def lock(descriptor: int) -> bool:
    """Keep others away from an open file or folder until it is closed; ``False`` where another has it.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as one, open(one.name) as same:
    ...     lock(one.fileno()), lock(same.fileno())
    (True, False)
    """
    try:
        import fcntl
    except ImportError:  # of Unix alone
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


@contextmanager
def sole_writer(folder: Path, what: str, inside: str) -> Iterator[None]:
    """Within the block no other ``what`` ("probe", "sweep") works in this folder, which is there; half-written files
    that an earlier one left in it, or in the folder called ``inside`` there, are removed.

    Raises
    ------
    RunError
        Another one does.

    >>> with sole_writer(Path(), "probe", ""), sole_writer(Path(), "probe", ""):
    ...     pass
    Traceback (most recent call last):
    ...
    lorarank.errors.RunError: .: another probe is at work in it; each would write over what the other did. Wait for ...
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        yield
        return
    try:
        if not lock(descriptor):
            raise RunError(
                folder,
                f"another {what} is at work in it",
                why="each would write over what the other did",
                do="wait for it, or give another folder with -o",
            )
        clear_leftovers(folder)
        if not (folder / inside).is_symlink():
            clear_leftovers(folder / inside)
        yield
    finally:
        os.close(descriptor)
