"""The reference table and a first guess, on a sheet, as JSON and as rows (floor 4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from lorarank.errors import printable
from lorarank.first_guess import FirstGuess
from lorarank.heuristics import (
    ALPHA_CONVENTIONS,
    LLAMA_TARGETS,
    QLORA_BASE,
    SOURCE,
    STARTING_ADVICE,
    TOO_HIGH,
    TOO_LOW,
    TaskRow,
)
from lorarank.report.json_text import as_json
from lorarank.report.plain import Grid, Records, Sheet, records
from lorarank.wording import percent


def headline(guess: FirstGuess) -> str:
    """The guess, or where the table comes from."""
    if guess.r is not None:
        return f"First guess, not measured: r = {guess.r}."
    if guess.task is not None:
        row = guess.rows[0]
        return f"Rule of thumb, not measured: {row.low}–{row.high} for {row.label} ({SOURCE})."
    return f"Rules of thumb, not measured ({SOURCE})."


def grids(guess: FirstGuess) -> list[Grid]:
    """The rows, and for a model what ranks cost on it and which modules it has."""
    rows = tuple((row.task, row.label, f"{row.low}–{row.high}", row.why) for row in guess.rows)
    found = [Grid("Ranks by task", ("task", "meaning", "r", "why"), (False, False, True, False), rows)]
    if guess.model is not None:
        model = guess.model
        costs = tuple((str(cost.r), f"{cost.parameters:,}", percent(cost.share, 2)) for cost in model.costs)
        title = f"Trainable parameters of LoRA on all linear layers of {printable(model.source)}"
        found.append(Grid(title, ("r", "parameters", "share of the model"), (True, True, True), costs))
        types = tuple(
            (printable(kind.type), f"{kind.modules:,}", f"{kind.parameters_per_rank:,}") for kind in model.types
        )
        title = f"Its linear layers, from {printable(model.basis)}"
        found.append(Grid(title, ("type", "modules", "parameters per unit of r"), (False, True, True), types))
    return found


def sections(guess: FirstGuess) -> list[tuple[str, tuple[str, ...]]]:
    """The reasons of a guess; else how to start."""
    if guess.data is not None:
        counted = (
            f"{guess.data.documents:,} documents, {guess.data.target_tokens:,} distinct target tokens, "
            f"{guess.data.counted}."
        )
        return [("How this came about", (*guess.sentences, counted))]
    alphas = ", ".join(f"{alpha.name} ({alpha.scaling})" for alpha in ALPHA_CONVENTIONS)
    targets = "; ".join(f"{name}: {', '.join(modules)}" for name, modules in LLAMA_TARGETS.items())
    return [
        ("How to start", STARTING_ADVICE),
        (
            "What goes with it",
            (
                f"lora_alpha: {alphas}; the first two are recommended.",
                f"Target modules, by the names of Llama-like models. {targets}.",
                "A QLoRA base: " + ", ".join(f"{name}={value!r}" for name, value in QLORA_BASE.items()) + ".",
            ),
        ),
        ("Too low looks like", tuple(f"{sign}." for sign in TOO_LOW)),
        ("Too high looks like", tuple(f"{sign}." for sign in TOO_HIGH)),
    ]


def lay(page: Sheet, guess: FirstGuess) -> None:
    """The answer, first."""
    page.head(headline(guess), good=False)
    first, *others = grids(guess)
    page.grid(first)
    for title, sentences in sections(guess):
        page.section(title, sentences)
    for grid in others:
        page.grid(grid)


def rows(guess: FirstGuess) -> Records:
    """One row per row of the table."""
    return records(TaskRow, guess.rows)


def to_json(guess: FirstGuess, *, command: Sequence[str] = ()) -> str:
    """As JSON with sorted keys; ``command`` is what was run."""
    return as_json(dataclasses.asdict(guess) | {"source": SOURCE, "measured": False, "command": list(command)})
