"""The options of every command that estimates (floor 5)."""

from __future__ import annotations

from collections.abc import Callable

import click

from lorarank.choices import METRICS
from lorarank.cli.parameter_types import Choice
from lorarank.cli.together import Command, together
from lorarank.estimate.options import EstimateOptions
from lorarank.heuristics import TASKS

may_lose = click.option(
    "--keep-loss",
    type=float,
    default=EstimateOptions.keep_loss,
    show_default=True,
    help="The share of the gain that the rank may lose at most.",
)
"""Of commands that say which rank suffices."""

trained_for = click.option(
    "--tokens",
    type=int,
    default=EstimateOptions.tokens,
    help="How many tokens your real training will take [default: the probe's]; matters only where the data are facts "
    "to recall.",
)
"""Of commands that answer from a probe."""


def estimates(task: str) -> Callable[[Command], Command]:
    """Add them to a command, with the defaults of :class:`EstimateOptions`; ``task`` is the help of ``--task``."""
    return together(
        click.option(
            "--energy",
            type=float,
            default=EstimateOptions.energy,
            help="Use the plain rule instead: the rank that keeps this share of the energy [default for runs without "
            "a companion: 0.90].",
        ),
        may_lose,
        click.option(
            "--metric",
            type=Choice(METRICS),
            default=EstimateOptions.metric,
            show_default=True,
            help="In which metric singular values are taken.",
        ),
        click.option("--task", type=Choice(list(TASKS)), default=EstimateOptions.task, help=task),
        click.option(
            "--budget",
            type=int,
            default=EstimateOptions.budget,
            metavar="PARAMS",
            help="Most trainable parameters: a rank for each module within them.",
        ),
        trained_for,
    )
