"""``lorarank plot`` (floor 5)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lorarank.errors import EXIT_BAD_INPUT, ResourceError
from lorarank.estimate.options import EstimateOptions
from lorarank.spectrum import METRICS

KINDS = ("png", "svg", "pdf")


@click.command(
    epilog="Example: lorarank plot run -o figures --format svg\n\n"
    "Exit codes: 0 drawn, 2 bad input, or a source of several that cannot be read."
)
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default="figures",
    show_default=True,
    help="Folder for the pictures; it is made where there is none.",
)
@click.option(
    "--format", "kind", type=click.Choice(KINDS), default="png", show_default=True, help="What they are written as."
)
@click.option(
    "--energy", type=float, default=EstimateOptions.energy, help="Share of energy to keep [default: the rule's, 0.90]."
)
@click.option(
    "--metric",
    type=click.Choice(METRICS),
    default=EstimateOptions.metric,
    show_default=True,
    help="In which metric singular values are taken.",
)
@click.pass_context
def command(ctx: click.Context, /, sources: tuple[str, ...], output: Path, kind: str, **given: Any) -> None:
    """Draw what a run, a sweep or adapters show, as PNG, SVG or PDF.

    A run has its truncation curve, scree plots, a heat map of ranks, and parameters by rank; an adapter the last three;
    a sweep its curve of loss against rank. Extra: plot.
    """
    from lorarank.cli.written import write
    from lorarank.dossier import gather
    from lorarank.report import figures
    from lorarank.report.audit import unreadable_lines

    found = gather(sources, EstimateOptions(**given))
    drawn = figures.drawings(found, kind=kind)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(
            output, f"it cannot be made ({error.strerror or error})", do="name another folder"
        ) from None
    for name, content in drawn.items():
        write(output / f"{name}.{kind}", content)
        click.echo(str(output / f"{name}.{kind}"))
    if found.audits is not None and found.audits.unreadable:
        click.echo("\n".join(unreadable_lines(found.audits)), err=True)
        ctx.exit(EXIT_BAD_INPUT)
