"""What an export consists of, as values (floor 3); the report makes text of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lorarank import __version__
from lorarank.export.settings import Settings
from lorarank.result import Result

SCHEMA = 1


@dataclass(frozen=True)
class Name:
    """A Python expression that is no literal: the name of a variable, or of something imported."""

    text: str


@dataclass(frozen=True)
class Call:
    """``target = function(*positional, **arguments)``; values are literals or :class:`Name`."""

    target: str
    function: str
    arguments: Mapping[str, Any]
    positional: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Script:
    """Python: lines that import, calls in their order, and what to do with the result, as comments."""

    imports: tuple[str, ...]
    calls: tuple[Call, ...]
    after: tuple[str, ...] = ()


Document = Script | Mapping[str, Any] | tuple[str, ...]
"""A Python script, a YAML mapping, or the words of a command."""


@dataclass(frozen=True)
class Exported(Result):
    """A configuration for one tool.

    Attributes
    ----------
    tool : one of :data:`lorarank.export.options.TOOLS`.
    settings : what was asked of it, in PEFT's names.
    document : the same in the tool's own words.
    notes : sentences for whoever reads it: where it comes from, what the tool cannot express.
    schema, lorarank : version of this layout, and of the package.
    """

    tool: str
    settings: Settings
    document: Document
    notes: tuple[str, ...] = field(default=())
    schema: int = SCHEMA
    lorarank: str = __version__
