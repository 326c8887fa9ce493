"""What every result of a command can do besides being a frozen dataclass (floor 0).

How a result is written down is the business of the reports, which stand above all results. So that no result imports
what stands above it, this class finds its presenter by name, when it is asked for one.
"""

from __future__ import annotations

import importlib
import json
from typing import Any

PRESENTERS = "lorarank.report.results"
"""Where the presenters are: the only module above its floor that the package knows of by name, beside the commands."""


class Result:
    """A result that can be a dictionary, a data frame, a text, and something to look at in a notebook."""

    __slots__ = ()

    def to_dict(self, *, per_module: bool = False) -> dict[str, Any]:
        """What ``--format json`` prints, of plain types: numbers that are not finite are ``None``.

        Parameters
        ----------
        per_module : with everything about modules, where the command has that option.

        >>> from lorarank.heuristics import TASKS
        >>> from lorarank.first_guess import FirstGuess
        >>> FirstGuess((TASKS["style"],), "style", None, None, None, ()).to_dict()["rows"][0]["high"]
        8
        """
        plain: dict[str, Any] = json.loads(self._presenter.json(self, per_module))
        return plain

    def to_frame(self, library: str | None = None) -> Any:
        """A data frame with a row a module, of a sweep a row a rank.

        Parameters
        ----------
        library : ``pandas`` or ``polars``; ``None`` takes the one that is loaded or, where neither is, installed.

        Raises
        ------
        MissingExtraError
            Neither is installed, or not the one that was asked for.
        OptionError
            Another library.
        """
        return importlib.import_module(PRESENTERS).frame(self._presenter.rows(self), library)

    def __str__(self) -> str:
        """As commands say it, without colours; ``repr`` has every field.

        >>> from lorarank.heuristics import TASKS
        >>> from lorarank.first_guess import FirstGuess
        >>> print(str(FirstGuess((TASKS["style"],), "style", None, None, None, ())).partition("\\n")[0])
        Rule of thumb, not measured: 4–8 for simple style or format (the project's reference table).
        """
        text: str = importlib.import_module(PRESENTERS).text(self)
        return text

    def _repr_html_(self) -> str:
        """For notebooks: the answer and its figures, the rest on demand."""
        html: str = importlib.import_module(PRESENTERS).html(self)
        return html

    @property
    def _presenter(self) -> Any:
        return importlib.import_module(PRESENTERS).PRESENTERS[type(self)]
