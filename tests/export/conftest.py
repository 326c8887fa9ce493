"""What an export says, and what a tool would make of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lorarank.export import Exported, ExportOptions, export
from lorarank.report.exported import to_text


@pytest.fixture
def exported() -> Callable[..., Exported]:
    """``exported(source, tool, rank=4, …)``; keywords as ExportOptions'."""
    return lambda source, tool, **options: export(source, ExportOptions(tool, **options))


@pytest.fixture
def text_of(exported: Callable[..., Exported]) -> Callable[..., str]:
    """The same as text."""
    return lambda source, tool, **options: to_text(exported(source, tool, **options))


@pytest.fixture
def ran(text_of: Callable[..., str]) -> Callable[..., dict[str, Any]]:
    """The variables that a Python export leaves."""

    def run(*what: Any, **options: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        exec(text_of(*what, **options), found)
        return found

    return run


@pytest.fixture
def loaded(text_of: Callable[..., str]) -> Callable[..., dict[str, Any]]:
    """What a YAML export says."""

    def load(*what: Any, **options: Any) -> dict[str, Any]:
        yaml = pytest.importorskip("yaml")
        found: dict[str, Any] = yaml.safe_load(text_of(*what, **options))
        return found

    return load
