"""The one door: help, examples, lazy commands, and every error as a line and an exit code."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

import lorarank
import lorarank.cli
from lorarank import runs
from lorarank.cli import COMMANDS, THREADS, TRACEBACK, _matched, main
from lorarank.errors import RunError
from lorarank.estimate import EstimateOptions

Make = Callable[..., Path]
ROOT = Path(lorarank.__file__).parents[1]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*THREADS, TRACEBACK):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def command(name: str) -> click.Command:
    found = main.get_command(click.Context(main), name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_an_example_and_a_description_of_each_option(name: str) -> None:
    found = command(name)
    assert found.help
    assert " ".join(found.help.split("\n\n")[0].split()) == COMMANDS[name]
    assert found.epilog
    assert f"lorarank {name}" in found.epilog
    for parameter in found.params:
        if isinstance(parameter, click.Option) and parameter.name not in ("task", "kind"):
            assert parameter.help, parameter.name
    shown = run(name, "--help")
    assert shown.exit_code == 0
    assert "Example:" in shown.output


@pytest.mark.parametrize("arguments", [["--help"], ["-h"]])
def test_the_group_lists_every_command_without_importing_it(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 0
    assert all(name in result.output for name in COMMANDS)


def test_version() -> None:
    assert run("--version").output == f"lorarank {lorarank.__version__}\n"


def test_python_m_is_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lorarank", "--version"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"lorarank {lorarank.__version__}\n"


ENDING = """
import atexit, sys
atexit.register(print, "what is due at the end")
from lorarank.cli import run
atexit.register(print, "and what is registered later")
sys.argv[1:] = {arguments}
class Kept:
    def __del__(self): print("taken apart")
kept = Kept()
run()
"""


@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["audit", "nowhere"], 2)])
def test_the_process_ends_at_once_when_what_was_registered_meanwhile_is_done(arguments: list[str], code: int) -> None:
    text = ENDING.format(arguments=arguments)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stdout.splitlines()[-1] == "and what is registered later"
    assert "taken apart" not in done.stdout


def test_the_process_ends_as_well_where_its_output_was_taken_away() -> None:
    text = ENDING.format(arguments=["--version"]).replace("kept =", "atexit.register(setattr, sys, 'stdout', None);")
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_who_calls_the_command_from_python_goes_on_and_ends_as_ever() -> None:
    text = (
        ENDING.format(arguments=["--version"])
        .replace("import run", "import main")
        .replace("run()", "main(standalone_mode=False)\nsys.exit(3)")
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "what is due at the end" in done.stdout
    assert "taken apart" in done.stdout


def test_options_have_the_defaults_of_the_dataclass() -> None:
    options = {parameter.name: parameter.default for parameter in command("estimate").params}
    for field in fields(EstimateOptions):
        default = options[field.name]
        assert (None if "UNSET" in str(default) else default) == field.default, field.name


def test_an_answer_exits_with_0(make_run: Make) -> None:
    result = run("estimate", make_run())
    assert (result.exit_code, result.output.splitlines()[0]) == (0, "Train at r = 2 (2–4), confidence high.")


def test_a_refusal_exits_with_3(make_run: Make) -> None:
    result = run("estimate", make_run(heldout={"gains": (runs.Loss(-1.0, 0.1),)}))
    assert result.exit_code == 3
    assert result.output.startswith("No recommendation:")


def test_a_bare_adapter_exits_with_0(make_adapter: Make) -> None:
    assert run("estimate", make_adapter()).exit_code == 0


def test_bad_input_is_one_line_and_exits_with_2(make_run: Make, tmp_path: Path) -> None:
    cut = make_run()
    (cut / runs.MANIFEST).unlink()
    (cut / runs.PROGRESS).mkdir()
    damaged = make_run(name="damaged")
    (damaged / runs.TRUNCATION).write_text("{", encoding="utf-8")
    empty = tmp_path / "empty"
    empty.mkdir()
    for source in (cut, damaged, empty, tmp_path / "nowhere"):
        result = run("estimate", source)
        assert result.exit_code == 2, source
        assert result.stdout == ""
        assert len(result.stderr.splitlines()) == 1
        assert result.stderr.startswith("Error: ")
        assert str(source.name) in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--energy", "90"],
        ["--energy", "nan"],
        ["--metric", "l2"],
        ["--task", "x"],
        ["--budget", "0"],
        ["--budget", "x"],
    ],
)
def test_options_out_of_range_exit_with_2(make_run: Make, arguments: list[str]) -> None:
    result = run("estimate", make_run(), *arguments)
    assert result.exit_code == 2
    assert arguments[0] in result.stderr


READING = {
    "estimate": [],
    "audit": [],
    "resize": ["--rank", "2", "-o", "written"],
    "convert": ["--dtype", "float16", "-o", "written"],
    "compare": ["run"],
    "export": ["--to", "peft"],
    "report": ["-o", "report.html"],
    "plot": ["-o", "figures"],
    "diagnose": [],
}
"""Every command that takes a run → what else it is given."""


@pytest.mark.parametrize("name", READING)
def test_home_is_known_and_a_name_that_no_file_can_have_is_one_line(
    name: str, make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run()
    log = "".join(json.dumps({"step": step, "loss": 2 - step / 100}) + "\n" for step in range(120))
    (tmp_path / "run" / runs.LOG).write_text(log)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    found = run(name, "~/run", *READING[name])
    assert (found.exit_code, found.stderr) == (0, "")
    for source in ("a" * 300, "~nobody-of-that-name/run"):
        refused = run(name, source, *[word.replace("written", "again") for word in READING[name]])
        assert refused.exit_code == 2
        assert refused.stderr.startswith(f"Error: {source[:100]}")
        assert "bug" not in refused.stderr


def test_a_kept_audit_at_home_is_reported(make_adapter: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "kept.json").write_text(run("audit", make_adapter(), "--per-module", "--format", "json").stdout)
    assert run("report", "~/kept.json", "-o", tmp_path / "report.html").exit_code == 0


def test_no_source_and_no_command_exit_with_2() -> None:
    assert run("estimate").exit_code == 2
    assert run("guess").exit_code == 2


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> Result:
    def raises(*_: Any) -> None:
        raise error

    monkeypatch.setattr("lorarank.estimate.recommend", raises)
    return run("estimate", "x")


def test_a_bug_asks_to_be_reported_and_exits_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    result = failing(monkeypatch, ZeroDivisionError("one\ntwo"))
    assert result.exit_code == 1
    assert result.stderr == (
        rf"Error: ZeroDivisionError: one\ntwo. This is a bug in lorarank {lorarank.__version__}: please report it with "
        "the traceback, which LORARANK_TRACEBACK=1 in the environment shows.\n"
    )


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), RunError("run", "x")])
def test_the_traceback_can_be_seen(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setenv(TRACEBACK, "1")
    assert failing(monkeypatch, error).exception is error


def test_ctrl_c_exits_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    result = failing(monkeypatch, KeyboardInterrupt())
    assert (result.exit_code, result.stderr) == (130, "Interrupted.\n")


def test_ctrl_c_says_how_to_go_on_where_something_was_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lorarank.sweep.sweep", raises)
    result = run("sweep", "base", "--data", "x.jsonl", "-o", "out")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (130, "Interrupted. The same command goes on.")


def test_running_out_of_memory_is_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    result = failing(monkeypatch, MemoryError())
    assert result.exit_code == 2
    assert "out of memory" in result.stderr


def test_a_closed_pipe_is_no_error(make_run: Make) -> None:
    folder = make_run()
    done = subprocess.run(
        f"{sys.executable} -m lorarank estimate {folder} --format json | head -c 1", shell=True, cwd=ROOT,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("{", "")


def test_estimating_asks_for_one_thread_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    command("estimate")
    assert [os.environ.get(name) for name in THREADS] == ["1", "1", "7", "1"]


def test_a_probe_keeps_its_threads() -> None:
    import os

    command("probe")
    assert not any(name in os.environ for name in THREADS)


def test_formats(make_run: Make) -> None:
    folder = make_run()
    plain = json.loads(run("estimate", folder, "--format", "json").stdout)
    assert plain["r"] == 2
    rows = list(csv.DictReader(io.StringIO(run("estimate", folder, "--format", "csv").stdout)))
    assert len(rows) == 6
    assert run("estimate", folder, "--format", "markdown").stdout.startswith("**Train at r = 2")
    assert "Modules" in run("estimate", folder, "--per-module").stdout
    assert "\x1b" not in run("estimate", folder).stdout


@pytest.mark.parametrize("kind", ["table", "json", "markdown"])
def test_heuristics(kind: str) -> None:
    result = run("heuristics", "--task", "reasoning", "--format", kind)
    assert result.exit_code == 0
    assert "64" in result.output
    if kind == "json":
        assert json.loads(result.output)["rows"][0]["low"] == 32


def test_heuristics_with_data_alone_exits_with_2() -> None:
    result = run("heuristics", "--data", "train.jsonl")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)


@pytest.mark.parametrize(("typed", "meant"), [("estimat", "estimate"), ("re-size", "resize"), ("sweeps", "sweep")])
def test_the_nearest_command_is_named(typed: str, meant: str) -> None:
    result = run(typed, "x")
    assert result.exit_code == 2
    assert f"Did you mean '{meant}'?" in result.stderr


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["estimate", "run", "--enrgy", "0.9"], "No such option '--enrgy'. Did you mean '--energy'?"),
        (
            ["--verbos", "estimate", "run"],
            "No such option '--verbos'. (Did you mean one of: '--verbose', '--version'?)",
        ),
        (
            ["estimate", "run", "--format", "jsn"],
            "'jsn' is not one of 'table', 'json', 'markdown', 'csv'. Did you mean",
        ),
        (["estimate", "run", "--task", "stlye"], "Did you mean 'style'?"),
        (["export", "run", "--to", "axolotol"], "Did you mean 'axolotl'?"),
        (["schema", "estimates"], "Did you mean 'estimate'?"),
        (["help", "spectra"], "no such topic. Did you mean spectrum?"),
        (["help", "estimat"], "no such topic. Did you mean estimate?"),
        (["audit", "x", "--fail-if", "ded > 0"], "ded is unknown. Did you mean dead? There are: findings, "),
        (["audit", "x", "--fail-if", "LR03"], "LR03 is unknown. Choose among: "),
    ],
)
def test_the_nearest_option_or_value_is_named(typed: list[str], told: str) -> None:
    result = run(*typed)
    assert result.exit_code == 2
    assert told in result.stderr


@pytest.mark.parametrize(
    "typed", [["xyzzy"], ["estimate", "run", "--xyzzy"], ["estimate", "run", "--task", "xyzzy"], ["help", "xyzzy"]]
)
def test_nothing_is_named_where_nothing_is_near(typed: list[str]) -> None:
    result = run(*typed)
    assert result.exit_code == 2
    assert "Did you mean" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["audit", "-o", ".csv"],
        ["audit", "-o", ".parquet"],
        ["report", "-o", ".html"],
        ["plot", "-o", ""],
        ["resize", "--rank", "2", "-o", ""],
        ["export", "--to", "peft", "-o", ""],
    ],
)
def test_an_output_that_no_disk_takes_is_one_line(arguments: list[str], make_run: Make, tmp_path: Path) -> None:
    """Its name is too long, or the way there is closed: Python raises where it only asks what is there."""
    *others, ending = arguments
    output = tmp_path / ("a" * 256 + ending)
    result = run(others[0], make_run(), *others[1:], output)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1), result.stderr
    assert "File name too long" in result.stderr


def test_what_the_system_refuses_is_one_line(make_run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is met, also where no more is known of it; anything else that is unexpected is a bug of ours."""
    source, looked, codes = make_run(), Path.is_file, [errno.EACCES]

    def refuse(path: Path) -> bool:
        if path.name == runs.MANIFEST:
            raise OSError(codes[-1], "refused", str(path))
        return looked(path)

    monkeypatch.setattr(Path, "is_file", refuse)
    for code in (errno.EACCES, errno.ESTALE, errno.ENOTCONN):
        codes.append(code)
        result = run("report", source, "-o", source.parent / "report.html")
        line = f"{source / runs.MANIFEST}: refused. Check the path, its permissions and its disk.\n"
        assert (result.exit_code, result.stderr) == (2, f"Error: {line}")
    codes.append(errno.EBADF)
    result = run("report", source, "-o", source.parent / "report.html")
    assert (result.exit_code, "This is a bug" in result.stderr) == (1, True)


def test_a_folder_that_may_not_be_entered_is_one_line(make_adapter: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names in it may be seen, and not what they stand for; root, who runs tests in containers, enters all."""
    folder, real = make_adapter(), os.stat

    def refuse(path: Any, *arguments: Any, **more: Any) -> os.stat_result:
        if str(path).startswith(f"{folder}/"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *arguments, **more)

    monkeypatch.setattr(os, "stat", refuse)
    for arguments in (["audit"], ["inspect"], ["diagnose"], ["audit", "--base", folder]):
        result = run(*arguments, folder)
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1), result.stderr
        assert result.stderr.startswith(f"Error: {folder}: cannot be looked at (Permission denied).")


def test_a_reader_that_has_gone_is_no_bug_on_windows(make_adapter: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing to its pipe is an invalid argument there."""

    told = click.echo

    def refuse(*words: Any, err: bool = False, **__: Any) -> None:
        if err:
            told(*words, err=err)
        else:
            raise refused

    source = make_adapter()
    assert run("audit", source).exit_code == 0  # and all is imported
    monkeypatch.setattr(click, "echo", refuse)
    monkeypatch.setattr(sys, "platform", "win32")
    refused = OSError(errno.EINVAL, "Invalid argument")
    result = CliRunner().invoke(main, ["audit", str(source)])
    assert (result.exit_code, result.stderr) == (1, "")
    refused = OSError(errno.EINVAL, "Invalid argument", "a?.json")  # of a file it is no reader's doing
    assert "a?.json" in CliRunner().invoke(main, ["audit", str(source)]).stderr


def test_home_is_known_where_something_is_written(
    make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shells hand ``--output=~/run`` over as it is; a folder called ``~`` is the last thing anybody wants."""
    source = make_run()
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    for command, *others, output in (
        ("report", "~/report.html"),
        ("plot", "~/figures"),
        ("resize", "--rank", "2", "~/cut"),
        ("export", "--to", "peft", "~/peft.py"),
        ("audit", "~/table.csv"),
    ):
        result = run(command, source, *others, f"--output={output}")
        assert result.exit_code == 0, result.output
        assert (tmp_path / "home" / Path(output).name).exists()
    assert not (tmp_path / "~").exists()


def test_a_name_with_brackets_is_that_file_on_windows(
    make_adapter: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its shells leave patterns to the program, and click takes such a name for one, which another file matches."""

    class Windows:
        name = "nt"

        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

    for module in (click.core, lorarank.cli):
        monkeypatch.setattr(module, "os", Windows())
    monkeypatch.chdir(tmp_path)
    made = make_adapter("made")
    for name in ("style v", "style [v2]"):
        shutil.copytree(made, name)
    for typed, audited in (
        ("style [v2]", ["style [v2]"]),
        ("sty* [[]*", ["style [v2]"]),
        ("sty*", ["style [v2]", "style v"]),
    ):
        monkeypatch.setattr(sys, "argv", ["lorarank", "audit", typed, "--json"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        assert [one["source"] for one in json.loads(capsys.readouterr().out)["audits"]] == audited


def test_patterns_begin_at_home_where_shells_leave_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "runs").mkdir()
    for name in ("a", "b", "style [v2]"):
        (tmp_path / "runs" / name).touch()
    here = str(tmp_path / "runs")
    assert _matched(["~/runs/?"]) == [f"{here}/a", f"{here}/b"]
    assert _matched(["~/runs/style [v2]", "~/none/*"]) == ["~/runs/style [v2]", "~/none/*"]
