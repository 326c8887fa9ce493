"""Pictures for papers: the right kind of file, one for everything there is to draw, the same bytes for the same run."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from lorarank.dossier import Dossier, gather
from lorarank.errors import MissingExtraError
from lorarank.report import figures
from lorarank.report.options import KINDS

BEGINS = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
NAMES = {
    "of_run": {"truncation", "scree", "heat-map", "parameters"},
    "of_adapter": {"scree", "heat-map", "parameters"},
    "of_several": {f"{name}-{number}" for name in ("scree", "heat-map", "parameters") for number in (1, 2)},
    "of_sweep": {"loss"},
    "of_hostile": {"truncation", "scree", "heat-map", "parameters"},
}

needs_matplotlib = pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="extra plot")


def drawn(found: Dossier, kind: str) -> Mapping[str, bytes]:
    return figures.drawings(found, kind=kind)


@needs_matplotlib
@pytest.mark.parametrize("source", NAMES)
def test_there_is_a_picture_of_everything(source: str, request: pytest.FixtureRequest) -> None:
    made = drawn(request.getfixturevalue(source), "svg")
    assert made.keys() == NAMES[source]
    assert all(content.startswith(BEGINS["svg"]) for content in made.values())


@needs_matplotlib
def test_a_run_with_a_companion_has_what_a_low_rank_loses(make_run: Callable[..., Path]) -> None:
    made = drawn(gather(make_run(r=32, companion=(0.031, 0.003))), "svg")
    assert next(iter(made)) == "low-rank"
    assert "What a low rank loses, from 3.1% at r = 1" in made["low-rank"].decode()


@needs_matplotlib
@pytest.mark.parametrize("kind", KINDS)
def test_equal_results_give_equal_bytes(of_run: Dossier, kind: str) -> None:
    first = drawn(of_run, kind)
    assert first == drawn(of_run, kind)
    assert all(content.startswith(BEGINS[kind]) for content in first.values())


@needs_matplotlib
def test_the_svg_says_the_ranks(of_run: Dossier) -> None:
    made = drawn(of_run, "svg")["truncation"].decode()
    assert "keep rank 4" in made


def test_without_matplotlib_the_line_names_the_extra(of_run: Dossier, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    hidden: dict[str, Any] = dict.fromkeys(("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"))
    for name, nothing in hidden.items():
        monkeypatch.setitem(sys.modules, name, nothing)
    with pytest.raises(MissingExtraError, match=r"lorarank\[plot\]"):
        figures.drawings(of_run)
