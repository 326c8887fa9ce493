"""The loggers that a probe reports to, asked for before the work begins (floor 2, torch)."""

from __future__ import annotations

from collections.abc import Sequence

from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from lorarank.errors import OptionError, first_line
from lorarank.wording import nearest

ALONE = (("all",), ("none",))
"""Words of transformers for every logger that is installed, and for none; beside others they are no names."""


def check_loggers(names: Sequence[str]) -> None:
    """Refuse what transformers' Trainer would refuse once the learning-rate search is done.

    Raises
    ------
    OptionError
        There is no such logger, or its package is not installed.
    """
    if tuple(names) in ALONE:
        return
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            known = sorted(INTEGRATION_TO_CALLBACK)
            near = nearest(name, known)
            raise OptionError(
                f"--report-to {name}",
                "transformers' Trainer has no such logger",
                do=f"give {near}" if near else f"choose among: {', '.join(known)}",
            )
        try:
            INTEGRATION_TO_CALLBACK[name]()  # as Trainer does; connections are made later
        except (ImportError, RuntimeError, AssertionError) as error:
            raise OptionError(
                f"--report-to {name}",
                f"it cannot be used ({first_line(error)})",
                do="install its package, or leave it out",
            ) from None
