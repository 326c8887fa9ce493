"""``lorarank diagnose`` (floor 5)."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from lorarank.cli.parameter_types import PLACE, SOURCE, Choice
from lorarank.cli.terminal import command_line, rendered
from lorarank.diagnose.options import DiagnoseOptions

FORMATS = ("table", "json", "markdown")


@click.command(
    epilog="Example: lorarank diagnose output/checkpoint-500 --sweep sweep\n\n"
    "Exit codes: 0 a verdict, also where it is that nothing can be told; 2 bad input."
)
@click.argument("source", type=SOURCE, metavar="SOURCE")
@click.option(
    "--sweep",
    type=PLACE,
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
    from lorarank.report import diagnosed

    found = diagnose(source, DiagnoseOptions(**given))
    to_json = partial(diagnosed.to_json, command=command_line())
    click.echo(rendered(found, kind, diagnosed.lay, to_json), nl=False)
