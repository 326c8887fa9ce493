"""The front door: every command is a function of the package, ``lorarank.estimate("run").r`` (floor 0).

Most commands have a sub-package of their own name, with the options, results and stages behind it. Importing such a
sub-package makes it callable, so that ``lorarank.estimate`` is one thing however it was imported. Nothing is loaded
before it is asked for: neither numpy nor torch by ``import lorarank``, nor torch by what needs none.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inspect import Signature

FUNCTIONS = "lorarank.commands"
"""Where the functions are, each in a module of its name; the only place that this one knows of, and looks at only when
one is called."""

PACKAGES = frozenset(
    {
        "audit",
        "compare",
        "diagnose",
        "estimate",
        "export",
        "heuristics",
        "inspect",
        "probe",
        "report",
        "resize",
        "sweep",
    }
)
"""Commands that share their name with a module below ``lorarank``."""

HOMES = {
    "LoraRankCallback": "lorarank.callback",
    **{name: f"{FUNCTIONS}.{name}" for name in ("convert", "extract", "plot")},
}
"""The other public names, and where they live."""

NAMES = PACKAGES | HOMES.keys()


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package whose names are imported when they are asked for (https://peps.python.org/pep-0562/).

    Parameters
    ----------
    package : its ``__name__``.
    homes : name → the module in it where that lives.

    >>> lazily("lorarank.numerics", {"LADDER": "ladder"})("LADDER")[:3]
    (1, 2, 4)
    >>> lazily("lorarank.numerics", {})("LADDER")
    Traceback (most recent call last):
    ...
    AttributeError: module 'lorarank.numerics' has no attribute 'LADDER'
    """

    def found(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)

    return found


def listed(package: str, homes: Mapping[str, str]) -> Callable[[], list[str]]:
    """The ``__dir__`` of the same package: what it holds already, and the names that are imported when they are asked
    for. The two hooks themselves are left out, so that ``help()`` shows none.

    >>> "LADDER" in listed("lorarank.numerics", {"LADDER": "ladder"})()
    True
    """

    def names() -> list[str]:
        return sorted({*vars(importlib.import_module(package)), *homes} - {"__getattr__", "__dir__"})

    return names


class Command(ModuleType):
    """A module that is also the function of its name (https://docs.python.org/3/reference/datamodel.html, "Customizing
    module attribute access")."""

    def __call__(self, /, *args: Any, **options: Any) -> Any:
        """Do what the command does; see ``help()`` of the module."""
        return self._function(*args, **options)

    @property
    def _function(self) -> Callable[..., Any]:
        name = self.__name__.rpartition(".")[2]
        function: Callable[..., Any] = getattr(importlib.import_module(f"{FUNCTIONS}.{name}"), name)
        return function

    @property
    def __signature__(self) -> Signature:
        """For ``inspect.signature`` and for editors."""
        from inspect import signature

        return signature(self._function)

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        """How it is called, then what is inside."""
        return f"{self._function.__doc__}\nThe package\n-----------\n{vars(self)['__doc__']}"


class Front(ModuleType):
    """The package itself."""

    def __setattr__(self, name: str, value: Any) -> None:
        """As for any module; the import system hangs a sub-package here once it is loaded, which makes it callable."""
        if name in PACKAGES and isinstance(value, ModuleType):
            value.__class__ = Command
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name in PACKAGES:
            return importlib.import_module(f"{self.__name__}.{name}")
        if name in HOMES:
            return getattr(importlib.import_module(HOMES[name]), name)
        if name == "__all__":
            return sorted({*NAMES, "__version__"})
        said = f"module {self.__name__!r} has no attribute {name!r}"
        if not name.startswith("_"):  # those are asked for by the import system and by tools, often
            from lorarank.wording import nearest

            near = nearest(name, sorted(NAMES))
            said += f". Did you mean {near!r}?" if near else ""
        raise AttributeError(said)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), "__all__", *NAMES})
