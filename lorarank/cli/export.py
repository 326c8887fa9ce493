"""``lorarank export`` (floor 5)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lorarank.cli.estimate_options import may_lose, trained_for
from lorarank.cli.parameter_types import PLACE, SOURCE, Choice
from lorarank.cli.terminal import command_line
from lorarank.cli.voice import note
from lorarank.errors import printable
from lorarank.export.options import TOOLS, ExportOptions


@click.command(
    epilog="Example: lorarank export run --to axolotl -o lora.yaml\n\n"
    "Exit codes: 0 exported, 2 bad input, 3 the run carries no recommendation: nothing is exported."
)
@click.argument("source", type=SOURCE, metavar="SOURCE")
@click.option("--to", type=Choice(TOOLS), required=True, help="Whose configuration to write.")
@click.option(
    "--per-module", is_flag=True, default=ExportOptions.per_module, help="A rank for each module, where the tool can."
)
@click.option(
    "--budget",
    type=int,
    default=ExportOptions.budget,
    metavar="PARAMS",
    help="With --per-module: most parameters in all [default: those of one rank for all].",
)
@click.option(
    "--rank",
    type=int,
    default=ExportOptions.rank,
    metavar="R",
    help="This rank instead of the recommended one, or the adapter's.",
)
@may_lose
@trained_for
@click.option(
    "--qlora", is_flag=True, default=ExportOptions.qlora, help="Base in 4 bits: nf4, double quantisation, bf16 compute."
)
@click.option("-o", "--output", type=PLACE, help="A new file, instead of standard output.")
@click.option(
    "--format",
    "kind",
    type=Choice(("text", "json")),
    default="text",
    show_default=True,
    help="text is for the tool; json has it with the settings in PEFT's names.",
)
def command(source: str, output: Path | None, kind: str, **given: Any) -> None:
    """Write a recommendation, or an adapter's own configuration, for the tool that trains or serves it.

    SOURCE is the folder `lorarank probe` made: what is recommended from it. Or an adapter (a folder, a file or a hub
    id): what it was trained with.
    """
    from lorarank.export import export, write
    from lorarank.report.exported import to_json, to_text

    written_as = to_json if kind == "json" else to_text
    text = written_as(export(source, ExportOptions(**given)), command=command_line())
    if output is None:
        click.echo(text, nl=False)
    else:
        write(output, text)
        note(f"Written to {printable(output)}.")
