"""``lorarank sweep`` (floor 5)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import click

import lorarank.sweep as sweeping
from lorarank.cli.estimate_options import may_lose
from lorarank.cli.parameter_types import SOURCE, Choice
from lorarank.cli.progress import staged
from lorarank.cli.ray_option import OnCluster, on_cluster
from lorarank.cli.terminal import command_line, rendered
from lorarank.cli.training_options import trains
from lorarank.cli.voice import note, quiet_libraries
from lorarank.sweep.options import RANKS, SweepOptions

PICTURE = "sweep.png"


def _ranks(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    try:
        return tuple(int(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is no list of whole numbers such as 1,2,4,8") from None


def _rates(_context: click.Context, _option: click.Parameter, value: str) -> tuple[float, ...] | None:
    if value == "auto":
        return None
    try:
        return tuple(float(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is neither auto nor a list of numbers such as 1e-3,3e-3") from None


@click.command(
    cls=OnCluster, epilog="Example: lorarank sweep HuggingFaceTB/SmolLM2-135M --data train.jsonl -o sweep --seeds 2"
)
@click.argument("model", type=SOURCE)
@trains(SweepOptions, output="Folder of the sweep; points in it are used again.")
@click.option(
    "--ranks",
    default=SweepOptions.ranks,
    callback=_ranks,
    help=f"Ranks to train at, ascending [default: {','.join(map(str, RANKS))}, as far as matrices have room].",
)
@click.option(
    "--lrs",
    default="auto",
    show_default=True,
    callback=_rates,
    help="Learning rates; auto finds one at both ends of the ranks.",
)
@click.option(
    "--seeds", default=SweepOptions.seeds, show_default=True, help="Seeds for the ranks around the answer and the best."
)
@may_lose
@on_cluster("Train points side by side on a Ray cluster; without an address, on this machine.")
@click.option(
    "--format", "kind", type=Choice(("table", "json")), default="table", show_default=True, help="Of the report."
)
def command(kind: str, **given: Any) -> None:
    """Train MODEL at every rank with a tuned learning rate, and say which rank suffices.

    The systematic search: minutes to hours where `lorarank estimate` answers from one probe. Every point is kept as
    soon as it is trained; the same command goes on after any stop.
    """
    options = SweepOptions(**given)
    with quiet_libraries(), staged() as report:
        found = sweeping.sweep(options, report=report, announce=note, command=command_line())
    pictured = _pictured(found, options.output)
    from lorarank.report.sweep import lay, to_json

    click.echo(rendered(found, kind, lay, to_json) + ("" if kind == "json" else pictured), nl=False)


def _pictured(found: sweeping.Sweep, folder: Path) -> str:
    """Draw the curve, and say where it is."""
    if importlib.util.find_spec("matplotlib") is None:
        return (
            f"\nIn {folder / sweeping.SWEEP}; for a picture: pip install 'lorarank[plot]' and the same command again.\n"
        )
    from lorarank.files import write_bytes
    from lorarank.report import figures

    write_bytes(folder / PICTURE, figures.loss_against_rank(found.outcome))
    return f"\nIn {folder / sweeping.SWEEP}, and as a picture in {folder / PICTURE}.\n"
