"""``lorarank resize`` (floor 5)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lorarank.choices import FORMATS, METRICS
from lorarank.cli.parameter_types import SOURCE, Choice
from lorarank.cli.terminal import screen
from lorarank.cli.together import together
from lorarank.resize.options import DTYPES, ConvertOptions, ResizeOptions

if TYPE_CHECKING:
    from lorarank.resize import Resized

REPORTS = ("table", "json", "markdown", "csv")

form_options = together(
    click.option(
        "-o",
        "--output",
        required=True,
        type=click.Path(path_type=Path),
        help="Folder, new or empty; or a new .safetensors file.",
    ),
    click.option(
        "--to",
        type=Choice(FORMATS),
        default=ConvertOptions.to,
        help="Write this format [default: the input's].",
    ),
    click.option(
        "--base",
        type=SOURCE,
        default=ConvertOptions.base,
        metavar="MODEL",
        help="With --to: the model it is for, where its names do not tell; no weights are read.",
    ),
    click.option(
        "--dtype",
        type=Choice(DTYPES),
        default=ConvertOptions.dtype,
        help="Store factors as this [default: as they are].",
    ),
    click.option(
        "--bake-alpha",
        is_flag=True,
        default=ConvertOptions.bake_alpha,
        help="Multiply the scaling into the factors: alpha = r.",
    ),
    click.option("--modules", "all_modules", is_flag=True, help="List all modules, not only those that lose most."),
    click.option(
        "--format",
        "kind",
        type=Choice(REPORTS),
        default="table",
        show_default=True,
        help="Of the report.",
    ),
)
"""The options that a resize and a conversion share."""


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
@form_options
def command(source: str, output: Path, kind: str, all_modules: bool, **given: Any) -> None:
    """Cut an adapter to a smaller rank, and say what that drops.

    IN is an adapter (a folder, a file or a hub id), or the folder `lorarank probe` made. Give exactly one of --rank,
    --energy, --params, --threshold-global and --keep-loss. IN is only read; whatever in it is no LoRA factor is copied.
    """
    from lorarank.resize import resize

    done = resize(source, output, ResizeOptions(**given), command=("lorarank", *sys.argv[1:]))
    click.echo(rendered(done, kind, all_modules), nl=False)


def rendered(done: Resized, kind: str, all_modules: bool) -> str:
    """The result in one of :data:`REPORTS`."""
    from lorarank.report import resized

    if kind == "json":
        return resized.to_json(done)
    if kind == "markdown":
        return resized.to_markdown(done)
    if kind == "csv":
        return resized.to_csv(done)
    return resized.render(done, **screen(), all_modules=all_modules)
