"""What a resize and a conversion have in common: their options, and how they say what they did (floor 5)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from lorarank.choices import FORMATS
from lorarank.cli.parameter_types import PLACE, SOURCE, Choice
from lorarank.cli.terminal import rendered
from lorarank.cli.together import together
from lorarank.resize.options import DTYPES, ConvertOptions

if TYPE_CHECKING:
    from lorarank.resize import Resized

REPORTS = ("table", "json", "markdown", "csv")

converts = together(
    click.option(
        "-o",
        "--output",
        required=True,
        type=PLACE,
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
"""Adds them to a command."""


def told(done: Resized, kind: str, all_modules: bool) -> str:
    """The result in one of :data:`REPORTS`."""
    from lorarank.report import resized

    lay = partial(resized.lay, all_modules=all_modules or kind == "markdown")
    return rendered(done, kind, lay, resized.to_json, resized.rows)
