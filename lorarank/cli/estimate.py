"""``lorarank estimate`` (floor 5)."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from lorarank.cli.estimate_options import estimates
from lorarank.cli.parameter_types import SOURCE, Choice
from lorarank.cli.terminal import command_line, rendered
from lorarank.errors import EXIT_OK, EXIT_REFUSED
from lorarank.estimate.options import EstimateOptions

FORMATS = ("table", "json", "markdown", "csv")


@click.command(
    epilog="Example: lorarank estimate run --task reasoning\n\n"
    "Exit codes: 0 an answer, 2 bad input, 3 no recommendation."
)
@click.argument("sources", type=SOURCE, metavar="SOURCE...", nargs=-1, required=True)
@estimates(task="Row of the reference table to show beside the answer.")
@click.option("--per-module", is_flag=True, help="Add the table of all modules.")
@click.option(
    "--format", "kind", type=Choice(FORMATS), default="table", show_default=True, help="csv has a row a module."
)
@click.pass_context
def command(ctx: click.Context, /, sources: tuple[str, ...], per_module: bool, kind: str, **given: Any) -> None:
    """Recommend a LoRA rank from a probe run, or describe adapters.

    SOURCE is the folder `lorarank probe` made; or one or more adapters, each a folder, a file or a hub id
    (owner/name[@revision]).
    """
    from lorarank.estimate import recommend
    from lorarank.report import recommended

    answer = recommend(sources, EstimateOptions(**given))
    lay = partial(recommended.lay, per_module=per_module)
    to_json = partial(recommended.to_json, command=command_line(), per_module=per_module)
    click.echo(rendered(answer, kind, lay, to_json, recommended.rows), nl=False)
    ctx.exit(EXIT_REFUSED if answer.refused else EXIT_OK)
