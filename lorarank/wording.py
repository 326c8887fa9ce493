"""How numbers and names are said, the same everywhere (floor 0)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from lorarank.errors import printable

LONGEST_NAME = 2000
"""Characters of a name in a table for other programs; paths may be long, and are told apart by it."""


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


def within(error: float, digits: int = 4) -> str:
    """A standard error behind its number; nothing where a single document shows none.

    >>> f"0.8{within(0.0431, 3)}", f"0.8{within(float('nan'))}"
    ('0.8 ± 0.043', '0.8')
    """
    return f" ± {error:.{digits}f}" if math.isfinite(error) else ""


def between(low: float, high: float) -> str:
    """Two ends as one text; a single number where they are the same. Whole parts are told in full, up to a million.

    >>> between(8, 16), between(16, 16), between(0.125, 1 / 3), between(1.5, 12345.0)
    ('8–16', '16', '0.125–0.3333', '1.5–12345')
    """
    first, last = (
        str(end) if isinstance(end, int) else f"{end:.{4 if abs(end) < 1000 else 6}g}" for end in (low, high)
    )
    return first if low == high else f"{first}–{last}"


def first_few(names: Sequence[str], most: int, longest: int = 200, *, count: int | None = None) -> str:
    """The first names, each printable and of so many characters at most, and how many there are beyond them.

    ``count`` is how many there are where ``names`` are not all of them.

    >>> first_few(("q", "k", "v"), 3), first_few(("q", "k", "v"), 2), first_few(("q", "k"), 2, count=1234)
    ('q, k, v', 'q, k and 1 more', 'q, k and 1,232 more')
    """
    rest = (len(names) if count is None else count) - most
    return ", ".join(printable(name, longest) for name in names[:most]) + (f" and {rest:,} more" if rest > 0 else "")


def no_formula(name: str) -> str:
    """A name as it may stand in a cell: printable, and nothing that a spreadsheet takes for a formula
    (https://owasp.org/www-community/attacks/CSV_Injection).

    >>> no_formula("=1+1"), no_formula("q_proj"), no_formula("\\t=1+1")
    ("'=1+1", 'q_proj', '\\\\t=1+1')
    """
    line = printable(name, LONGEST_NAME)
    return f"'{line}" if line.startswith(("=", "+", "-", "@")) else line


def nearest(typed: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Of the names that are known the one that was probably meant; ``cutoff`` is how alike it is at least, 0 to 1.

    >>> nearest("qlra", ("alpha", "qlora")), nearest("xyz", ("alpha", "qlora"))
    ('qlora', None)
    """
    from difflib import get_close_matches  # for errors alone

    return next(iter(get_close_matches(typed, list(known), n=1, cutoff=cutoff)), None)
