"""``lorarank compare``: formats, and one line for each error."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from lorarank.cli import main
from lorarank.compare import CompareOptions

Make = Callable[..., Path]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_options_have_the_defaults_of_the_dataclass() -> None:
    found = main.get_command(click.Context(main), "compare")
    assert found is not None
    defaults = {parameter.name: parameter.default for parameter in found.params}
    for field in fields(CompareOptions):
        default = defaults[field.name]
        assert (None if "UNSET" in str(default) else default) == field.default, field.name


@pytest.mark.parametrize("kind", ["table", "json", "markdown", "csv"])
def test_formats(kind: str, make_adapter: Make) -> None:
    result = run("compare", make_adapter("first"), make_adapter("second", seed=1), "--format", kind)
    assert (result.exit_code, result.stderr) == (0, "")
    if kind == "table":
        assert result.output.startswith("Orthogonal (ρ = ")
    if kind == "json":
        assert json.loads(result.stdout)["whole"]["verdict"]["kind"] == "orthogonal"
    if kind == "csv":
        assert len(list(csv.DictReader(io.StringIO(result.stdout)))) == 6


def test_bad_input_is_one_line_and_exits_with_2(make_adapter: Make, tmp_path: Path) -> None:
    other = make_adapter("other", {"q": (8, 8, (1.0,))}, r=2)
    for second in ((), (make_adapter(),), (tmp_path / "nowhere",), (other, "--directions", "0")):
        result = run("compare", other, *second)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "Error: " in result.stderr
