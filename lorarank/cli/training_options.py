"""The options that every command that trains has in common (floor 5)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from lorarank.cli.parameter_types import SOURCE
from lorarank.cli.together import Command, together
from lorarank.probe.options import DEFAULT_TOKENS


def defaults_of(options: type) -> Mapping[str, Any]:
    """Field → default of an options dataclass: the one place where a default is written.

    >>> from lorarank.probe.options import ProbeOptions
    >>> defaults_of(ProbeOptions)["rank"]
    64
    """
    return {field.name: field.default for field in dataclasses.fields(options)}


def trains(options: type, output: str) -> Callable[[Command], Command]:
    """Add them to a command, with the defaults of ``options``; ``output`` is the help of ``--output``."""
    default = defaults_of(options)
    return together(
        click.option(
            "--data",
            type=SOURCE,
            required=True,
            help="JSONL, JSON, CSV, Parquet or a hub dataset id: text, prompt + completion, or messages.",
        ),
        click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help=output),
        click.option(
            "--val",
            type=SOURCE,
            default=default["val"],
            help="Held-out data. Without it a tenth of --data is set aside.",
        ),
        click.option(
            "--tokens",
            type=int,
            default=default["tokens"],
            help=f"Training tokens of each adapter [default: {DEFAULT_TOKENS:,}].",
        ),
        click.option("--alpha", default=default["alpha"], show_default=True, help="lora_alpha, whatever the rank."),
        click.option(
            "--target",
            default=default["target"],
            show_default=True,
            help="all-linear, attention, qv, or names separated by commas.",
        ),
        click.option(
            "--batch-tokens", type=int, default=default["batch_tokens"], help="Tokens per step [default: by --tokens]."
        ),
        click.option(
            "--row-length", type=int, default=default["row_length"], help="Tokens per row [default: by the data]."
        ),
        click.option("--load-in-4bit", is_flag=True, help="QLoRA base: nf4, double quantisation, bf16 compute."),
        click.option("--gradient-checkpointing", is_flag=True, help="Less memory, more time."),
        click.option("--seed", default=default["seed"], show_default=True, help="Seed of order and initialisation."),
        click.option("--device", default=default["device"], show_default=True, help="auto, cpu, cuda, cuda:1, mps …"),
        click.option(
            "--checkpoint-seconds",
            default=default["checkpoint_seconds"],
            show_default=True,
            help="Least time between checkpoints.",
        ),
    )
