"""What is printed of a diagnosis: golden files, and the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lorarank.cli import main
from lorarank.diagnose import DiagnoseOptions
from lorarank.diagnose.result import Diagnosis, Sign
from lorarank.report import diagnosed
from lorarank.report.markdown_text import Markdown
from lorarank.report.page import Page
from lorarank.report.plain import laid_out

Make = Callable[..., Path]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["diagnose", *map(str, arguments)])


@pytest.mark.parametrize("kind", ["overfitting", "flat", "healthy", "unlearned"])
def test_the_report(
    kind: str, make_state: Make, golden: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_state(kind)
    monkeypatch.chdir(path.parents[2])
    result = run("out", "--rank", "16")
    assert result.exit_code == 0
    golden(f"{kind}.txt", result.stdout)


def test_markdown_and_json_say_the_same(make_state: Make, golden: Callable[[str, str], None]) -> None:
    path = make_state("overfitting")
    plain = json.loads(run(path, "--format", "json").stdout)
    assert plain["verdict"] == "too high"
    assert [sign["outcome"] for sign in plain["signs"]].count("seen") == 2
    assert plain["schema"] == 1
    markdown = run(path, "--format", "markdown").stdout
    assert markdown.startswith("**The rank is too high (confidence medium)")
    assert all(sign["name"] in markdown for sign in plain["signs"])


def test_names_are_escaped() -> None:
    sign = Sign("gap", "too high", "seen", "\x1b[31m <b>|", {})
    found = Diagnosis("\x1b[31m\n|<i>", "log", 8, "fine", "low", "\x1b", ("\x1b",), (sign,), 1, 1, 1)
    for text in (
        laid_out(Page(), diagnosed.lay, found),
        laid_out(Markdown(), diagnosed.lay, found),
        diagnosed.to_json(found),
    ):
        assert "\x1b" not in text
    assert "\\<i>" in laid_out(Markdown(), diagnosed.lay, found)


def test_options_have_the_defaults_of_the_dataclass() -> None:
    import click

    found = main.get_command(click.Context(main), "diagnose")
    assert found is not None
    options = {parameter.name: parameter.default for parameter in found.params}
    for field in fields(DiagnoseOptions):
        default = options[field.name]
        assert (None if "UNSET" in str(default) else default) == field.default, field.name


def test_bad_input_exits_with_2(tmp_path: Path, make_state: Make) -> None:
    for arguments in ((tmp_path / "nowhere",), (make_state("healthy"), "--rank", "0")):
        result = run(*arguments)
        assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
