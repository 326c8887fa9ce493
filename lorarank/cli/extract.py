"""``lorarank extract`` (floor 5)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from lorarank.cli.parameter_types import PLACE, SOURCE, Choice
from lorarank.cli.terminal import command_line, rendered
from lorarank.resize.options import DTYPES


@click.command(epilog="Example: lorarank extract --base BASE TUNED -o my-lora --rank 32")
@click.argument("tuned", type=SOURCE)
@click.option(
    "--base",
    type=SOURCE,
    required=True,
    help="The model it was trained from: a folder, a safetensors file or a hub id.",
)
@click.option("-o", "--output", required=True, type=PLACE, help="Adapter folder; new or empty.")
@click.option("--rank", type=int, required=True, help="Rank of every module; alpha is the same.")
@click.option("--dtype", type=Choice(DTYPES), default=DTYPES[0], show_default=True, help="Of the factors.")
@click.option(
    "--format", "kind", type=Choice(("table", "json")), default="table", show_default=True, help="Of the report."
)
def command(tuned: str, base: str, output: Path, rank: int, dtype: str, kind: str) -> None:
    """Write the LoRA of a chosen rank that is nearest to a full fine-tune.

    Each linear layer gets the best rank-k part of W_tuned - W_base. `lorarank audit --base BASE TUNED` says which
    rank keeps how much of it. Embeddings, heads, norms and biases are left out, and the output says what that is worth.
    """
    from lorarank.cli.progress import counted
    from lorarank.fine_tune import extract
    from lorarank.report.fine_tune import extraction_json, lay_extraction

    with counted("matrices") as progress:
        done = extract(base, tuned, output, rank, dtype=dtype, progress=progress)
    click.echo(rendered(done, kind, lay_extraction, partial(extraction_json, command=command_line())), nl=False)
