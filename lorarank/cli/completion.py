"""``lorarank completion`` (floor 5): the script that makes a shell complete commands, options and files.

The scripts are click's (https://click.palletsprojects.com/en/stable/shell-completion/).
"""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from lorarank.cli.parameter_types import Choice

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_LORARANK_COMPLETE"

SPLIT = ('string split ","', 'string split --max 1 ","')
"""Of click's script for fish, which would end a description at its first comma, and what stands there instead."""


@click.command(
    epilog='Example: eval "$(lorarank completion bash)"\n\n'
    "To keep it, put that line into ~/.bashrc or, with zsh, into ~/.zshrc; for fish, lorarank completion fish > "
    "~/.config/fish/completions/lorarank.fish"
)
@click.argument("shell", type=Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, /, shell: str) -> None:
    """Print the script that makes SHELL complete commands, options and files."""
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 (click has these three)
    root = ctx.find_root()
    click.echo(kind(root.command, {}, "lorarank", VARIABLE).source().replace(*SPLIT))
