"""What a table of many audits came to, on a sheet (floor 4)."""

from __future__ import annotations

from lorarank.audit.codes import CODES
from lorarank.audit.many import Summary
from lorarank.errors import printable
from lorarank.report.plain import Grid, Sheet
from lorarank.wording import first_few, percent

MOST_NAMED = 3
"""Sources that a check names before it counts the rest."""


def lay(page: Sheet, summary: Summary) -> None:
    """Totals, the keep ranks, and the findings by code."""
    new = summary.sources - summary.earlier
    page.head(
        f"{summary.sources:,} row{'' if summary.sources == 1 else 's'} in {printable(summary.output)}.",
        good=not summary.failed,
    )
    done = f"{new:,} source{'' if new == 1 else 's'}"
    rate = f", {new / summary.seconds:,.1f} a second" if new and summary.seconds > 0 else ""
    facts = [
        ("this run", f"{done} in {summary.seconds:,.1f} s{rate}; {summary.earlier:,} were there"),
        ("unreadable", f"{summary.unreadable:,}"),
    ]
    readable = summary.sources - summary.unreadable
    if summary.fine_tunes < readable or not readable:
        facts += [
            ("parameters", f"{summary.parameters:,} of LoRA factors"),
            ("reducible", f"{percent(summary.reducible, 1)} of them, by energy alone"),
            ("idle", f"{percent(summary.idle, 1)} of them do nothing"),
        ]
    page.facts(facts)
    if summary.failed:
        named = first_few(summary.named, MOST_NAMED, 80, count=summary.failed)
        page.section("Check", [f"--fail-if {printable(summary.fail_if)!r} holds for {named}."])
    if summary.ranks:
        rows = tuple((str(rank), f"{count:,}") for rank, count in summary.ranks.items())
        sources = {0: "adapters", readable: "fine-tunes"}.get(summary.fine_tunes, "sources")
        page.folded(Grid("Keep ranks", ("rank", sources), (True, True), rows))
    if summary.codes:
        found = tuple((code, CODES[code].name, f"{count:,}") for code, count in summary.codes.items())
        page.grid(Grid("Findings", ("code", "name", "sources"), (False, False, True), found))
