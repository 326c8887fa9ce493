"""How numbers are said, the same everywhere (floor 0)."""

from __future__ import annotations

from collections.abc import Iterable


def percent(share: float, digits: int | None = None) -> str:
    """A share in per cent: as it was given, or with so many digits after the point. What is less than the whole is not
    said to be the whole.

    >>> percent(0.9), percent(0.925), percent(0.99999), percent(0.01234, 1)
    ('90%', '92.5%', '99.999%', '1.2%')
    """
    if digits is not None:
        return f"{100 * share:.{digits}f}%"
    return f"{100 * share:.{10 if 0.9999 < share < 1 else 4}g}%"


def directions(count: float) -> str:
    """A number of directions, in words.

    >>> directions(1), directions(2.5), directions(10 / 3)
    ('1 direction', '2.5 directions', '3.33 directions')
    """
    return f"{count:.3g} direction" + ("" if count == 1 else "s")


def size(count: int) -> str:
    """A number of bytes as a person says it.

    >>> size(900), size(2_161_664), size(78_000_000)
    ('900 B', '2.16 MB', '78 MB')
    """
    for unit, unit_bytes in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= unit_bytes:
            return f"{count / unit_bytes:.3g} {unit}"
    return f"{count} B"


def nearest(typed: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Of the names that are known the one that was probably meant; ``cutoff`` is how alike it is at least, 0 to 1.

    >>> nearest("qlra", ("alpha", "qlora")), nearest("xyz", ("alpha", "qlora"))
    ('qlora', None)
    """
    from difflib import get_close_matches  # for errors alone

    return next(iter(get_close_matches(typed, list(known), n=1, cutoff=cutoff)), None)
