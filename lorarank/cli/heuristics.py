"""``lorarank heuristics`` (floor 5)."""

from __future__ import annotations

from functools import partial

import click

from lorarank.cli.parameter_types import SOURCE, Choice
from lorarank.cli.terminal import command_line, rendered
from lorarank.heuristics import TASKS


@click.command(epilog="Example: lorarank heuristics --task domain --model gpt2 --data train.jsonl")
@click.option("--task", type=Choice(list(TASKS)), help="Show this row alone.")
@click.option("--model", type=SOURCE, help="Folder or hub id: what ranks cost on it. Only shapes are read.")
@click.option("--data", type=SOURCE, help="As for a probe: the rank that could learn it by heart; with --model.")
@click.option("--format", "kind", type=Choice(("table", "json", "markdown")), default="table", show_default=True)
def command(task: str | None, model: str | None, data: str | None, kind: str) -> None:
    """Show the reference table of ranks, and a first guess for a model and data.

    The guess is the table's start or, where that is larger, the rank that could learn the data by heart. It needs no
    GPU and no training, and measures nothing: `lorarank probe` does.
    """
    from lorarank.first_guess import first_guess
    from lorarank.report import reference

    guess = first_guess(task, model, data)
    to_json = partial(reference.to_json, command=command_line())
    click.echo(rendered(guess, kind, reference.lay, to_json), nl=False)
