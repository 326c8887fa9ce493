"""What a diagnosis can be asked (floor 2): every option with its one default."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lorarank.choices import check_least
from lorarank.typed import settle


@dataclass(frozen=True, kw_only=True)
class DiagnoseOptions:
    """Options of :func:`lorarank.diagnose.diagnose`; the command line reads its defaults from here.

    Parameters
    ----------
    sweep : folder of a sweep on the same model and data, to judge the rank by.
    rank : r of the run, where neither the log nor an adapter beside it says.
    validation : which validation loss to take where several were logged.

    Raises
    ------
    OptionError
        A value out of its range.

    >>> DiagnoseOptions().rank is None
    True
    """

    sweep: Path | None = None
    rank: int | None = None
    validation: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        settle(self)
        check_least("--rank", self.rank)
