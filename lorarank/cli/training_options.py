"""The options that every command that trains has in common (floor 5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from lorarank.cli.parameter_types import PLACE, SOURCE
from lorarank.cli.together import Command, together
from lorarank.probe.options import DEFAULT_TOKENS

if TYPE_CHECKING:
    from lorarank.probe.options import ProbeOptions
    from lorarank.sweep.options import SweepOptions


def trains(options: type[ProbeOptions | SweepOptions], output: str) -> Callable[[Command], Command]:
    """Add them to a command, with the defaults of ``options``; ``output`` is the help of ``--output``."""
    return together(
        click.option(
            "--data",
            type=SOURCE,
            required=True,
            help="JSONL, JSON, CSV, Parquet or a hub dataset id: text, prompt + completion, or messages.",
        ),
        click.option("-o", "--output", required=True, type=PLACE, help=output),
        click.option(
            "--val",
            type=SOURCE,
            default=options.val,
            help="Held-out data. Without it a tenth of --data is set aside.",
        ),
        click.option(
            "--tokens",
            type=int,
            default=options.tokens,
            help=f"Training tokens of each adapter [default: {DEFAULT_TOKENS:,}].",
        ),
        click.option("--alpha", default=options.alpha, show_default=True, help="lora_alpha, whatever the rank."),
        click.option(
            "--target",
            default=options.target,
            show_default=True,
            help="all-linear, attention, qv, or names separated by commas.",
        ),
        click.option(
            "--batch-tokens", type=int, default=options.batch_tokens, help="Tokens per step [default: by --tokens]."
        ),
        click.option(
            "--row-length", type=int, default=options.row_length, help="Tokens per row [default: by the data]."
        ),
        click.option("--load-in-4bit", is_flag=True, help="QLoRA base: nf4, double quantisation, bf16 compute."),
        click.option("--gradient-checkpointing", is_flag=True, help="Less memory, more time."),
        click.option("--seed", default=options.seed, show_default=True, help="Seed of order and initialisation."),
        click.option("--device", default=options.device, show_default=True, help="auto, cpu, cuda, cuda:1, mps …"),
        click.option(
            "--checkpoint-seconds",
            default=options.checkpoint_seconds,
            show_default=True,
            help="Least time between checkpoints.",
        ),
    )
