"""``lorarank resize`` and ``lorarank convert``: one default for each option, one line for each error."""

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

from lorarank import runs
from lorarank.cli import main
from lorarank.resize import ConvertOptions, ResizeOptions

Make = Callable[..., Path]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize(("name", "options"), [("resize", ResizeOptions), ("convert", ConvertOptions)])
def test_options_have_the_defaults_of_the_dataclass(name: str, options: type) -> None:
    found = main.get_command(click.Context(main), name)
    assert found is not None
    defaults = {parameter.name: parameter.default for parameter in found.params}
    for field in fields(options):
        default = defaults[field.name]
        assert (None if "UNSET" in str(default) else default) == field.default, field.name


def test_an_adapter_is_cut(make_adapter: Make, tmp_path: Path) -> None:
    result = run("resize", make_adapter(), "-o", tmp_path / "out", "--rank", "2")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.output.startswith("Cut from r = 16 to 2: 5.88% of the energy dropped, 12.5% of the parameters left.")
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["r"] == 2
    assert json.loads((tmp_path / "out" / "resize.json").read_text())["command"][0] == "lorarank"


def test_a_run_is_cut_by_its_loss(make_run: Make, tmp_path: Path) -> None:
    result = run("resize", make_run(), "-o", tmp_path / "out", "--keep-loss", "0.01", "--metric", "loss")
    assert result.exit_code == 0
    assert "0.90 ± 0.20% of the gain lost at k = 4, measured on 60 held-out documents" in result.output


@pytest.mark.parametrize("kind", ["table", "json", "markdown", "csv"])
def test_formats(kind: str, make_adapter: Make, tmp_path: Path) -> None:
    result = run("resize", make_adapter(), "-o", tmp_path / "out", "--energy", "0.9", "--format", kind)
    assert result.exit_code == 0
    if kind == "json":
        assert json.loads(result.stdout)["r"] == [2]
    if kind == "csv":
        assert len(list(csv.DictReader(io.StringIO(result.stdout)))) == 6


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--rank", "2", "--energy", "0.9"],
        ["--rank", "17"],
        ["--energy", "90"],
        ["--params", "3"],
        ["--keep-loss", "0.01"],
        ["--rank", "2", "--metric", "loss"],
        ["--rank", "2", "--to", "kohya"],
        ["--threshold-global", "0.1", "--uniform"],
        ["--rank", "x"],
    ],
)
def test_what_cannot_work_is_one_line_and_exits_with_2(
    arguments: list[str], make_adapter: Make, tmp_path: Path
) -> None:
    result = run("resize", make_adapter(), "-o", tmp_path / "out", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error: " in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_bad_input_is_one_line_and_exits_with_2(make_run: Make, tmp_path: Path) -> None:
    cut = make_run()
    (cut / runs.MANIFEST).unlink()
    (cut / runs.PROGRESS).mkdir()
    for source in (cut, tmp_path, tmp_path / "nowhere"):
        result = run("convert", source, "-o", tmp_path / "out" / "deep")
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)


def test_a_folder_that_may_not_be_written(make_adapter: Make, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run("convert", make_adapter(), "-o", tmp_path / "file" / "out")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "cannot be written" in result.stderr


def test_a_rank_that_no_file_holds(make_adapter: Make, tmp_path: Path) -> None:
    result = run("resize", make_adapter(), "-o", tmp_path / "out", "--rank", 10**20, "--pad")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "cannot be written (File too large)" in result.stderr
    assert not (tmp_path / "out").exists()


def test_an_update_is_converted(make_adapter: Make, tmp_path: Path) -> None:
    result = run("convert", make_adapter(), "-o", tmp_path / "out", "--dtype", "float16", "--bake-alpha")
    assert result.exit_code == 0
    assert result.output.startswith("Written as peft at r = 16: no cut, the update is what it was, to the rounding of")
