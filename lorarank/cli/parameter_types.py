"""What the words after a command may be (floor 5): one of several names, or something on this disk or on a hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem
from click.types import StringParamType

from lorarank.sources import at_home
from lorarank.wording import nearest


class Choice(click.Choice[str]):
    """One of several names; where it is none of them, the nearest is named."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """All of them, and the nearest.

        >>> Choice(("table", "json")).get_invalid_choice_message("jsn", None)
        "'jsn' is not one of 'table', 'json'. Did you mean 'json'?"
        """
        told, near = super().get_invalid_choice_message(value, ctx), nearest(str(value), self.choices)
        return f"{told} Did you mean {near!r}?" if near else told


class Source(StringParamType):
    """A folder, a file or a hub id: text, for which a shell offers what is on this disk."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Leave it to the shell's own completion of paths."""
        return [CompletionItem(incomplete, type="file")]


class Place(click.Path):
    """Where something is to be written, ``~`` being the home folder: in ``--output=~/run`` no shell looks for it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """A path.

        >>> Place().convert("~/run", None, None) == Path.home() / "run"
        True
        """
        return Path(at_home(str(super().convert(value, param, ctx))))


SOURCE, PLACE = Source(), Place()
