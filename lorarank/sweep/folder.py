"""How the folder of a finished sweep is told from others (floor 2), which needs nothing of how one is made."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lorarank.errors import OptionError
from lorarank.runs import folder_of

SWEEP = "sweep.json"
"""The file that a finished sweep is kept in."""


def is_sweep(folder: Path) -> bool:
    """Whether ``folder`` is that of a finished sweep."""
    return (folder / SWEEP).is_file()


def refuse_sweeps(sources: Iterable[str | Path]) -> None:
    """For what asks for a run or adapters.

    Raises
    ------
    OptionError
        One of the sources is the folder of a finished sweep.
    """
    found = next((source for source in sources if folder_of(source, is_sweep) is not None), None)
    if found is not None:
        do = "look at it with lorarank report, or give the folder of a probe or an adapter"
        raise OptionError(found, "it is a sweep, which has its own answer", do=do)
