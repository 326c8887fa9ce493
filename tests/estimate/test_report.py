"""What a person, a file and a program get to read; names from files stay text."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lorarank import runs
from lorarank.estimate import EstimateOptions, Recommendation, recommend
from lorarank.report import recommended
from lorarank.report import recommended_content as content
from lorarank.report.markdown_text import Markdown
from lorarank.report.page import Page
from lorarank.report.plain import as_csv, laid_out

Make = Callable[..., Path]
Golden = Callable[[str, str], None]
HOSTILE = "model.layers.0.\x1b[31m[red]evil[/red]| <b>`:smile:`\u202e.q_proj"


@pytest.fixture
def answer(make_run: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Recommendation:
    make_run(replicates=(0, 0))
    monkeypatch.chdir(tmp_path)
    return recommend("run", EstimateOptions(task="reasoning", budget=1500))


def test_the_table_is_what_it_was(answer: Recommendation, golden: Golden) -> None:
    golden("table.txt", laid_out(Page(100), recommended.lay, answer, per_module=True))


def test_the_markdown_is_what_it_was(answer: Recommendation, golden: Golden) -> None:
    golden("report.md", laid_out(Markdown(), recommended.lay, answer, per_module=True))


def test_a_refusal_is_what_it_was(
    make_run: Make, golden: Golden, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_run(heldout={"gains": (runs.Loss(0.01, 0.02),)})
    monkeypatch.chdir(tmp_path)
    golden("refusal.txt", laid_out(Page(), recommended.lay, recommend("run")))


def test_a_bare_adapter_is_what_it_was(
    make_adapter: Make, golden: Golden, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_adapter()
    monkeypatch.chdir(tmp_path)
    golden("bare.txt", laid_out(Page(), recommended.lay, recommend("adapter")))


def test_the_answer_comes_first(answer: Recommendation) -> None:
    first = "Train at r = 2 (2–4), confidence medium."
    assert laid_out(Page(), recommended.lay, answer).splitlines()[0] == first
    assert laid_out(Markdown(), recommended.lay, answer).splitlines()[0] == f"**{first}**"


@pytest.mark.parametrize("width", [80, 100, 160])
def test_lines_keep_to_the_width(answer: Recommendation, width: int) -> None:
    text, _, _ = laid_out(Page(width), recommended.lay, answer).partition("To paste")
    assert max(map(len, text.splitlines())) <= width
    assert not any(line.endswith(" ") for line in text.splitlines())


def test_colour_is_a_choice(answer: Recommendation) -> None:
    assert "\x1b[" not in laid_out(Page(), recommended.lay, answer)
    assert "\x1b[" in laid_out(Page(colour=True), recommended.lay, answer)


def test_energies_in_the_tables_add_up(answer: Recommendation) -> None:
    for grid in (content.type_grid(answer), content.layer_grid(answer), content.module_grid(answer)):
        assert grid is not None
        column = grid.headings.index("energy")
        total = sum(float(row[column].removesuffix("%")) for row in grid.rows)
        assert total == pytest.approx(100, abs=0.1 * len(grid.rows))
        assert all(len(row) == len(grid.headings) == len(grid.numeric) for row in grid.rows)


def test_modules_are_shown_on_request(answer: Recommendation) -> None:
    name = "model.layers.1.mlp.down_proj"
    short = laid_out(Page(), recommended.lay, answer).partition("To paste")[0]
    assert name not in short
    assert name in laid_out(Page(), recommended.lay, answer, per_module=True).partition("To paste")[0]
    assert (
        json.loads(recommended.to_json(answer, per_module=True))["modules"][0]["name"] == "model.layers.0.mlp.down_proj"
    )
    assert "modules" not in json.loads(recommended.to_json(answer))


def test_json_has_sorted_keys_version_schema_and_command(answer: Recommendation) -> None:
    text = recommended.to_json(answer, command=("lorarank", "estimate", "run"))
    plain = json.loads(text)
    assert list(plain) == sorted(plain)
    assert (plain["schema"], plain["lorarank"], plain["sources"]) == (1, answer.lorarank, ["run"])
    assert plain["command"] == ["lorarank", "estimate", "run"]
    assert plain["snippet"].startswith("LoraConfig(")
    assert (plain["r"], plain["refused"]) == (2, False)


def test_json_has_null_where_a_number_is_not_finite(make_run: Make) -> None:
    folder = make_run(heldout={"gains": (runs.Loss(float("nan"), float("nan")),)})
    plain = json.loads(recommended.to_json(recommend(folder)), parse_constant=pytest.fail)
    assert plain["evidence"]["gain"] is None
    assert plain["refused"]


def test_csv_has_a_row_a_module(answer: Recommendation) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(recommended.rows(answer)))))
    assert [row["name"] for row in rows] == [module.name for module in answer.modules]
    assert sum(float(row["energy"]) for row in rows) == pytest.approx(1)
    assert {row["rank"] for row in rows} == {"2"}
    assert answer.allocation is not None
    assert [int(row["rank_in_budget"]) for row in rows] == list(answer.allocation.ranks.values())


def test_hostile_names_stay_text(make_run: Make) -> None:
    modules = {HOSTILE: (48, 64, (4.0, 2.0)), "model.layers.1.q_proj": (48, 64, (4.0, 2.0))}
    answer = recommend(make_run(modules), EstimateOptions(budget=500))
    assert answer.modules[0].name == HOSTILE
    for text in (
        laid_out(Page(), recommended.lay, answer, per_module=True),
        laid_out(Markdown(), recommended.lay, answer, per_module=True),
        recommended.to_json(answer, per_module=True),
        as_csv(recommended.rows(answer)),
    ):
        assert all(character.isprintable() or character == "\n" for character in text)
    shown = laid_out(Page(200), recommended.lay, answer, per_module=True)
    assert r"\x1b[31m[red]evil[/red]| <b>`:smile:`\u202e.q_proj" in shown  # neither markup nor emoji
    markdown = laid_out(Markdown(), recommended.lay, answer, per_module=True)
    row = next(line for line in markdown.splitlines() if "evil" in line and line.startswith("|"))
    assert r"\|" in row
    assert r"\<b>" in row


def test_a_name_is_no_formula(make_adapter: Make) -> None:
    modules = {"=cmd()": (48, 64, (4.0, 2.0))}
    text = as_csv(recommended.rows(recommend(make_adapter(modules=modules))))
    assert "\n'=cmd()," in text
