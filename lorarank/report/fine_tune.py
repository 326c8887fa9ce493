"""What a full fine-tune changed, and what a LoRA from it holds, for a terminal, Markdown, JSON and CSV (floor 4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from lorarank.errors import printable
from lorarank.fine_tune import Extraction, FineTune, MatrixUpdate
from lorarank.fine_tune.extract import Kept
from lorarank.numerics.allocation import weighted_quantile
from lorarank.report.audit_grids import common_path, scientific, sparkline, within
from lorarank.report.page import Page
from lorarank.report.plain import Grid, Records, Sheet, as_csv, as_json, escaped, grid_to_markdown, records
from lorarank.wording import percent

HEADINGS = ("shape", "‖ΔW‖", "of ‖W‖", "σ₁")


def headline(found: FineTune) -> str:
    """What changed, in one sentence."""
    if not found.updates:
        return "Nothing changed: every matrix is that of the base."
    ranks = _ranks(found, found.updates)[0]
    return (
        f"{len(found.updates):,} of {len(found.updates) + found.unchanged:,} matrices changed; "
        f"{percent(found.energy[0])} of the change takes {ranks} directions in the median matrix."
    )


def facts(found: FineTune) -> list[tuple[str, str]]:
    """The figures, as label and text."""
    computed = max((len(update.singular_values) for update in found.updates), default=0)
    error = max((u.error / u.sigma_1 for u in found.updates if u.sigma_1 > 0), default=0.0)
    return [
        ("base", printable(found.base)),
        ("fine-tune", printable(found.tuned)),
        ("change", f"‖ΔW‖ = {scientific(found.norm)} over all matrices"),
        (
            "beside",
            f"{found.vectors:,} norms and biases changed, ‖·‖ = {scientific(found.vector_norm)}; no LoRA has them",
        ),
        ("computed", f"{computed} leading directions a matrix, σ within {error:.1e}·σ₁; ‖ΔW‖ is exact"),
        ("not told", "the rank a task needs: full training was free to use more (lorarank probe measures that)"),
    ]


def grids(found: FineTune, *, per_module: bool = False, by_size: bool = False) -> list[Grid]:
    """Types, and every matrix where asked for."""
    if not found.updates:
        return []
    types: dict[str, list[MatrixUpdate]] = {}
    for update in found.updates:
        types.setdefault(update.type, []).append(update)
    shares = [percent(share) for share in found.energy]
    rows = []
    for kind, updates in sorted(types.items(), key=lambda pair: -sum(u.norm**2 for u in pair[1])):
        energy = sum(update.norm**2 for update in updates) / found.norm**2 if found.norm else 0.0
        rows.append((printable(kind, 80), f"{len(updates):,}", percent(energy, 1), *_ranks(found, updates)))
    headings = ("type", "matrices", "change", *shares)
    tables = [
        Grid("Directions by type, in the median matrix", headings, (False, *[True] * (2 + len(shares))), tuple(rows))
    ]
    if per_module:
        tables.append(_module_grid(found, shares, by_size))
    return tables


def _module_grid(found: FineTune, shares: Sequence[str], by_size: bool) -> Grid:
    updates = sorted(found.updates, key=lambda one: -one.norm) if by_size else found.updates
    start = len(common_path([update.name for update in updates]))
    rows = tuple(
        (
            printable(one.name[start:]),
            f"{one.out_features}×{one.in_features}",
            scientific(one.norm),
            percent(one.relative, 2),
            scientific(one.sigma_1),
            *(_rank(one, index) for index in range(len(shares))),
            f"{one.stable_rank:.1f}",
            sparkline(one.singular_values) or printable(one.problem, 80),
        )
        for one in updates
    )
    headings = ("matrix", *HEADINGS, *shares, "stable", "spectrum")
    numeric = (False, *[True] * (len(headings) - 2), False)
    return Grid(within("Matrices", [update.name for update in updates]), headings, numeric, rows)


def _rank(update: MatrixUpdate, index: int) -> str:
    if update.problem:
        return ""
    rank = update.energy_ranks[index]
    return f">{len(update.singular_values)}" if rank is None else str(rank)


def _ranks(found: FineTune, updates: Sequence[MatrixUpdate]) -> list[str]:
    """Energy-weighted median ranks; ">64" where that many directions do not hold the share."""
    known = [update for update in updates if update.norm > 0]
    if not known:
        return ["" for _ in found.energy]
    weights = np.square(np.array([update.norm for update in known]) / max(update.norm for update in known))
    texts = []
    for index in range(len(found.energy)):
        beyond = 1 + max(len(update.singular_values) for update in known)
        ranks = [beyond if (rank := update.energy_ranks[index]) is None else rank for update in known]
        median = weighted_quantile(ranks, weights, 0.5)
        texts.append(f">{beyond - 1}" if median == beyond else f"{median:g}")
    return texts


def lay(page: Sheet, found: FineTune, *, per_module: bool = False, by_size: bool = False) -> None:
    """What changed, then the figures and tables."""
    page.head(headline(found), good=not found.skipped)
    page.facts(facts(found))
    problems = [f"{update.name}: {update.problem}." for update in found.updates if update.problem]
    for title, lines in (("Not measured", problems), ("Not compared", found.skipped)):
        if lines:
            page.section(title, [printable(line, 500) for line in lines])
    for grid in grids(found, per_module=per_module, by_size=by_size):
        page.grid(grid)


def render(
    found: FineTune, *, width: int = 100, colour: bool = False, per_module: bool = False, by_size: bool = False
) -> str:
    """The same for a terminal, in so many columns."""
    page = Page(width, colour)
    lay(page, found, per_module=per_module, by_size=by_size)
    return page.text()


def to_markdown(found: FineTune, *, per_module: bool = False, by_size: bool = False) -> str:
    """The same as Markdown."""
    parts = [f"**{escaped(headline(found))}**"]
    parts.append("\n".join(f"- **{escaped(label)}:** {escaped(text)}" for label, text in facts(found)))
    for grid in grids(found, per_module=per_module, by_size=by_size):
        parts += [f"### {escaped(grid.title)}", grid_to_markdown(grid)]
    return "\n\n".join(parts) + "\n"


def to_json(found: FineTune, *, command: Sequence[str] = (), per_module: bool = False) -> str:
    """Everything as JSON; ``per_module`` keeps the singular values of every matrix."""
    plain = dataclasses.asdict(found) | {"command": list(command)}
    for update in plain["updates"] if not per_module else ():
        del update["singular_values"]
    return as_json(plain)


def rows(found: FineTune) -> Records:
    """A row a matrix that changed."""
    names = [f.name for f in dataclasses.fields(MatrixUpdate) if f.name not in ("energy_ranks", "singular_values")]
    unknown = (None,) * len(found.energy)
    return Records(
        (*names, *(f"energy_rank_{share:g}" for share in found.energy)),
        tuple((*(getattr(one, name) for name in names), *(one.energy_ranks or unknown)) for one in found.updates),
    )


def to_csv(found: FineTune) -> str:
    """:func:`rows` as CSV."""
    return as_csv(rows(found))


def lay_extraction(page: Sheet, done: Extraction) -> None:
    """What a LoRA from a fine-tune holds of it."""
    page.head(f"Wrote {printable(done.output)}: r = {done.rank} on {len(done.modules):,} linear layers.", good=True)
    worst = min(done.modules, key=lambda one: one.kept)
    padded = f" ({done.padded:,} layers are smaller than that; their factors end in zeros)" if done.padded else ""
    page.facts(
        [
            ("parameters", f"{done.parameters:,}{padded}"),
            (
                "kept",
                f"{percent(done.kept, 1)} of ‖ΔW‖² of these layers; least, {percent(worst.kept, 1)}, in "
                f"{printable(worst.name)}",
            ),
            ("left out", f"{percent(done.left_out, 1)} of all change is in embeddings, heads, norms and biases"),
            ("not told", "what the cut costs in loss: measure it on held-out text"),
        ]
    )


def extraction_json(done: Extraction, *, command: Sequence[str] = ()) -> str:
    """Everything as JSON with sorted keys; ``command`` is what was run."""
    return as_json(dataclasses.asdict(done) | {"output": str(done.output), "command": list(command)})


def extraction_rows(done: Extraction) -> Records:
    """A row a layer: the fields of :class:`~lorarank.fine_tune.extract.Kept`."""
    return records(Kept, done.modules)


def extraction_text(done: Extraction, *, width: int = 100, colour: bool = False) -> str:
    """The same for a terminal, in so many columns."""
    page = Page(width, colour)
    lay_extraction(page, done)
    return page.text()
