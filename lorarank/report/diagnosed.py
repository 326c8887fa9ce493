"""A diagnosis on a sheet, as JSON and as rows (floor 4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from lorarank.diagnose.result import CANNOT_TELL, FINE, Diagnosis
from lorarank.errors import printable
from lorarank.report.json_text import as_json
from lorarank.report.plain import Records, Sheet

LONGEST = 2000
"""Characters of a sentence."""


def headline(found: Diagnosis) -> str:
    """The verdict in one sentence."""
    rank = "The rank" if found.rank is None else f"r = {found.rank}"
    reason = printable(found.reason, LONGEST)
    if found.verdict == CANNOT_TELL:
        return f"Cannot tell whether {'the rank' if found.rank is None else rank} was right: {reason}."
    be = "may be" if found.confidence == "low" else "is"
    return f"{rank} {be} {found.verdict} (confidence {found.confidence}): {reason}."


def facts(found: Diagnosis) -> list[tuple[str, str]]:
    """What was read."""
    return [
        ("source", printable(found.source)),
        (
            "read",
            f"{found.kind}, {found.steps:,} steps: {found.losses:,} training, {found.evaluations:,} validation losses",
        ),
    ]


def sections(found: Diagnosis) -> list[tuple[str, list[str]]]:
    """Headed lists of sentences, without the empty ones."""
    signs = [f"{sign.name}, {sign.outcome}: {sign.sentence}" for sign in found.signs]
    lists = [("What to do next", list(found.next)), ("Signs", signs), ("Notes", list(found.notes))]
    return [(title, [printable(line, LONGEST) for line in lines]) for title, lines in lists if lines]


def lay(page: Sheet, found: Diagnosis) -> None:
    """The verdict, what to do next, and every sign with its numbers."""
    page.head(headline(found), good=found.verdict == FINE)
    page.facts(facts(found))
    for title, sentences in sections(found):
        page.section(title, sentences)


def rows(found: Diagnosis) -> Records:
    """One row per sign."""
    names = ("name", "speaks_for", "outcome", "seen", "sentence")
    return Records(names, tuple(tuple(getattr(sign, name) for name in names) for sign in found.signs))


def to_json(found: Diagnosis, *, command: Sequence[str] = ()) -> str:
    """Everything as JSON with sorted keys; numbers that are not finite are null."""
    return as_json(dataclasses.asdict(found) | {"command": list(command)})
