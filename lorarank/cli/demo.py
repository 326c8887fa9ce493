"""``lorarank demo`` (floor 5): the two commands on the model and data that come with the package."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import click

from lorarank.cli.estimate import command as estimate
from lorarank.cli.parameter_types import PLACE
from lorarank.cli.probe import run_probe
from lorarank.errors import SourceError
from lorarank.probe.options import ProbeOptions

RANK, TOKENS = 32, 65_536
"""R and training tokens of the demo: under two minutes on two cores."""


def demo_folder() -> Path:
    """The embedded model and data: inside the installed package, or beside it in a checkout.

    Raises
    ------
    SourceError
        Neither is there.
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "_demo", package.parent / "data" / "demo"):
        if (folder / "model" / "config.json").is_file():
            return folder
    raise SourceError(package, "the demo's model and data are missing", do="install lorarank again")


@click.command(epilog="Example: lorarank demo")
@click.pass_context
@click.option("-o", "--output", type=PLACE, help="Keep the run here [default: a temporary folder].")
def command(context: click.Context, output: Path | None) -> None:
    """Probe and estimate on a tiny embedded model and task: about a minute, no download."""
    here = demo_folder()
    temporary = Path(tempfile.mkdtemp(prefix="lorarank-demo-")) if output is None else None
    run = output or temporary / "run"  # type: ignore[operator]
    model, data, val = (str(here / name) for name in ("model", "train.jsonl", "val.jsonl"))
    options = ProbeOptions(model, data, run, val=val, rank=RANK, tokens=TOKENS)
    try:
        run_probe(options)
        code = estimate.main([str(run)], standalone_mode=False)
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    context.exit(code or 0)
