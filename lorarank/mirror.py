"""A stage that takes an options dataclass, as a function that takes its fields (floor 0).

Neither names, nor types, nor defaults, nor descriptions of options are written a second time. At run time the signature
and the docstring are put together from those of the stage and of the dataclass; for type checkers a ``ParamSpec``
(https://peps.python.org/pep-0612/) carries the parameters of the dataclass over.
"""

from __future__ import annotations

import inspect
import itertools
import re
import types
import typing
from collections.abc import Callable, Collection, Iterable
from typing import Any, ParamSpec, TypeVar, overload

from lorarank.wording import nearest

if typing.TYPE_CHECKING:
    from typing import Concatenate

First = TypeVar("First")
Second = TypeVar("Second")
Options = TypeVar("Options")
Result = TypeVar("Result")
Fields = ParamSpec("Fields")

SECTIONS = ("Parameters", "Returns", "Raises")
"""Headed parts of a docstring that are shown."""


@overload
def mirrored(
    name: str, stage: Callable[[Options], Result], options: Callable[Fields, Options]
) -> Callable[Fields, Result]: ...
@overload
def mirrored(
    name: str, stage: Callable[[First, Options], Result], options: Callable[Fields, Options]
) -> Callable[Concatenate[First, Fields], Result]: ...
@overload
def mirrored(
    name: str, stage: Callable[[First, Second, Options], Result], options: Callable[Fields, Options]
) -> Callable[Concatenate[First, Second, Fields], Result]: ...
def mirrored(name: str, stage: Callable[..., Any], options: Callable[..., Any]) -> Callable[..., Any]:
    """``stage(first, …, options)`` as ``name(first, …, field=…)``.

    What the stage takes before ``options`` comes first, then fields of the dataclass without a default; fields with one
    are keywords. What the stage takes after ``options`` is for the command line, and left out. For type checkers what
    comes before the fields has no name, which a ``ParamSpec`` cannot give it.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True, kw_only=True)
    ... class Options:
    ...     rank: int = 8
    >>> def stage(source: str, options: Options, *, progress: bool = False) -> str:
    ...     return f"{source} at {options.rank}"
    >>> cut = mirrored("cut", stage, Options)
    >>> cut("adapter"), cut("adapter", rank=4), str(inspect.signature(cut))
    ('adapter at 8', 'adapter at 4', '(source: str, *, rank: int = 8) -> str')
    >>> cut("adapter", rnk=4)
    Traceback (most recent call last):
    ...
    TypeError: cut(): got an unexpected keyword argument 'rnk'. Did you mean 'rank' by 'rnk'?
    """
    taken = inspect.signature(stage).parameters
    before = list(itertools.takewhile(lambda one: one.name != "options", taken.values()))
    fields = inspect.signature(options).parameters.values()
    hints = {**typing.get_type_hints(options), **_hints(stage, {"return", *(one.name for one in before)})}
    parameters = [one.replace(annotation=hints[one.name]) for one in (*before, *fields)]
    signature = inspect.Signature(parameters, return_annotation=hints["return"])

    def function(*args: Any, **given: Any) -> Any:
        try:
            bound = signature.bind(*args, **given).arguments
        except TypeError as error:
            raise TypeError(f"{name}(): {error}{_meant(given, signature.parameters)}") from None
        return stage(*(bound.pop(one.name) for one in before), options(**bound))

    function.__name__ = function.__qualname__ = name
    function.__signature__ = signature  # type: ignore[attr-defined]
    function.__doc__ = _described(f"{name}{signature}", stage, options, {one.name for one in before})
    return function


def _meant(given: Iterable[str], known: Collection[str]) -> str:
    """A question after the nearest name, where one was given that is not known."""
    for one in given:
        near = None if one in known else nearest(one, known)
        if near:
            return f". Did you mean {near!r} by {one!r}?"
    return ""


def _hints(stage: Callable[..., Any], names: set[str]) -> dict[str, Any]:
    """The types of some parameters; those of others may name what is only there for type checkers."""
    wanted = {name: kind for name, kind in inspect.get_annotations(stage).items() if name in names}
    space: dict[str, Any] = getattr(stage, "__globals__", {})
    return typing.get_type_hints(types.SimpleNamespace(__annotations__=wanted), space)


def _described(call: str, stage: Callable[..., Any], options: Callable[..., Any], before: set[str]) -> str:
    """The stage's docstring with the parameters of the options in it; examples are left where they run."""
    summary, parts = _sections(stage)
    kept = [entry for entry in _entries(parts.get("Parameters", "")) if before & _named(entry)]
    for kind in reversed(inspect.getmro(typing.cast(type, options))):
        fresh = _entries(_sections(kind)[1].get("Parameters", ""))
        told = set().union(*map(_named, fresh))
        kept = [entry for entry in kept if not told & _named(entry)] + fresh
    parts["Parameters"] = "\n".join(kept)
    first, _, rest = summary.partition("\n\n")
    text = [first, call, *([rest] if rest else [])]
    headed = [f"{title}\n{'-' * len(title)}\n{parts[title]}" for title in SECTIONS if title in parts]
    return "\n\n".join(text + headed) + "\n"


def _sections(documented: Any) -> tuple[str, dict[str, str]]:
    """What stands before the headed parts of a docstring, and those, without examples."""
    told = (inspect.getdoc(documented) or "").partition("\n>>> ")[0]
    head, *parts = re.split(r"^(\w+)\n-+\n", told, flags=re.MULTILINE)
    return head.strip(), {title: body.strip() for title, body in zip(parts[::2], parts[1::2], strict=True)}


def _entries(body: str) -> list[str]:
    """``name : text``, with the lines below that are indented."""
    return re.findall(r"^\S.*(?:\n[ \t]+.*|\n(?=\n[ \t]))*", body, flags=re.MULTILINE)


def _named(entry: str) -> set[str]:
    return set(entry.partition(" : ")[0].split(", "))
