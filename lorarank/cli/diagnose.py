"""``lorarank diagnose`` (floor 5)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lorarank.cli.parameter_types import SOURCE, Choice
from lorarank.cli.terminal import screen
from lorarank.diagnose.options import DiagnoseOptions

if TYPE_CHECKING:
    from lorarank.diagnose import Diagnosis

FORMATS = ("table", "json", "markdown")


@click.command(
    epilog="Example: lorarank diagnose output/checkpoint-500 --sweep sweep\n\n"
    "Exit codes: 0 a verdict, also where it is that nothing can be told; 2 bad input."
)
@click.argument("source", type=SOURCE, metavar="SOURCE")
@click.option(
    "--sweep",
    type=click.Path(path_type=Path),
    default=DiagnoseOptions.sweep,
    metavar="DIR",
    help="Folder of `lorarank sweep` on the same data: what other ranks reached.",
)
@click.option(
    "--rank",
    type=int,
    default=DiagnoseOptions.rank,
    metavar="R",
    help="Rank of the run, where no adapter beside the log says it.",
)
@click.option(
    "--validation",
    default=DiagnoseOptions.validation,
    metavar="NAME",
    help="Which validation loss, where several were logged [default: eval_loss].",
)
@click.option("--format", "kind", type=Choice(FORMATS), default="table", show_default=True, help="How to say it.")
def command(source: str, kind: str, **given: Any) -> None:
    """Say whether the rank of a training run was too low or too high, by its curves.

    SOURCE is the folder `lorarank probe` made; a trainer_state.json, a checkpoint or the folder of checkpoints of any
    transformers or TRL trainer; a log.jsonl; or a folder of TensorBoard (extra: tensorboard).
    """
    from lorarank.diagnose import diagnose

    click.echo(_rendered(diagnose(source, DiagnoseOptions(**given)), kind), nl=False)


def _rendered(found: Diagnosis, kind: str) -> str:
    """The diagnosis in one of :data:`FORMATS`."""
    from lorarank.report import diagnosed

    if kind == "json":
        return diagnosed.to_json(found, command=("lorarank", *sys.argv[1:]))
    if kind == "markdown":
        return diagnosed.to_markdown(found)
    return diagnosed.render(found, **screen())
