"""What a comparison can be asked (floor 2): every option with its one default."""

from __future__ import annotations

from dataclasses import dataclass

from lorarank.choices import check_least
from lorarank.typed import settle


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Options of :func:`lorarank.compare.compare`; the command line reads its defaults from here.

    Parameters
    ----------
    directions : leading singular directions of each module whose spans are compared; ``None`` takes as many as hold
        90 % of the energy of the update that needs fewer.

    Raises
    ------
    OptionError
        A value out of its range.

    >>> CompareOptions().directions is None
    True
    """

    directions: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        settle(self)
        check_least("--directions", self.directions)
