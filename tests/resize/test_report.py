"""What a person, a file and a program get to read of a resize; names from files stay text."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lorarank import adapters
from lorarank.report import resized
from lorarank.report.markdown_text import Markdown
from lorarank.report.page import Page
from lorarank.report.plain import as_csv, laid_out
from lorarank.resize import ConvertOptions, Resized, ResizeOptions, convert, resize

Make = Callable[..., Path]
Golden = Callable[[str, str], None]
HOSTILE = "model.layers.0.\x1b[31m[red]evil[/red]| <b>`:smile:`\u202e.q_proj"


@pytest.fixture
def done(make_run: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Resized:
    make_run()
    monkeypatch.chdir(tmp_path)
    return resize("run", "out", ResizeOptions(rank=2, metric="loss"), command=("lorarank", "resize", "run"))


def test_the_table_is_what_it_was(done: Resized, golden: Golden) -> None:
    golden("resized.txt", laid_out(Page(), resized.lay, done))


def test_the_markdown_is_what_it_was(done: Resized, golden: Golden) -> None:
    golden("resized.md", laid_out(Markdown(), resized.lay, done, all_modules=True))


def test_a_conversion_is_what_it_was(
    make_adapter: Make, golden: Golden, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_adapter()
    monkeypatch.chdir(tmp_path)
    golden("converted.txt", laid_out(Page(), resized.lay, convert("adapter", "out", ConvertOptions(dtype="bfloat16"))))


@pytest.mark.parametrize(("dtype", "rest"), [(None, "is what it was."), ("bfloat16", "the rounding of bfloat16.")])
def test_what_is_filled_up_is_rounded_like_all_else(
    dtype: str | None, rest: str, make_adapter: Make, tmp_path: Path
) -> None:
    done = resize(make_adapter(), tmp_path / "out", ResizeOptions(rank=32, pad=True, dtype=dtype))
    assert resized.headline(done).startswith("Filled up with zeros from")
    assert resized.headline(done).endswith(rest)


@pytest.mark.parametrize("width", [80, 100, 120])
def test_sentences_keep_to_the_width(done: Resized, width: int) -> None:
    text, _, _ = laid_out(Page(width), resized.lay, done).partition("Module types")
    assert max(map(len, text.splitlines())) <= width


def test_json_and_csv(done: Resized) -> None:
    plain = json.loads(resized.to_json(done))
    assert list(plain) == sorted(plain)
    assert (plain["r"], plain["schema"], plain["command"][0]) == ([2], 1, "lorarank")
    rows = list(csv.DictReader(io.StringIO(as_csv(resized.rows(done)))))
    assert [row["name"] for row in rows] == [module.name for module in done.modules]
    assert sum(float(row["energy"]) for row in rows) == pytest.approx(1)


def test_many_modules_are_shortened_unless_asked_for(make_adapter: Make, tmp_path: Path) -> None:
    modules = {f"layers.{i}.q_proj": (20, 30, (2.0, 1.0 / (1 + i))) for i in range(20)}
    done = resize(make_adapter(modules=modules, r=4), tmp_path / "out", ResizeOptions(rank=1))
    assert "The 12 modules that lose most, of 20" in laid_out(Page(), resized.lay, done)
    assert "layers.19.q_proj" not in laid_out(Page(), resized.lay, done)
    assert "layers.19.q_proj" in laid_out(Page(), resized.lay, done, all_modules=True)


def test_hostile_names_stay_text(make_adapter: Make, tmp_path: Path) -> None:
    modules = {HOSTILE: (48, 64, (4.0, 2.0)), "=cmd()": (48, 64, (4.0, 2.0))}
    done = resize(make_adapter(modules=modules), tmp_path / "out", ResizeOptions(rank=1))
    assert {module.name for module in done.modules} == set(modules)
    for text in (
        laid_out(Page(), resized.lay, done),
        laid_out(Markdown(), resized.lay, done, all_modules=True),
        resized.to_json(done),
        as_csv(resized.rows(done)),
    ):
        assert all(character.isprintable() or character == "\n" for character in text)
    assert "\n'=cmd()," in as_csv(resized.rows(done))
    assert [m.r for m in adapters.open(tmp_path / "out").modules] == [1, 1]
