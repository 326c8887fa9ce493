"""What bash, zsh and fish complete: by click's protocol for all three, and in the real shells that are installed."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import lorarank
from lorarank.cli import COMMANDS, main
from lorarank.cli.completion import SHELLS, SPLIT, VARIABLE
from lorarank.heuristics import TASKS
from lorarank.topics import TOPICS

ROOT = Path(lorarank.__file__).parents[1]
FILES = "files"
"""Left to the shell's own completion of paths."""

CASES: dict[str, object] = {
    "lorarank es": {"estimate"},
    "lorarank ": set(COMMANDS),
    "lorarank estimate --form": {"--format"},
    "lorarank estimate --js": {"--json"},
    "lorarank estimate --format ": {"table", "json", "markdown", "csv"},
    "lorarank estimate --task ": set(TASKS),
    "lorarank heuristics --task re": {"reasoning"},
    "lorarank -v export run --to a": {"axolotl"},
    "lorarank export -q run --to l": {"llamafactory"},
    "lorarank schema fi": {"fine-tune"},
    "lorarank completion ": set(SHELLS),
    "lorarank help q": {"qlora"},
    "lorarank help ": {*TOPICS, *COMMANDS},
    "lorarank xyz": set(),
    "lorarank estimate ru": FILES,
    "lorarank compare A ru": FILES,
    "lorarank probe MODEL --data ru": FILES,
    "lorarank resize my-lora -o ru": FILES,
    "lorarank audit TUNED --base ru": FILES,
}
"""What stands on the line → what may follow."""


def asked(shell: str, line: str) -> list[list[str]]:
    """What our side answers a shell: fields of each completion, the kind first, the word second."""
    words = line.split(" ")
    there = {"COMP_WORDS": line, "COMP_CWORD": words[-1] if shell == "fish" else str(len(words) - 1)}
    done = CliRunner().invoke(main, [], prog_name="lorarank", env={**there, VARIABLE: f"{shell}_complete"})
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.rstrip("\n").split("\n") if done.stdout.strip() else []
    if shell == "zsh":
        return [lines[start : start + 3] for start in range(0, len(lines), 3)]
    return [[kind, *word.split("\t")] for kind, word in (one.split(",", 1) for one in lines)]


@pytest.mark.parametrize("line", CASES)
@pytest.mark.parametrize("shell", SHELLS)
def test_what_a_shell_is_told(shell: str, line: str) -> None:
    told = asked(shell, line)
    if CASES[line] == FILES:
        assert [one[:2] for one in told] == [["file", "ru"]]
    else:
        assert {one[0] for one in told} <= {"plain"}
        assert {one[1] for one in told} == CASES[line]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_commands_and_options_are_described(shell: str) -> None:
    assert asked(shell, "lorarank es") == [["plain", "estimate", COMMANDS["estimate"]]]
    assert asked(shell, "lorarank help qlo") == [["plain", "qlora", TOPICS["qlora"]]]
    assert asked(shell, "lorarank help est")[0][2] == "The help of this command."
    assert asked(shell, "lorarank estimate --js") == [["plain", "--json", "The same as --format json."]]


@pytest.mark.parametrize("line", ["lorarank --verbose estimate --f", "lorarank -q -v estimate --f"])
def test_nothing_is_said_beside(line: str) -> None:
    assert asked("bash", line) == [["plain", "--format"]]


def test_every_path_is_completed_and_every_list_names_the_nearest() -> None:
    """Every argument and option that is no list of names and no number, but for the words that only a person knows."""
    words = {"target", "device", "lr", "lrs", "ranks", "report_to", "ray", "energy", "fail_if", "validation", "topic"}
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        for one in command.params:
            if isinstance(one.type, click.Choice):
                assert "Did you mean 'json'" in type(one.type)(("json",)).get_invalid_choice_message("jsn", None)
            elif one.type.name == "text" and one.name not in words and not getattr(one, "is_flag", False):
                told = one.shell_complete(click.Context(command), "ru")
                assert [(item.type, item.value) for item in told] == [("file", "ru")], (name, one.name)


def test_nothing_that_trains_is_loaded() -> None:
    code = (
        "import sys\nfrom contextlib import suppress\nfrom lorarank.cli import main\n"
        "with suppress(SystemExit):\n    main(prog_name='lorarank')\n"
        "print({'torch', 'transformers', 'peft', 'scipy'} & set(sys.modules))"
    )
    for line in ("lorarank ", "lorarank probe --", "lorarank sweep M --da", "lorarank resize --to "):
        there = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), VARIABLE: "bash_complete"}
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, **there},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.endswith("\nset()\n")


BASH = """
eval "$(lorarank completion bash)"
complete -p lorarank >&2
compopt() { [ "$2" = default ] && echo run; }  # only works while a person presses the key
COMP_WORDS=(WORDS); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
_lorarank_completion lorarank
[ ${#COMPREPLY[@]} = 0 ] || printf '%s\\n' "${COMPREPLY[@]}"
"""

ZSH = """
compdef() { print -u 2 complete $2 }
_describe() { printf '%s\\n' "${completions_with_descriptions[@]%%:*}" }
compadd() { printf '%s\\n' "${completions[@]}" }
_path_files() { echo run }
eval "$(lorarank completion zsh)"
words=(WORDS); CURRENT=${#words}
_lorarank_completion
"""
"""What zsh's own functions for completion would be given is printed; they work while a person presses the key."""

FISH = """
lorarank completion fish | source
function __fish_complete_path; echo run; end
complete -C LINE
"""


def in_bash(line: str) -> list[str]:
    words = " ".join(shlex.quote(word) for word in line.split(" "))
    return ["bash", "--norc", "-c", BASH.replace("(WORDS)", f"({words})")]


def in_zsh(line: str) -> list[str]:
    words = " ".join(shlex.quote(word) for word in line.split(" "))
    return ["zsh", "-f", "-c", ZSH.replace("(WORDS)", f"({words})")]


def in_fish(line: str) -> list[str]:
    return ["fish", "--no-config", "-c", FISH.replace("LINE", shlex.quote(line))]


REAL: dict[str, Callable[[str], list[str]]] = {
    name: run for name, run in {"bash": in_bash, "zsh": in_zsh, "fish": in_fish}.items() if shutil.which(name)
}


@pytest.fixture
def on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command ``lorarank``, as an installed package has it."""
    command = tmp_path / "bin" / "lorarank"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m lorarank "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.mark.usefixtures("on_the_path")
@pytest.mark.parametrize("shell", REAL)
def test_in_the_real_shell(shell: str) -> None:
    for line in ("lorarank es", "lorarank ", "lorarank estimate --format ", "lorarank help q", "lorarank estimate ru"):
        done = subprocess.run(REAL[shell](line), capture_output=True, text=True)
        found = {word.partition("\t")[0] for word in done.stdout.split("\n") if word}
        expected = CASES[line]
        assert found == ({"run"} if expected == FILES else expected), (line, done.stdout, done.stderr)
    if shell == "fish":
        done = subprocess.run(in_fish("lorarank es"), capture_output=True, text=True, check=True)
        assert done.stdout == f"estimate\t{COMMANDS['estimate']}\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_for_this_command(shell: str) -> None:
    done = CliRunner().invoke(main, ["completion", shell])
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"{VARIABLE}={shell}_complete" in done.stdout
    assert "_lorarank_completion" in done.stdout
    assert (SPLIT[1] in done.stdout) == (shell == "fish")
    assert SPLIT[0] not in done.stdout


def test_another_shell_is_a_line_that_names_the_nearest() -> None:
    done = CliRunner().invoke(main, ["completion", "bsh"])
    assert done.exit_code == 2
    assert "'bsh' is not one of 'bash', 'zsh', 'fish'. Did you mean 'bash'?" in done.stderr
