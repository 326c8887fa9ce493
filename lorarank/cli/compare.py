"""``lorarank compare`` (floor 5)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from lorarank.cli.parameter_types import SOURCE, Choice
from lorarank.cli.terminal import screen
from lorarank.compare.options import CompareOptions

if TYPE_CHECKING:
    from lorarank.compare import Compared

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

    found = compare(first, second, CompareOptions(directions=directions))
    click.echo(_rendered(found, kind, all_modules), nl=False)


def _rendered(found: Compared, kind: str, all_modules: bool) -> str:
    """The result in one of :data:`REPORTS`."""
    from lorarank.report import compared

    if kind == "json":
        return compared.to_json(found, command=("lorarank", *sys.argv[1:]))
    if kind == "markdown":
        return compared.to_markdown(found)
    if kind == "csv":
        return compared.to_csv(found)
    return compared.render(found, **screen(), all_modules=all_modules)
