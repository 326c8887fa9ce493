"""``lorarank inspect`` (floor 5)."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from lorarank.cli.parameter_types import SOURCE, Choice
from lorarank.cli.terminal import command_line, rendered
from lorarank.inspect.options import InspectOptions

FORMATS = ("table", "json", "markdown", "csv")


@click.command(epilog="Example: lorarank inspect gpt2-folder --rank 16 --target c_attn")
@click.argument("model", type=SOURCE, metavar="MODEL")
@click.option("--rank", type=int, default=InspectOptions.rank, metavar="R", help="This rank alone [default: 1 to 256].")
@click.option(
    "--target",
    default=InspectOptions.target,
    metavar="PATTERN",
    help="all-linear, attention or qv; or which modules target_modules would hit: names separated by commas, or a "
    "regular expression for the whole path.",
)
@click.option("--modules", "all_modules", is_flag=True, help="List every module.")
@click.option(
    "--format", "kind", type=Choice(FORMATS), default="table", show_default=True, help="csv has a row a module."
)
def command(model: str, all_modules: bool, kind: str, **given: Any) -> None:
    """List what LoRA can be put on in a model, and what each rank costs there.

    MODEL is a folder, a config.json, or a hub id (owner/name[@revision]). No weights are loaded, and none are needed:
    without them the shapes come from the configuration (extra: probe).
    """
    from lorarank.inspect import inspect
    from lorarank.report import inspected

    found = inspect(model, InspectOptions(**given))
    lay = partial(inspected.lay, all_modules=all_modules)
    to_json = partial(inspected.to_json, command=command_line())
    click.echo(rendered(found, kind, lay, to_json, inspected.rows), nl=False)
