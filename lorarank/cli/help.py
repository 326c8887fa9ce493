"""``lorarank help`` (floor 5)."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from lorarank.cli.terminal import screen
from lorarank.topics import TOPICS, read


def _commands(ctx: click.Context) -> list[str]:
    door = ctx.find_root()
    return door.command.list_commands(door) if isinstance(door.command, click.Group) else []


def _names(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Topics and commands, for a shell."""
    told = TOPICS | dict.fromkeys(_commands(ctx), "The help of this command.")
    return [CompletionItem(name, help=text) for name, text in told.items() if name.startswith(incomplete)]


@click.command(epilog="Example: lorarank help alpha")
@click.argument("topic", nargs=-1, metavar="[TOPIC]", shell_complete=_names)
@click.pass_context
def command(ctx: click.Context, topic: tuple[str, ...]) -> None:
    """Explain a topic, or list the topics.

    Without TOPIC they are listed. The name of a command shows the help of that command.
    """
    from lorarank.report.topic import render

    name = " ".join(topic)
    if not topic:
        formatter = ctx.make_formatter()
        with formatter.section("Topics, each for `lorarank help TOPIC`"):
            formatter.write_dl(list(TOPICS.items()))
        click.echo(formatter.getvalue(), nl=False)
        return
    door = ctx.find_root()
    found = door.command.get_command(door, name) if isinstance(door.command, click.Group) else None
    if found is not None:
        with click.Context(found, info_name=name, parent=door) as shown:
            click.echo(found.get_help(shown))
        return
    click.echo(render(read(name, _commands(ctx)), **screen()), nl=False)
