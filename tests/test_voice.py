"""How much is said and in what colours: --quiet, --verbose, NO_COLOR, FORCE_COLOR, terminals and pipes."""

from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import lorarank
from lorarank.cli import main
from lorarank.cli.progress import counted
from lorarank.cli.voice import note, speaks, take_every_sign

pty = pytest.importorskip("pty")

Make = Callable[..., Path]
ROOT = Path(lorarank.__file__).parents[1]
COLOUR = re.compile(r"\x1b\[[\d;]*m")
PLAIN = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "TERM")}


def on_a_terminal(arguments: list[str], environment: Mapping[str, str]) -> str:
    """What a command writes to a terminal of its own, stderr among it."""
    leader, follower = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "lorarank", *arguments], cwd=ROOT, stdin=follower, stdout=follower, stderr=follower,
        env={**PLAIN, "PYTHONPATH": str(ROOT), "TERM": "xterm", **environment},
    )  # fmt: skip
    os.close(follower)
    read = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        read += piece
    os.close(leader)
    assert child.wait() == 0, read
    return read.decode()


def into_a_pipe(arguments: list[str], environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "lorarank", *arguments], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**PLAIN, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    ("write", "environment", "coloured"),
    [
        (on_a_terminal, {}, True),
        (on_a_terminal, {"NO_COLOR": "1"}, False),
        (on_a_terminal, {"NO_COLOR": ""}, True),  # not empty, says no-color.org
        (on_a_terminal, {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        (on_a_terminal, {"TERM": "dumb"}, False),
        (into_a_pipe, {}, False),
        (into_a_pipe, {"FORCE_COLOR": "1"}, True),
        (into_a_pipe, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_colours_are_for_terminals_and_for_who_asks(
    make_adapter: Make, write: Callable[..., str], environment: Mapping[str, str], coloured: bool
) -> None:
    told = write(["audit", str(make_adapter())], environment)
    assert bool(COLOUR.search(told)) == coloured
    assert "Keep rank" in told
    assert "\x1b" not in COLOUR.sub("", told)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    "order", [["-v", "estimate", "RUN"], ["estimate", "RUN", "-v"], ["estimate", "--verbose", "RUN"]]
)
def test_verbose_says_what_was_read_and_how_long_it_took(make_run: Make, order: list[str]) -> None:
    folder = make_run()
    told = run(*[str(folder) if word == "RUN" else word for word in order])
    lines = told.stderr.splitlines()
    assert told.stdout == run("estimate", folder).stdout
    assert lines[0].startswith(f"lorarank {lorarank.__version__} in ")
    assert re.match(r"Python 3\.\d+\.\d+\S*, numpy \d", lines[1])
    assert f"lorarank.json_files: read {folder / 'manifest.json'}" in lines
    assert f"lorarank.adapters: {folder / 'adapter'}: peft, 6 modules" in lines
    assert re.fullmatch(r"\d+\.\d\d s, \d+\.\d\d s of this process's CPU time since it began", lines[-1])
    logger = logging.getLogger("lorarank")
    assert (logger.handlers, logger.level) == ([], logging.NOTSET)  # as it was


def test_verbose_names_are_printable(make_adapter: Make) -> None:
    assert "\x1b" not in run("-v", "audit", make_adapter("a\x1b[31mb")).stderr


def test_quiet_leaves_the_result_alone(make_run: Make, tmp_path: Path) -> None:
    folder = make_run()
    for order in (["-q", "export"], ["export", "-q"]):
        output = tmp_path / f"lora-{order[0]}.yaml"
        told = run(*order, folder, "--to", "axolotl", "-o", output)
        assert (told.exit_code, told.output) == (0, "")
        assert output.read_text(encoding="utf-8").startswith("# For axolotl")
    assert run("export", folder, "--to", "axolotl", "-o", tmp_path / "loud.yaml").stderr.startswith("Written to ")
    assert run("-q", "estimate", tmp_path / "nowhere").stderr.startswith("Error: ")


def test_quiet_shows_no_progress(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("lorarank.cli.progress.LINE_EVERY", 0.0)
    for arguments, told in (([], "1/2 things"), (["--quiet"], "")):
        with main.make_context("lorarank", [*arguments, "heuristics"]) as ctx, counted("things") as report:
            assert ctx.find_root() is ctx
            report(1, 2)
        assert told in capsys.readouterr().err


def test_quiet_and_verbose_together_are_refused(make_run: Make) -> None:
    for arguments in (["-q", "estimate", "x", "-v"], ["estimate", "x", "-q", "-v"], ["-qv", "estimate", "x"]):
        told = run(*arguments)
        assert told.exit_code == 2
        assert "say the opposite" in told.stderr


@pytest.mark.parametrize(
    ("encoding", "chosen", "written"),
    [
        ("cp1252", "", "ρ = ½ ▁█".encode()),
        ("cp1252", "cp1252", b"? = \xbd ??"),
        ("utf-8", "", "ρ = ½ ▁█".encode()),
        ("utf-16-le", "", "ρ = ½ ▁█".encode("utf-16-le")),
    ],
)
def test_every_sign_can_be_written(encoding: str, chosen: str, written: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", chosen)
    for name in ("stdout", "stderr"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, name, stream)
        take_every_sign()
        stream.write("ρ = ½ ▁█")
        stream.flush()
        assert stream.buffer.getvalue() == written  # type: ignore[attr-defined]


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8"])
def test_a_name_that_is_no_utf_8_is_told_with_escapes(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONIOENCODING", raising=False)
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    take_every_sign()
    stream.write(os.fsdecode(b"In caf\xe9.html") + "σ")
    stream.flush()
    assert stream.buffer.getvalue() == b"In caf\\udce9.html" + "σ".encode()  # type: ignore[attr-defined]


def test_an_audit_prints_where_the_encoding_is_that_of_windows(make_adapter: Make) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lorarank", "audit", str(make_adapter())], cwd=ROOT, capture_output=True,
        env={**PLAIN, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "cp1252"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert "‖ΔW‖".encode("cp1252", "replace") in done.stdout


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
def test_an_audit_runs_where_streams_are_closed(closed: tuple[int, ...], make_adapter: Make, tmp_path: Path) -> None:
    """As after ``>&-``; the table, which is opened next, gets nothing that is said on the number of a stream."""
    code = f"import os, sys\nfor number in {closed}:\n    os.close(number)\nos.execv(sys.executable, sys.argv[1:])"
    audit = [sys.executable, "-m", "lorarank", "-v", "audit", str(make_adapter()), "-o", str(tmp_path / "table.csv")]
    done = subprocess.run(
        [sys.executable, "-c", code, *audit], cwd=ROOT, capture_output=True, env={**PLAIN, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0
    assert bool(done.stdout) == (1 not in closed)
    assert bool(done.stderr) == (2 not in closed)
    heading, row = (tmp_path / "table.csv").read_text(encoding="utf-8").splitlines()
    assert heading.startswith("source,")
    assert row.startswith(str(tmp_path))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's disk that is always full")
@pytest.mark.parametrize("asked", [["--version"], ["audit"], ["audit", "--json"], ["help", "alpha"]])
def test_a_full_disk_behind_stdout_is_one_line(asked: list[str], make_adapter: Make) -> None:
    arguments = [*asked, str(make_adapter())] if "audit" in asked else asked
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "lorarank", *arguments], cwd=ROOT, stdout=full, stderr=subprocess.PIPE,
            env={**PLAIN, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    line = b"Error: the output: No space left on device. Check the path, its permissions and its disk.\n"
    assert (done.returncode, done.stderr) == (2, line)


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({}, True),
        ({"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "2"}, True),
        ({"LOCAL_RANK": "1", "RANK": "1", "WORLD_SIZE": "2"}, False),
        ({"LOCAL_RANK": "0", "RANK": "1", "WORLD_SIZE": "2"}, False),  # the first of the second machine
        ({"RANK": "1", "WORLD_SIZE": "2"}, True),  # a pod of a cluster that was not launched to train with others
    ],
)
def test_the_first_of_processes_that_train_together_speaks(
    environment: Mapping[str, str], says: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    note("something")
    assert (speaks(), capsys.readouterr().err) == (says, "something\n" if says else "")
