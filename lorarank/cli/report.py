"""``lorarank report`` (floor 5)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lorarank.cli.estimate_options import estimates
from lorarank.cli.parameter_types import PLACE, SOURCE
from lorarank.cli.terminal import command_line
from lorarank.errors import EXIT_BAD_INPUT, EXIT_OK, EXIT_REFUSED
from lorarank.estimate.options import EstimateOptions


@click.command(
    epilog="Example: lorarank report run --task reasoning -o report.html\n\n"
    "Exit codes: 0 written, 2 bad input, or written without a source of several that cannot be read, 3 written, and "
    "the report is a refusal."
)
@click.argument("sources", type=SOURCE, metavar="SOURCE...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=PLACE,
    default="report.html",
    show_default=True,
    help="The file to write: one .html that needs no network, or .md.",
)
@estimates(task="Row of the reference table to mark.")
@click.pass_context
def command(ctx: click.Context, /, sources: tuple[str, ...], output: Path, **given: Any) -> None:
    """Write a report that explains itself: one HTML file with charts, or Markdown.

    SOURCE is the folder of a probe, or of a sweep; or one or more adapters, each a folder, a file or a hub id; or
    audits that `lorarank audit --per-module --format json` printed into files.
    """
    from lorarank.cli.progress import counted
    from lorarank.dossier import gather
    from lorarank.report import chapters
    from lorarank.report.written import named

    named(output)
    with counted("modules" if len(sources) == 1 else "adapters") as progress:
        found = gather(sources, EstimateOptions(**given), progress=progress)
    document = chapters.document(found, command=command_line())
    click.echo(f"{document.headline}\nIn {output}, {document.write(output) / 1000:,.0f} kB.")
    ctx.exit(EXIT_REFUSED if found.refused else EXIT_BAD_INPUT if found.unreadable else EXIT_OK)
