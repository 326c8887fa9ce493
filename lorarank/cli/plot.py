"""``lorarank plot`` (floor 5)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lorarank.choices import METRICS
from lorarank.cli.estimate_options import may_lose
from lorarank.cli.parameter_types import SOURCE, Choice, Place
from lorarank.errors import EXIT_BAD_INPUT
from lorarank.report.options import KINDS, PlotOptions


@click.command(
    epilog="Example: lorarank plot run -o figures --format svg\n\n"
    "Exit codes: 0 drawn, 2 bad input, or a source of several that cannot be read."
)
@click.argument("sources", type=SOURCE, metavar="SOURCE...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=Place(file_okay=False),
    default="figures",
    show_default=True,
    help="Folder for the pictures; it is made where there is none.",
)
@click.option(
    "--format",
    "kind",
    type=Choice(KINDS),
    default=PlotOptions.kind,
    show_default=True,
    help="What they are written as.",
)
@click.option(
    "--energy", type=float, default=PlotOptions.energy, help="Share of energy to keep [default: the rule's, 0.90]."
)
@may_lose
@click.option(
    "--metric",
    type=Choice(METRICS),
    default=PlotOptions.metric,
    show_default=True,
    help="In which metric singular values are taken.",
)
@click.pass_context
def command(ctx: click.Context, /, sources: tuple[str, ...], output: Path, **given: Any) -> None:
    """Draw what a run, a sweep or adapters show, as PNG, SVG or PDF.

    A run has what a low rank loses, its truncation curve, scree plots, a heat map of ranks, and parameters by rank; an
    adapter the last three; a sweep its curve of loss against rank. Extra: plot.
    """
    from lorarank.dossier import gather
    from lorarank.report.pictures import draw

    options = PlotOptions(**given)
    pictures = draw(gather(sources, options.estimate), options.kind)
    for path in pictures.write(output):
        click.echo(str(path))
    if pictures.unreadable:
        click.echo("\n".join(pictures.unreadable), err=True)
        ctx.exit(EXIT_BAD_INPUT)
