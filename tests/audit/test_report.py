"""What a person, a file and a program get to read of an audit; names from files stay text."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorarank.audit import AuditOptions, AuditReport, audit_all
from lorarank.audit.codes import CODES
from lorarank.report import audit as content
from lorarank.report import audit_rows
from lorarank.report.audit_grids import sparkline
from lorarank.report.audit_json import to_json
from lorarank.report.markdown_text import Markdown
from lorarank.report.page import Page
from lorarank.report.plain import as_csv, laid_out
from lorarank.report.sarif import to_sarif

Make = Callable[..., Path]
Golden = Callable[[str, str], None]
HOSTILE = "model.layers.0.\x1b[31m[red]evil[/red]| <b>`:smile:`\u202e.q_proj"


@pytest.fixture
def report(mixed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AuditReport:
    monkeypatch.chdir(tmp_path)
    return audit_all(["mixed"], AuditOptions(fail_if="dead"))


@pytest.fixture
def several(make_adapter: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AuditReport:
    monkeypatch.chdir(tmp_path)
    make_adapter("one")
    make_adapter("two", seed=1, alpha=64)
    return audit_all(["one", "two", "three"])


def test_the_table_is_what_it_was(report: AuditReport, golden: Golden) -> None:
    golden("table.txt", laid_out(Page(120), content.lay, report, per_module=True))


def test_the_narrow_table_is_what_it_was(report: AuditReport, golden: Golden) -> None:
    golden("narrow.txt", laid_out(Page(80), content.lay, report, per_module=True, by_size=True))


def test_the_table_of_several_is_what_it_was(several: AuditReport, golden: Golden) -> None:
    golden("several.txt", laid_out(Page(100), content.lay, several, per_module=True))


def test_the_markdown_is_what_it_was(report: AuditReport, golden: Golden) -> None:
    golden("report.md", laid_out(Markdown(), content.lay, report, per_module=True))


def test_the_sarif_is_what_it_was(report: AuditReport, golden: Golden) -> None:
    golden("findings.sarif", to_sarif(report))


@pytest.mark.parametrize("width", [80, 120])
def test_lines_keep_to_the_width(report: AuditReport, several: AuditReport, width: int) -> None:
    for one in (report, several):
        text = laid_out(Page(width), content.lay, one, per_module=True)
        assert max(map(len, text.splitlines())) <= width
        assert not any(line.endswith(" ") for line in text.splitlines())


def test_colour_is_a_choice(report: AuditReport) -> None:
    assert "\x1b[" not in laid_out(Page(), content.lay, report)
    assert "\x1b[" in laid_out(Page(colour=True), content.lay, report)


def test_json_holds_everything_asked_for(report: AuditReport) -> None:
    short, whole = json.loads(to_json(report)), json.loads(to_json(report, per_module=True))
    assert "modules" not in short["audits"][0]
    assert whole["audits"][0]["modules"][3]["figures"]["energy_ranks"] == [4, 4, 4]
    assert whole["failed"] == ["mixed"]
    assert short["audits"][0]["findings"] == whole["audits"][0]["findings"]


def test_csv_has_a_row_a_module(report: AuditReport, several: AuditReport) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(audit_rows.rows(report)))))
    assert [row["findings"] for row in rows] == ["LR001", "LR002", "LR004", "LR003 LR005"]
    assert rows[0]["norm"] == ""
    assert "NaN or infinite" in rows[0]["problem"]
    rows = list(csv.DictReader(io.StringIO(as_csv(audit_rows.rows(several)))))
    assert len(rows) == 13
    assert (rows[0]["source"], rows[0]["findings"]) == ("three", "LR000")


def test_a_strangers_names_stay_text(make_adapter: Make) -> None:
    folder = make_adapter(modules={HOSTILE: (8, 8, (0.0,)), "=cmd|x.q": (8, 8, (1.0,))}, r=4)
    report = audit_all([folder], AuditOptions(fail_if="dead"))
    for text in (
        laid_out(Page(), content.lay, report, per_module=True),
        laid_out(Markdown(), content.lay, report, per_module=True),
        to_json(report, per_module=True),
        as_csv(audit_rows.rows(report)),
        to_sarif(report),
    ):
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert "<b>" not in laid_out(Markdown(), content.lay, report, per_module=True).replace("\\<b>", "")
    assert "\n'=cmd" in as_csv(audit_rows.rows(report)).replace(f"{folder},", "\n")


def test_sarif_has_the_form_of_2_1_0(report: AuditReport, several: AuditReport) -> None:
    for one in (report, several):
        log = json.loads(to_sarif(one))
        assert log["version"] == "2.1.0"
        (run,) = log["runs"]
        rules = run["tool"]["driver"]["rules"]
        assert [rule["id"] for rule in rules] == list(CODES)
        assert len(run["results"]) == len(one.findings)
        for result in run["results"]:
            assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
            assert result["level"] in ("error", "warning", "note")
            assert result["message"]["text"]
            assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert run["invocations"][0]["executionSuccessful"] is not bool(one.unreadable)


def test_many_sources_are_counted_rather_than_told(make_adapter: Make) -> None:
    folders = [make_adapter(f"a{i}", seed=i) for i in range(6)]
    text = laid_out(Page(160), content.lay, audit_all(folders))
    assert "Findings in" not in text
    assert "LR030  reducible_half   note         6         6" in text


def nothing_but_nan(tensors: dict[str, np.ndarray]) -> None:
    for tensor in tensors.values():
        tensor[:] = np.nan


def untrained(tensors: dict[str, np.ndarray]) -> None:
    for name, tensor in tensors.items():
        tensor[:] *= "lora_B" not in name


def wider_than_the_matrix(tensors: dict[str, np.ndarray]) -> None:
    tensors.update({name: tensor[:4] for name, tensor in tensors.items() if "lora_B" in name})


@pytest.mark.parametrize(
    ("how", "first"),
    [
        ({"edit": nothing_but_nan}, "Nothing could be measured: 6 errors."),
        ({"edit": untrained}, "The update is zero: all 6 modules do nothing."),
        ({"modules": {"q": (3, 2, (1.0,))}, "r": 1}, "Keep rank 1 of 1: it keeps 90% of the energy. "),
        (
            {"modules": {"q": (16, 64, (1.0,))}, "edit": wider_than_the_matrix},
            "Keep rank 1 of 16: it keeps 90% of the energy. ",
        ),
    ],
)
def test_odd_adapters_are_told_in_every_format(make_adapter: Make, how: dict[str, Any], first: str) -> None:
    report = audit_all([make_adapter(**how)])
    text = laid_out(Page(120), content.lay, report, per_module=True, by_size=True)
    assert text.startswith(first)
    assert laid_out(Markdown(), content.lay, report, per_module=True).startswith(f"**{first[:20]}")
    assert json.loads(to_json(report, per_module=True))["audits"][0]["whole"]["modules"]
    assert list(csv.DictReader(io.StringIO(as_csv(audit_rows.rows(report)))))
    assert json.loads(to_sarif(report))["runs"]


@pytest.mark.parametrize(("length", "width"), [(1, 1), (8, 8), (9, 8), (64, 8), (256, 8)])
def test_a_sparkline_starts_full_and_falls(length: int, width: int) -> None:
    line = sparkline([0.9**i for i in range(length)])
    assert len(line) == width
    assert line[0] == "█"
    assert list(line) == sorted(line, reverse=True)


def test_everything_in_the_report_is_frozen(report: AuditReport) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.audits[0].modules[0].r = 1  # type: ignore[misc]
