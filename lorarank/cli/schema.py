"""``lorarank schema`` (floor 5): what ``--format json`` prints, as JSON Schema."""

from __future__ import annotations

import re
from pathlib import Path

import click

from lorarank.cli.parameter_types import Choice

FOLDER = Path(__file__).resolve().parent.parent / "schemas"


def schemas() -> dict[str, Path]:
    """Name → the newest version of its schema.

    >>> list(schemas())[:3]
    ['audit', 'compare', 'diagnose']
    """
    files = {path.name: path for path in FOLDER.iterdir()}
    versions = sorted((m[1], int(m[2]), m[0]) for name in files if (m := re.fullmatch(r"(.+)-(\d+)\.json", name)))
    return {name: files[file] for name, _, file in versions}


@click.command(epilog="Example: lorarank schema estimate > estimate-1.json")
@click.argument("name", required=False, type=Choice(list(schemas())), metavar="[NAME]")
def command(name: str | None) -> None:
    """Print the JSON Schema of what a command prints with --format json.

    Without NAME, the names there are. Its version is the key "schema" of the output: a new key keeps it; one that goes,
    or changes its type or meaning, raises it. resize is convert's too, and fine-tune is that of audit --base.
    """
    found = schemas()
    click.echo("\n".join(found) if name is None else found[name].read_text(encoding="utf-8").rstrip("\n"))
