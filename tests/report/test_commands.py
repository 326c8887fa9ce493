"""``lorarank report`` and ``lorarank plot`` at the door: files, exit codes, one line for what cannot be."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import lorarank
from lorarank import runs
from lorarank.cli import main
from lorarank.dossier import gather
from lorarank.estimate import EstimateOptions

Make = Callable[..., Path]
ROOT = Path(lorarank.__file__).parents[1]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_a_report_is_written_and_its_answer_is_said(make_run: Make, tmp_path: Path) -> None:
    output = tmp_path / "report.html"
    result = run("report", make_run(), "-o", output)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "Train at r = 2 (2–4), confidence high."
    assert output.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "run"]


def test_markdown_is_chosen_by_the_name(make_run: Make, tmp_path: Path) -> None:
    assert run("report", make_run(), "-o", tmp_path / "report.md").exit_code == 0
    assert (tmp_path / "report.md").read_text(encoding="utf-8").startswith("# LoRA rank: ")


def test_a_refusal_is_written_and_exits_with_3(make_run: Make, tmp_path: Path) -> None:
    output = tmp_path / "report.html"
    result = run("report", make_run(heldout={"gains": (runs.Loss(-1.0, 0.1),)}), "-o", output)
    assert result.exit_code == 3
    assert result.stdout.startswith("No recommendation:")
    assert "No recommendation:" in output.read_text(encoding="utf-8")


def test_adapters_folders_of_them_and_sweeps(make_adapter: Make, make_sweep: Make, tmp_path: Path) -> None:
    make_adapter("all/first")
    make_adapter("all/second", seed=1)
    for source in (tmp_path / "all" / "first", tmp_path / "all", make_sweep()):
        output = tmp_path / f"{source.name}.html"
        assert run("report", source, "-o", output).exit_code == 0
        assert output.is_file()


def test_a_share_that_prints_as_one_of_the_usual_ones_takes_its_place(make_adapter: Make, tmp_path: Path) -> None:
    found = gather(make_adapter(), EstimateOptions(energy=0.90001)).audits
    assert found is not None
    assert found.audits[0].energy == (0.90001, 0.95, 0.99)


def test_a_source_of_several_that_cannot_be_read_is_told_and_exits_with_2(make_adapter: Make, tmp_path: Path) -> None:
    broken = make_adapter("broken") / "adapter_model.safetensors"
    broken.write_bytes(b"none")
    output = tmp_path / "report.html"
    result = run("report", make_adapter("good"), broken.parent, "-o", output)
    assert (result.exit_code, result.stderr) == (2, "")
    assert "1 of them unreadable" in result.stdout
    assert "LR000" in output.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["RUN", "-o", "report.txt"], ".html or .md"),
        (["RUN", "ADAPTER"], "reported alone"),
        (["SWEEP", "ADAPTER"], "reported alone"),
        (["ADAPTER", "--metric", "loss"], "--metric loss"),
        (["ADAPTER", "--budget", "9000"], "--budget"),
        (["ADAPTER", "--tokens", "5"], "--tokens"),
        (["SWEEP", "--tokens", "5"], "--tokens"),
        (["ADAPTER", "--keep-loss", "0.02"], "--keep-loss"),
        (["SWEEP", "--keep-loss", "0.02"], "same lorarank sweep again"),
        (["RUN", "--keep-loss", "2"], "give 0.02"),
        (["RUN", "--keep-loss", "1"], "give 0.01"),
        (["RUN", "--keep-loss", "nan"], "Give, say, 0.01"),
        (["SWEEP", "--energy", "0.9"], "--energy"),
        (["RUN", "--energy", "90"], "give 0.9"),
        (["nowhere"], "nowhere"),
        (["RUN", "-o", "nowhere/report.html"], "no folder nowhere"),
        (["RUN", "-o", "folder.html"], "it is a folder"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    arguments: list[str],
    told: str,
    make_run: Make,
    make_adapter: Make,
    make_sweep: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_run()
    make_adapter()
    make_sweep()
    (tmp_path / "folder.html").mkdir()
    monkeypatch.chdir(tmp_path)
    names = {"RUN": "run", "ADAPTER": "adapter", "SWEEP": "sweep"}
    result = run("report", *(names.get(argument, argument) for argument in arguments))
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert told in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "folder.html", "run", "sweep"]


def test_plot_writes_every_picture_and_names_it(make_run: Make, tmp_path: Path) -> None:
    result = run("plot", make_run(), "-o", tmp_path / "figures", "--format", "svg")
    if importlib.util.find_spec("matplotlib") is None:
        assert (result.exit_code, "lorarank[plot]" in result.stderr) == (2, True)
        return
    assert result.exit_code == 0
    assert [Path(line).name for line in result.stdout.splitlines()] == [
        "truncation.svg", "scree.svg", "heat-map.svg", "parameters.svg",
    ]  # fmt: skip
    assert all(Path(line).is_file() for line in result.stdout.splitlines())


def test_plot_draws_what_may_be_lost(make_run: Make, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    make_run(r=32, companion=(0.04, 0.001))
    for asked in ((), ("--keep-loss", "0.05")):
        assert run("plot", tmp_path / "run", "-o", tmp_path / "drawn", "--format", "svg", *asked).exit_code == 0
        limit = "5%" if asked else "1%"
        for name in ("low-rank.svg", "truncation.svg"):
            assert f"{limit} of the gain" in (tmp_path / "drawn" / name).read_text(encoding="utf-8")


def test_plot_tells_what_it_could_not_read(make_adapter: Make, tmp_path: Path) -> None:
    broken = make_adapter("broken") / "adapter_model.safetensors"
    broken.write_bytes(b"none")
    result = run("plot", make_adapter("good"), broken.parent, "-o", tmp_path / "figures")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    if importlib.util.find_spec("matplotlib") is not None:
        assert result.stderr.startswith("LR000 ")
        assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
            "heat-map.png", "parameters.png", "scree.png",
        ]  # fmt: skip


def test_a_report_loads_nothing_heavy(make_run: Make, make_adapter: Make, make_sweep: Make, tmp_path: Path) -> None:
    for source in (make_run(), make_adapter(), make_sweep()):
        code = (
            "import sys; from lorarank.cli import main; "
            f"main(['report', {str(source)!r}, '-o', {str(tmp_path / 'report.html')!r}], standalone_mode=False); "
            "print(sorted({'torch', 'transformers', 'matplotlib', 'pandas', 'scipy', 'jinja2'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]"
