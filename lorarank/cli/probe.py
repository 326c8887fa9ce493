"""``lorarank probe`` (floor 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

import lorarank.probe as probing
from lorarank.cli.parameter_types import SOURCE, Choice
from lorarank.cli.progress import staged
from lorarank.cli.terminal import command_line
from lorarank.cli.training_options import trains
from lorarank.cli.voice import note, quiet_libraries, speaks
from lorarank.errors import OptionError
from lorarank.probe.options import COMPANION_RANK, ProbeOptions
from lorarank.report.plan import plan_text

if TYPE_CHECKING:
    from lorarank.runs import Run


def _rate(_context: click.Context, _option: click.Parameter, value: str) -> float | None:
    """``auto`` or a number."""
    if value == "auto":
        return None
    try:
        return float(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is neither auto nor a number") from None


@click.command(
    epilog="Example: lorarank probe HuggingFaceTB/SmolLM2-135M --data train.jsonl -o run && lorarank estimate run"
)
@click.argument("model", type=SOURCE)
@trains(ProbeOptions, output="Run folder; new or empty.")
@click.option(
    "--rank",
    default=ProbeOptions.rank,
    show_default=True,
    help="R, the probe's rank: at least twice the rank you expect.",
)
@click.option(
    "--minutes", type=float, default=ProbeOptions.minutes, help="Wall time for everything, instead of --tokens."
)
@click.option(
    "--replicates",
    default=ProbeOptions.replicates,
    show_default=True,
    help="Probes on disjoint parts of the data, from the same start.",
)
@click.option(
    "--companion/--no-companion",
    default=ProbeOptions.companion,
    show_default=True,
    help=f"Train once more at r = {COMPANION_RANK}: what that loses is half of what the recommended rank rests on.",
)
@click.option(
    "--lr",
    default="auto",
    show_default=True,
    callback=_rate,
    help="Learning rate; auto searches with at most a fifth of the budget.",
)
@click.option("--report-to", multiple=True, help="A logger of transformers' Trainer, e.g. tensorboard; repeatable.")
@click.option("--resume", is_flag=True, help="Go on with the unfinished run in the output folder.")
@click.option("--dry-run", is_flag=True, help="Say what it would do: parameters, tokens, memory, time. Writes nothing.")
@click.option(
    "--format", "kind", type=Choice(("text", "json")), default="text", show_default=True, help="Of what it found."
)
def command(dry_run: bool, kind: str, **given: Any) -> None:
    """Fine-tune MODEL briefly at high rank on your data, and measure what the update needs.

    MODEL is a folder or a hub id (owner/name[@revision]). The run folder is read by `lorarank estimate`. Ctrl-C is
    safe at any moment: the same command with --resume goes on and ends with the same numbers.
    """
    options = ProbeOptions(**given)
    if dry_run:
        if kind == "json":
            raise OptionError("--format json", "a dry run finds nothing", do="leave it out, or leave --dry-run out")
        with quiet_libraries():
            text = plan_text(probing.plan(options))
        if speaks():
            click.echo(text)
        return
    run = run_probe(options)
    if not speaks():
        return
    if kind == "json":
        from lorarank.report.probed import to_json

        click.echo(to_json(run), nl=False)
    else:
        click.echo(f"Probe finished. Read it with: lorarank estimate {options.output}")


def run_probe(options: ProbeOptions) -> Run:
    """The probe with its plan and progress on stderr."""
    with quiet_libraries(), staged() as report:
        return probing.probe(
            options,
            report=report,
            announce=lambda plan: note(plan_text(plan)),
            command=command_line(),
        )
