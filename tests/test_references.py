"""What docstrings refer to exists."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import lorarank

PACKAGE = Path(lorarank.__file__).parent
REFERENCE = re.compile(r":(?:mod|func|class|data|meth|attr|exc):`~?([\w.]+)`")

for needed in ("torch", "transformers", "peft"):
    pytest.importorskip(needed)  # some modules import them


def module_of(path: Path) -> ModuleType:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return importlib.import_module(".".join(parts).removesuffix(".__init__"))


def holds(owner: Any, name: str) -> bool:
    """Whether a module or class has a name, fields without a default included."""
    return hasattr(owner, name) or name in getattr(owner, "__annotations__", {})


def owners(module: ModuleType) -> Iterator[Any]:
    """The module and its classes: what a bare name may be of."""
    yield module
    yield from (one for _, one in inspect.getmembers(module, inspect.isclass) if one.__module__ == module.__name__)


def find(name: str) -> Any:
    """A module, or what is in one."""
    try:
        return importlib.import_module(name)
    except ImportError:
        home, _, last = name.rpartition(".")
        if not home:
            raise
        return getattr(find(home), last)


def exists(reference: str, module: ModuleType) -> bool:
    place, _, name = reference.rpartition(".")
    if not place:
        return any(holds(owner, name) for owner in owners(module))
    for start in ("", f"{module.__name__}."):
        with suppress(ImportError, AttributeError):
            find(start + reference)
            return True
        with suppress(ImportError, AttributeError):
            if holds(find(start + place), name):
                return True
    return False


def test_what_docstrings_refer_to_exists() -> None:
    missing = [
        f"{path.relative_to(PACKAGE)}: {reference}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for reference in REFERENCE.findall(path.read_text(encoding="utf-8"))
        if not exists(reference, module_of(path))
    ]
    assert not missing


def test_a_dead_reference_is_found() -> None:
    from lorarank.probe import options

    for reference in ("lorarank.estimate.companion", "Nothing", "ProbeOptions.nothing", "lorarank.nothing.at_all"):
        assert not exists(reference, options)
    for reference in ("lorarank.estimate", "ProbeOptions", "ProbeOptions.rank", "lorarank.runs.Run.companion"):
        assert exists(reference, options)
