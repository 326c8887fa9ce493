"""``lorarank compare`` (floor 5)."""

from __future__ import annotations

from functools import partial

import click

from lorarank.cli.parameter_types import SOURCE, Choice
from lorarank.cli.terminal import command_line, rendered
from lorarank.compare.options import CompareOptions

REPORTS = ("table", "json", "markdown", "csv")


@click.command(epilog="Example: lorarank compare adapter-seed1 adapter-seed2")
@click.argument("first", type=SOURCE, metavar="A")
@click.argument("second", type=SOURCE, metavar="B")
@click.option(
    "--directions",
    type=int,
    default=CompareOptions.directions,
    metavar="K",
    help="Leading directions whose spans are compared [default: those that hold 90% of the energy].",
)
@click.option("--modules", "all_modules", is_flag=True, help="List all modules, not only the largest.")
@click.option(
    "--format", "kind", type=Choice(REPORTS), default="table", show_default=True, help="csv has a row a module."
)
def command(first: str, second: str, directions: int | None, all_modules: bool, kind: str) -> None:
    """Say what two adapters have in common, and whether they can be merged.

    A and B are adapters (a folder, a file or a hub id) of one base model, or folders `lorarank probe` made: two seeds,
    two checkpoints, two tasks. Their ranks and scalings may differ. It does not merge them.
    """
    from lorarank.compare import compare
    from lorarank.report import compared

    found = compare(first, second, CompareOptions(directions=directions))
    lay = partial(compared.lay, all_modules=all_modules or kind == "markdown")
    to_json = partial(compared.to_json, command=command_line())
    click.echo(rendered(found, kind, lay, to_json, compared.rows), nl=False)
