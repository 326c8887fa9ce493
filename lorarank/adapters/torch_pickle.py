"""The part of a file of torch that describes its tensors, weighed before torch unpickles it (floor 1).

Every instruction makes an object, the dearest of one byte 300 bytes large. And three bytes fetch a list of any length
once more and hand it to a function that copies it, as ``set`` and ``OrderedDict`` do: 40 kB can ask for gigabytes.
"""

from __future__ import annotations

import pickletools
from typing import Any

MOST_INSTRUCTIONS = 600_000
"""About 32 are a tensor in real ones; torch takes two microseconds for one."""

MOST_COPIED = 5_000_000
"""Objects; some 500 MB. Files of tensors fetch names and functions again, and next to nothing that has items."""

PUTS, GETS = frozenset({"BINPUT", "LONG_BINPUT"}), frozenset({"BINGET", "LONG_BINGET"})

WITHOUT_ITEMS = frozenset(
    {
        "BINFLOAT",
        "BININT",
        "BININT1",
        "BININT2",
        "BINPERSID",
        "BINUNICODE",
        "EMPTY_TUPLE",
        "GLOBAL",
        "LONG1",
        "NEWFALSE",
        "NEWTRUE",
        "NONE",
        "SHORT_BINSTRING",
    }
)
"""What leaves something that no function takes long to copy."""


def is_bounded(pickled: bytes) -> bool:
    """Whether torch's unpickler takes bounded time and memory for it.

    What is copied is at most all there is, for each time that something with items is fetched again.

    Raises
    ------
    ValueError
        It is no pickle.

    >>> import pickle
    >>> part = list(range(2000))
    >>> is_bounded(pickle.dumps([part], 2)), is_bounded(pickle.dumps([part] * 2000, 2))
    (True, False)
    """
    plain: set[Any] = set()
    fetched, instructions, is_plain = 0, 0, False
    for code, argument, _ in pickletools.genops(pickled):
        instructions += 1
        if code.name in PUTS:
            (plain.add if is_plain else plain.discard)(argument)
        elif code.name in GETS:
            is_plain = argument in plain
            fetched += not is_plain
        else:
            is_plain = code.name in WITHOUT_ITEMS
        if instructions > MOST_INSTRUCTIONS:
            return False
    return fetched * instructions <= MOST_COPIED
