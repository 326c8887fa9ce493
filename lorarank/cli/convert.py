"""``lorarank convert`` (floor 5)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lorarank.cli.convert_options import converts, told
from lorarank.cli.parameter_types import SOURCE
from lorarank.cli.terminal import command_line
from lorarank.resize.options import ConvertOptions


@click.command(epilog="Example: lorarank convert unet-lora -o unet-lora-kohya --to kohya")
@click.argument("source", type=SOURCE, metavar="IN")
@converts
def command(source: str, output: Path, kind: str, all_modules: bool, **given: Any) -> None:
    """Write an adapter in another format, dtype or scaling; its update stays what it is.

    IN is an adapter (a folder, a file or a hub id), or the folder `lorarank probe` made. IN is only read.
    """
    from lorarank.resize import convert

    done = convert(source, output, ConvertOptions(**given), command=command_line())
    click.echo(told(done, kind, all_modules), nl=False)
