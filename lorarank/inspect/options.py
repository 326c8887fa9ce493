"""What an inspection can be asked (floor 2): every option with its one default."""

from __future__ import annotations

from dataclasses import dataclass

from lorarank.choices import check_least
from lorarank.errors import OptionError
from lorarank.typed import settle


@dataclass(frozen=True, kw_only=True)
class InspectOptions:
    """Options of :func:`lorarank.inspect.inspect`.

    Parameters
    ----------
    rank : show this one; ``None`` shows 1, 2, 4, … 256.
    target : a target set, ``qv``, ``attention`` or ``all-linear``; or a pattern whose hits are told, as for
        ``LoraConfig.target_modules``; see :func:`lorarank.inspect.targets.parse`.

    Raises
    ------
    OptionError
        A rank below 1, or an empty pattern.

    Examples
    --------
    >>> InspectOptions(rank=16).target is None
    True
    """

    rank: int | None = None
    target: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        settle(self)
        check_least("--rank", self.rank)
        if self.target is not None and not self.target.strip(" ,"):
            raise OptionError("--target", "it is empty", do="give module names, or a regular expression")
