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
from lorarank.report import content, export, table

Make = Callable[..., Path]
Golden = Callable[[str, str], None]
HOSTILE = "model.layers.0.\x1b[31m[red]evil[/red]| <b>`:smile:`\u202e.q_proj"


@pytest.fixture
def answer(make_run: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Recommendation:
    make_run(replicates=(0, 0))
    monkeypatch.chdir(tmp_path)
    return recommend("run", EstimateOptions(task="reasoning", budget=1500))


def test_the_table_is_what_it_was(answer: Recommendation, golden: Golden) -> None:
    golden("table.txt", table.render(answer, width=100, per_module=True))


def test_the_markdown_is_what_it_was(answer: Recommendation, golden: Golden) -> None:
    golden("report.md", export.to_markdown(answer, per_module=True))


def test_a_refusal_is_what_it_was(
    make_run: Make, golden: Golden, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_run(heldout={"gains": (runs.Loss(0.01, 0.02),)})
    monkeypatch.chdir(tmp_path)
    golden("refusal.txt", table.render(recommend("run")))


def test_a_bare_adapter_is_what_it_was(
    make_adapter: Make, golden: Golden, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_adapter()
    monkeypatch.chdir(tmp_path)
    golden("bare.txt", table.render(recommend("adapter")))


def test_the_answer_comes_first(answer: Recommendation) -> None:
    first = "Train at r = 2 (2–4), confidence medium."
    assert table.render(answer).splitlines()[0] == first
    assert export.to_markdown(answer).splitlines()[0] == f"**{first}**"


@pytest.mark.parametrize("width", [80, 100, 160])
def test_lines_keep_to_the_width(answer: Recommendation, width: int) -> None:
    text, _, _ = table.render(answer, width=width).partition("To paste")
    assert max(map(len, text.splitlines())) <= width
    assert not any(line.endswith(" ") for line in text.splitlines())


def test_colour_is_a_choice(answer: Recommendation) -> None:
    assert "\x1b[" not in table.render(answer)
    assert "\x1b[" in table.render(answer, colour=True)


def test_energies_in_the_tables_add_up(answer: Recommendation) -> None:
    for grid in (content.type_grid(answer), content.layer_grid(answer), content.module_grid(answer)):
        assert grid is not None
        column = grid.headings.index("energy")
        total = sum(float(row[column].removesuffix("%")) for row in grid.rows)
        assert total == pytest.approx(100, abs=0.1 * len(grid.rows))
        assert all(len(row) == len(grid.headings) == len(grid.numeric) for row in grid.rows)


def test_modules_are_shown_on_request(answer: Recommendation) -> None:
    name = "model.layers.1.mlp.down_proj"
    short = table.render(answer).partition("To paste")[0]
    assert name not in short
    assert name in table.render(answer, per_module=True).partition("To paste")[0]
    assert json.loads(export.to_json(answer, per_module=True))["modules"][0]["name"] == "model.layers.0.mlp.down_proj"
    assert "modules" not in json.loads(export.to_json(answer))


def test_json_has_sorted_keys_version_schema_and_command(answer: Recommendation) -> None:
    text = export.to_json(answer, command=("lorarank", "estimate", "run"))
    plain = json.loads(text)
    assert list(plain) == sorted(plain)
    assert (plain["schema"], plain["lorarank"], plain["sources"]) == (1, answer.lorarank, ["run"])
    assert plain["command"] == ["lorarank", "estimate", "run"]
    assert plain["snippet"].startswith("LoraConfig(")
    assert (plain["r"], plain["refused"]) == (2, False)


def test_json_has_null_where_a_number_is_not_finite(make_run: Make) -> None:
    folder = make_run(heldout={"gains": (runs.Loss(float("nan"), float("nan")),)})
    plain = json.loads(export.to_json(recommend(folder)), parse_constant=pytest.fail)
    assert plain["evidence"]["gain"] is None
    assert plain["refused"]


def test_csv_has_a_row_a_module(answer: Recommendation) -> None:
    rows = list(csv.DictReader(io.StringIO(export.to_csv(answer))))
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
        table.render(answer, per_module=True),
        export.to_markdown(answer, per_module=True),
        export.to_json(answer, per_module=True),
        export.to_csv(answer),
    ):
        assert all(character.isprintable() or character == "\n" for character in text)
    shown = table.render(answer, per_module=True, width=200)
    assert r"\x1b[31m[red]evil[/red]| <b>`:smile:`\u202e.q_proj" in shown  # neither markup nor emoji
    markdown = export.to_markdown(answer, per_module=True)
    row = next(line for line in markdown.splitlines() if "evil" in line and line.startswith("|"))
    assert r"\|" in row
    assert r"\<b>" in row


def test_a_name_is_no_formula(make_adapter: Make) -> None:
    modules = {"=cmd()": (48, 64, (4.0, 2.0))}
    text = export.to_csv(recommend(make_adapter(modules=modules)))
    assert "\n'=cmd()," in text
