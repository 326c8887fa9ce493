"""``lorarank estimate`` (floor 5)."""

from __future__ import annotations

import shutil
import sys
from typing import Any

import click

from lorarank.errors import EXIT_OK, EXIT_REFUSED
from lorarank.estimate import EstimateOptions, Recommendation, recommend
from lorarank.heuristics import TASKS
from lorarank.spectrum import METRICS

FORMATS = ("table", "json", "markdown", "csv")
PIPED_WIDTH = 100
"""Columns where no terminal says how many it has."""


@click.command(
    epilog="Example: lorarank estimate run --task reasoning\n\n"
    "Exit codes: 0 an answer, 2 bad input, 3 no recommendation."
)
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option(
    "--energy",
    type=float,
    default=EstimateOptions.energy,
    help="Share of energy to keep; the plain rule at that share [default: 0.90].",
)
@click.option(
    "--metric",
    type=click.Choice(METRICS),
    default=EstimateOptions.metric,
    show_default=True,
    help="In which metric singular values are taken.",
)
@click.option(
    "--task",
    type=click.Choice(list(TASKS)),
    default=EstimateOptions.task,
    help="Row of the reference table to show beside the answer.",
)
@click.option(
    "--budget",
    type=int,
    default=EstimateOptions.budget,
    metavar="PARAMS",
    help="Most trainable parameters: a rank for each module within them.",
)
@click.option("--per-module", is_flag=True, help="Add the table of all modules.")
@click.option(
    "--format", "kind", type=click.Choice(FORMATS), default="table", show_default=True, help="csv has a row a module."
)
@click.pass_context
def command(ctx: click.Context, /, sources: tuple[str, ...], per_module: bool, kind: str, **given: Any) -> None:
    """Recommend a LoRA rank from a probe run, or describe adapters.

    SOURCE is the folder `lorarank probe` made; or one or more adapters, each a folder, a file or a hub id
    (owner/name[@revision]).
    """
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

    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size((PIPED_WIDTH, 24)).columns if terminal else PIPED_WIDTH
    return table.render(answer, width=width, colour=terminal, per_module=per_module)
