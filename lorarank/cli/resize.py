"""``lorarank resize`` (floor 5)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lorarank.choices import METRICS
from lorarank.cli.convert_options import converts, told
from lorarank.cli.parameter_types import SOURCE, Choice
from lorarank.cli.terminal import command_line
from lorarank.resize.options import ResizeOptions


@click.command(epilog="Example: lorarank resize adapter -o adapter-r8 --rank 8")
@click.argument("source", type=SOURCE, metavar="IN")
@click.option("--rank", type=int, default=ResizeOptions.rank, metavar="K", help="This rank for every module.")
@click.option(
    "--energy",
    type=float,
    default=ResizeOptions.energy,
    metavar="E",
    help="The rank that keeps this share of energy.",
)
@click.option(
    "--params", type=int, default=ResizeOptions.params, metavar="N", help="The rank that N parameters pay for."
)
@click.option(
    "--threshold-global",
    type=float,
    default=ResizeOptions.threshold_global,
    metavar="S",
    help="Every singular value above S times the largest of all modules.",
)
@click.option(
    "--keep-loss",
    type=float,
    default=ResizeOptions.keep_loss,
    metavar="X",
    help="The smallest rank that loses at most this share of the gain; IN is a run.",
)
@click.option(
    "--per-module/--uniform",
    default=ResizeOptions.per_module,
    help="A rank for each module, or one for all [default: one, but for --threshold-global].",
)
@click.option(
    "--metric",
    type=Choice(METRICS),
    default=ResizeOptions.metric,
    show_default=True,
    help="In which the cut is best; all but weight need a run.",
)
@click.option(
    "--pad", is_flag=True, default=ResizeOptions.pad, help="Fill up with zeros where --rank is above a module's."
)
@converts
def command(source: str, output: Path, kind: str, all_modules: bool, **given: Any) -> None:
    """Cut an adapter to a smaller rank, and say what that drops.

    IN is an adapter (a folder, a file or a hub id), or the folder `lorarank probe` made. Give exactly one of --rank,
    --energy, --params, --threshold-global and --keep-loss. IN is only read; whatever in it is no LoRA factor is copied.
    """
    from lorarank.resize import resize

    done = resize(source, output, ResizeOptions(**given), command=command_line())
    click.echo(told(done, kind, all_modules), nl=False)
