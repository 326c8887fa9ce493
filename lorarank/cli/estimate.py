"""``lorarank estimate`` (floor 5)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from lorarank.cli.estimate_options import estimates
from lorarank.cli.parameter_types import SOURCE, Choice
from lorarank.cli.terminal import screen
from lorarank.errors import EXIT_OK, EXIT_REFUSED
from lorarank.estimate.options import EstimateOptions

if TYPE_CHECKING:
    from lorarank.estimate import Recommendation

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

    answer = recommend(sources, EstimateOptions(**given))
    click.echo(_rendered(answer, kind, per_module), nl=False)
    ctx.exit(EXIT_REFUSED if answer.refused else EXIT_OK)


def _rendered(answer: Recommendation, kind: str, per_module: bool) -> str:
    """The answer in one of :data:`FORMATS`."""
    from lorarank.report import export

    if kind == "json":
        return export.to_json(answer, command=("lorarank", *sys.argv[1:]), per_module=per_module)
    if kind == "markdown":
        return export.to_markdown(answer, per_module=per_module)
    if kind == "csv":
        return export.to_csv(answer)
    from lorarank.report import table

    return table.render(answer, **screen(), per_module=per_module)
