"""``lorarank audit``: what it prints where, and its exit codes."""

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

from lorarank.audit import AuditOptions
from lorarank.audit.options import shares
from lorarank.cli import main

Make = Callable[..., Path]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["audit", *map(str, arguments)])


def test_options_have_the_defaults_of_the_dataclass() -> None:
    command = main.get_command(click.Context(main), "audit")
    assert command is not None
    options = {parameter.name: parameter.default for parameter in command.params}
    assert shares(str(options.pop("energy"))) == AuditOptions.energy
    for field in fields(AuditOptions):
        if field.init and field.name != "energy":
            default = options[field.name]
            assert (None if "UNSET" in str(default) else default) == field.default


def test_a_finding_alone_is_no_failure(mixed: Path) -> None:
    result = run(mixed)
    assert result.exit_code == 0
    assert result.output.startswith(
        "Keep rank 2 of 4: it keeps 90% of the energy of the 3 modules together that could be measured."
    )


@pytest.mark.parametrize(("expression", "code"), [("dead", 4), ("LR002 > 1", 0), ("reducible > 99%", 0), ("nan", 4)])
def test_fail_if(mixed: Path, expression: str, code: int) -> None:
    result = run(mixed, "--fail-if", expression)
    assert result.exit_code == code
    assert ("holds for" in result.output) is (code == 4)


@pytest.mark.parametrize(
    "arguments",
    [["--fail-if", "dead >"], ["--energy", "90"], ["--energy", "x"], ["--served-rank", "0"], ["--jobs", "0"]],
)
def test_options_out_of_range_exit_with_2(make_adapter: Make, arguments: list[str]) -> None:
    result = run(make_adapter("a"), make_adapter("b"), *arguments)
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
    assert arguments[0] in result.stderr


def test_bad_sources(make_adapter: Make, tmp_path: Path) -> None:
    alone = run(tmp_path / "none")
    assert (alone.exit_code, alone.stdout, len(alone.stderr.splitlines())) == (2, "", 1)
    among = run(tmp_path / "none", make_adapter())
    assert among.exit_code == 2
    assert "2 sources, 1 of them unreadable" in among.output
    scanned = run(tmp_path / "none", "--format", "sarif")
    assert scanned.exit_code == 2
    assert [found["ruleId"] for found in json.loads(scanned.stdout)["runs"][0]["results"]] == ["LR000"]


def test_formats(mixed: Path) -> None:
    assert json.loads(run(mixed, "--format", "json").stdout)["audits"][0]["idle"] > 0
    assert len(list(csv.DictReader(io.StringIO(run(mixed, "--format", "csv").stdout)))) == 4
    assert json.loads(run(mixed, "--format", "sarif").stdout)["version"] == "2.1.0"
    assert run(mixed, "--format", "markdown").stdout.startswith("**Keep rank")
    assert "Modules" in run(mixed, "--per-module").stdout
    sorted_by_size = run(mixed, "--sort").stdout
    assert sorted_by_size.index("1.self_attn.k_proj") < sorted_by_size.index("0.self_attn.q_proj  ")


def test_into_a_table(mixed: Path, tmp_path: Path) -> None:
    output = tmp_path / "rows.jsonl"
    first = run(mixed.parent, "-o", output, "--fail-if", "dead")
    assert first.exit_code == 4
    assert first.stdout.startswith(f"1 row in {output}.")
    assert json.loads(output.read_text())["dead"] == 1
    assert "0 sources in" in run(mixed.parent, "-o", output).stdout


@pytest.mark.parametrize("arguments", [("--format", "sarif"), ("--per-module",), ("--sort",)])
def test_a_table_takes_no_option_of_a_report(arguments: tuple[str, ...], mixed: Path, tmp_path: Path) -> None:
    result = run(mixed, "-o", tmp_path / "rows.jsonl", *arguments)
    assert result.exit_code == 2
    assert "leave out --format, --per-module and --sort" in result.stderr.replace("Leave", "leave")
    assert not (tmp_path / "rows.jsonl").exists()


def test_processes_keep_the_order(make_adapter: Make) -> None:
    folders = [make_adapter(name, seed=seed) for seed, name in enumerate("cab")]
    text = run(*folders, "--jobs", "2", "--format", "json").stdout
    assert [audit["source"] for audit in json.loads(text)["audits"]] == list(map(str, folders))
