"""``lorarank audit`` (floor 5)."""

from __future__ import annotations

import gc
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorarank.audit.options import AuditOptions, shares
from lorarank.cli.parameter_types import PLACE, SOURCE, Choice
from lorarank.cli.ray_option import OnCluster, on_cluster
from lorarank.cli.terminal import command_line, rendered, sheet
from lorarank.errors import EXIT_BAD_INPUT, EXIT_CHECK_FAILED, EXIT_OK, AdapterError, OptionError, SourceError

if TYPE_CHECKING:
    from lorarank.audit import AuditReport

FORMATS = ("table", "json", "markdown", "csv", "sarif")

MOST_PROCESSES = 4
"""Of a single adapter, where --jobs does not say: the rest of the machine is others'."""


def _shares(_context: click.Context, _option: click.Parameter, value: str) -> tuple[float, ...]:
    return shares(value)


@click.command(
    cls=OnCluster,
    epilog="Example: lorarank audit my-lora --fail-if 'dead > 0 or LR003 > 3'\n\n"
    "Thousands: lorarank audit 'adapters/**' --jobs 4 -o results.parquet\n\n"
    "Exit codes: 0 audited, 2 bad input or a source that cannot be read (with -o such a source is a row), "
    "4 --fail-if holds.",
)
@click.argument("sources", type=SOURCE, metavar="SOURCE...", nargs=-1, required=True)
@click.option(
    "--energy",
    default=",".join(f"{share:g}" for share in AuditOptions.energy),
    show_default=True,
    metavar="SHARES",
    callback=_shares,
    help="Shares of energy whose ranks are told; the first is that of the keep rank.",
)
@click.option("--per-module", is_flag=True, help="Add the table of all modules.")
@click.option("--sort", "by_size", is_flag=True, help="The table of modules, largest update first.")
@click.option(
    "--served-rank",
    default=AuditOptions.served_rank,
    show_default=True,
    metavar="RANK",
    help="Largest rank that the serving engine takes; vLLM's --max-lora-rank.",
)
@click.option(
    "--fail-if",
    default=AuditOptions.fail_if,
    metavar="EXPR",
    help="Exit with 4 where it holds of a source: codes, their names, and quantities, with and, or, not; "
    "`lorarank help findings` lists them.",
)
@click.option(
    "--format", "kind", type=Choice(FORMATS), default="table", show_default=True, help="csv has a row a module."
)
@click.option(
    "-o",
    "--output",
    type=PLACE,
    help="A row an adapter into this .parquet, .csv or .jsonl as they come; adapters already there are skipped.",
)
@click.option("--base", type=SOURCE, help="SOURCE is a full fine-tune of this model: the spectrum of what it changed.")
@click.option("--jobs", type=int, metavar="N", help="Processes; by default 1, for one large adapter up to 4.")
@on_cluster("Work on a Ray cluster that sees the same files; without an address, on this machine. Extra: ray.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    sources: tuple[str, ...],
    per_module: bool,
    by_size: bool,
    kind: str,
    output: Path | None,
    jobs: int | None,
    ray: str | None,
    base: str | None,
    energy: tuple[float, ...],
    served_rank: int,
    fail_if: str | None,
) -> None:
    """Say which rank each module of an adapter really uses, and what is wrong with it.

    SOURCE is a folder, a file, a hub id (owner/name[@revision]), a quoted pattern such as 'adapters/**', or a folder
    of adapters. Several checkpoints of one run, in order, are compared. It describes: it never says which rank to
    train at.
    """
    from lorarank.audit.expand import expand, matched
    from lorarank.forked import cores

    options = AuditOptions(energy=energy, served_rank=served_rank, fail_if=fail_if)
    if output is not None and (kind != "table" or per_module or by_size):
        raise OptionError(
            f"-o {output}",
            "holds a row an adapter, in the format that its name says",
            do="leave out --format, --per-module and --sort, or send their report to a file with >",
        )
    found = expand(sources) if base is None else matched(sources)
    if len(found) > 1:
        gc.enable()  # what one leaves is small, what thousands leave is not
    if output is None and base is not None:
        ctx.exit(_fine_tune(base, found, options, kind, per_module or by_size, by_size))
    if output is not None:
        ctx.exit(_to_table(found, output, options, 1 if jobs is None else jobs, ray, base))
    if jobs is None:
        jobs = min(cores(), MOST_PROCESSES) if len(found) == 1 else 1
    report = _report(found, options, jobs, ray, any_source=kind == "sarif")
    click.echo(_written(report, kind, per_module or by_size, by_size), nl=False)
    ctx.exit(EXIT_CHECK_FAILED if report.failed else EXIT_BAD_INPUT if report.unreadable else EXIT_OK)


def _report(sources: list[str], options: AuditOptions, jobs: int, ray: str | None, *, any_source: bool) -> AuditReport:
    """Audits of all sources, in their order; ``any_source``: a single one that cannot be read has a report as well."""
    from lorarank.audit import audit_all
    from lorarank.audit.several import report, unreadable
    from lorarank.cli.progress import counted

    try:
        with counted("modules" if len(sources) == 1 else "adapters") as progress:
            return audit_all(sources, options, jobs=jobs, ray=ray, progress=progress)
    except (SourceError, AdapterError) as error:
        if not any_source:
            raise
        return report([unreadable(sources[0], str(error))], options)


def _to_table(
    sources: list[str], output: Path, options: AuditOptions, jobs: int, ray: str | None, base: str | None
) -> int:
    """Write one row per source into a table, and a summary to stdout; the exit code."""
    from lorarank.audit.many import audit_many
    from lorarank.audit.several import attempt
    from lorarank.cli.progress import counted
    from lorarank.fine_tune import attempt as attempt_fine_tune
    from lorarank.report.audit_summary import lay
    from lorarank.report.plain import laid_out

    measure = attempt if base is None else partial(attempt_fine_tune, base=base)
    with counted("adapters" if base is None else "fine-tunes") as progress:
        summary = audit_many(sources, output, options, measure=measure, jobs=jobs, ray=ray, progress=progress)
    click.echo(laid_out(sheet("table"), lay, summary), nl=False)
    return EXIT_CHECK_FAILED if summary.failed else EXIT_OK


def _written(report: AuditReport, kind: str, per_module: bool, by_size: bool) -> str:
    """The report in one of :data:`FORMATS`, of which each loads no more than it needs."""
    if kind == "json":
        from lorarank.report.audit_json import to_json

        return to_json(report, command=command_line(), per_module=per_module)
    if kind == "sarif":
        from lorarank.report.sarif import to_sarif

        return to_sarif(report)
    if kind == "csv":
        from lorarank.report.audit_rows import rows
        from lorarank.report.plain import as_csv

        return as_csv(rows(report))
    from lorarank.report.audit import lay
    from lorarank.report.plain import laid_out

    return laid_out(sheet(kind), lay, report, per_module=per_module, by_size=by_size)


def _fine_tune(base: str, sources: list[str], options: AuditOptions, kind: str, per_module: bool, by_size: bool) -> int:
    """A fine-tune against its base, in one of :data:`FORMATS` on stdout; the exit code."""
    from lorarank.audit.several import fails
    from lorarank.cli.progress import counted
    from lorarank.fine_tune import compare_models
    from lorarank.report import fine_tune as report

    if len(sources) != 1:
        raise OptionError("--base", "goes with one SOURCE", do="name one, or write a row for each with -o")
    with counted("matrices") as progress:
        found = compare_models(base, sources[0], options, progress=progress)
    failed = options.fail_if if fails(found, options) else None
    if kind == "sarif":
        text = report.to_sarif(found)
    else:
        lay = partial(report.lay, per_module=per_module, by_size=by_size, fail_if=failed)
        to_json = partial(report.to_json, command=command_line(), per_module=per_module)
        text = rendered(found, kind, lay, to_json, report.rows)
    click.echo(text, nl=False)
    return EXIT_CHECK_FAILED if failed else EXIT_OK
