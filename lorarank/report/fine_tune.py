"""What a full fine-tune changed, and what a LoRA from it holds, on a sheet, as JSON and as rows (floor 4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from lorarank.audit.figures import norm_of
from lorarank.errors import printable
from lorarank.fine_tune import Extraction, FineTune, MatrixUpdate
from lorarank.fine_tune.extract import Kept
from lorarank.fine_tune.findings import outside
from lorarank.numerics.allocation import weighted_quantile
from lorarank.report.audit import finding_lines
from lorarank.report.audit_grids import common_path, scientific, sparkline, within
from lorarank.report.json_text import as_json
from lorarank.report.plain import Grid, Records, Sheet, records
from lorarank.report.sarif import run_of
from lorarank.wording import percent

HEADINGS = ("shape", "‖ΔW‖", "of ‖W‖", "σ₁")

ABOVE = "above rounding"

NEGLIGIBLE = 1e-4
"""Share of the change below which rounding alters no rank worth stating."""


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
    keeps = [
        (
            f"keep {percent(share)}",
            f"more than r = {computed} in every matrix" if k is None else f"r = {k} in every matrix that changed",
        )
        for share, k in zip(found.energy, found.keep, strict=True)
    ]
    error = max((u.error / u.sigma_1 for u in found.updates if u.sigma_1 > 0), default=0.0)
    return [
        ("base", printable(found.base)),
        ("fine-tune", printable(found.source)),
        *(("names", printable(note, 500)) for note in found.notes),
        ("change", f"‖ΔW‖ = {scientific(found.norm)} over all matrices"),
        *(keeps if found.updates else []),
        (
            "beside",
            f"{found.vectors:,} {'norm or bias' if found.vectors == 1 else 'norms and biases'} changed, "
            f"‖·‖ = {scientific(found.vector_norm)}; no LoRA has them",
        ),
        *([("rounding", _rounding(found))] if found.updates else []),
        ("computed", f"{computed} leading directions a matrix, σ within {error:.1e}·σ₁; ‖ΔW‖ is exact"),
        ("not told", "the rank a task needs: full training was free to use more (lorarank probe measures that)"),
    ]


def _rounding(found: FineTune) -> str:
    """What the stored dtype adds by itself, and the median ranks without it."""
    noise = norm_of(np.array([update.rounding for update in found.updates]))
    dtypes = " and ".join(dict.fromkeys(update.dtype for update in found.updates))
    share = (noise / found.norm) ** 2 if found.norm else 0.0
    text = f"storing it as {printable(dtypes)} makes about {percent(min(1.0, share), 2)} of the change by itself"
    if share < NEGLIGIBLE:
        return text
    ranks = ", ".join(_ranks(found, found.updates, "signal_ranks"))
    shares = ", ".join(percent(one) for one in found.energy)
    return f"{text}, in all directions; without it {shares} take {ranks} in the median matrix"


def sections(found: FineTune, fail_if: str | None = None) -> list[tuple[str, list[str]]]:
    """Headed lists of sentences, without the empty ones; ``fail_if`` is the expression where it holds."""
    check = [f"--fail-if {printable(fail_if)!r} holds."] if fail_if else []
    skipped = [printable(line, 500) for line in found.skipped]
    lists = [("Check", check), ("Findings", finding_lines(found.findings)), ("Not compared", skipped)]
    return [(title, lines) for title, lines in lists if lines]


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
        above = weighted_quantile([u.above for u in updates], np.array([u.norm**2 for u in updates]), 0.5)
        ranks = (*_ranks(found, updates), _at_most(round(above), updates))
        rows.append((printable(kind, 80), f"{len(updates):,}", percent(energy, 1), *ranks))
    headings = ("type", "matrices", "change", *shares, ABOVE)
    tables = [
        Grid("Directions by type, in the median matrix", headings, (False, *[True] * (3 + len(shares))), tuple(rows))
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
            "" if one.problem else _at_most(one.above, [one]),
            f"{one.stable_rank:.1f}",
            sparkline(one.singular_values) or printable(one.problem, 80),
        )
        for one in updates
    )
    headings = ("matrix", *HEADINGS, *shares, ABOVE, "stable", "spectrum")
    numeric = (False, *[True] * (len(headings) - 2), False)
    return Grid(within("Matrices", [update.name for update in updates]), headings, numeric, rows)


def _at_most(count: int, updates: Sequence[MatrixUpdate]) -> str:
    """A count of directions; with a sign where it is all that were computed."""
    computed = max((len(update.singular_values) for update in updates), default=0)
    full = all(min(update.out_features, update.in_features) <= computed for update in updates)
    return f"{count}" if count < computed or full else f"≥{count}"


def _rank(update: MatrixUpdate, index: int) -> str:
    if update.problem:
        return ""
    rank = update.energy_ranks[index]
    return f">{len(update.singular_values)}" if rank is None else str(rank)


def _ranks(found: FineTune, updates: Sequence[MatrixUpdate], which: str = "energy_ranks") -> list[str]:
    """Energy-weighted median ranks; ">64" where that many directions do not hold the share."""
    known = [update for update in updates if update.norm > 0]
    if not known:
        return ["" for _ in found.energy]
    weights = np.square(np.array([update.norm for update in known]) / max(update.norm for update in known))
    texts = []
    for index in range(len(found.energy)):
        beyond = 1 + max(len(update.singular_values) for update in known)
        ranks = [beyond if (rank := getattr(update, which)[index]) is None else rank for update in known]
        median = weighted_quantile(ranks, weights, 0.5)
        texts.append(f">{beyond - 1}" if median == beyond else f"{median:g}")
    return texts


def lay(
    page: Sheet,
    found: FineTune,
    *,
    per_module: bool = False,
    by_size: bool = False,
    fail_if: str | None = None,
) -> None:
    """What changed, then the figures and tables; ``fail_if`` is the expression where it holds."""
    page.head(headline(found), good=not (found.skipped or fail_if))
    page.facts(facts(found))
    for title, lines in sections(found, fail_if):
        page.section(title, lines)
    for grid in grids(found, per_module=per_module, by_size=by_size):
        page.grid(grid)


def to_json(found: FineTune, *, command: Sequence[str] = (), per_module: bool = False) -> str:
    """Everything as JSON; ``per_module`` keeps the singular values of every matrix."""
    plain = dataclasses.asdict(found) | {"command": list(command)}
    for update in plain["updates"] if not per_module else ():
        del update["singular_values"]
    return as_json(plain)


def rows(found: FineTune) -> Records:
    """One row per matrix that changed."""
    several = ("energy_ranks", "signal_ranks")
    names = [f.name for f in dataclasses.fields(MatrixUpdate) if f.name not in (*several, "singular_values")]
    ranks = [f"{kind.removesuffix('s')}_{share:.10g}" for kind in several for share in found.energy]
    unknown = (None,) * len(found.energy)
    return Records(
        (*names, *ranks),
        tuple(
            (
                *(getattr(one, name) for name in names),
                *(rank for kind in several for rank in getattr(one, kind) or unknown),
            )
            for one in found.updates
        ),
    )


def to_sarif(found: FineTune) -> str:
    """Its findings as SARIF."""
    return run_of([(finding, found.source) for finding in found.findings])


def lay_extraction(page: Sheet, done: Extraction) -> None:
    """What a LoRA from a fine-tune holds of it."""
    page.head(f"Wrote {printable(done.output)}: r = {done.rank} on {len(done.modules):,} linear layers.", good=True)
    worst = min(done.modules, key=lambda one: one.kept)
    smaller = "1 layer is smaller than that; its" if done.padded == 1 else f"{done.padded:,} layers are smaller; their"
    padded = f" ({smaller} factors end in zeros)" if done.padded else ""
    page.facts(
        [
            ("parameters", f"{done.parameters:,}{padded}"),
            (
                "kept",
                f"{percent(done.kept, 1)} of ‖ΔW‖² of these layers; least, {percent(worst.kept, 1)}, in "
                f"{printable(worst.name)}",
            ),
            ("left out", f"{percent(done.left_out, 1)} of all change is in {outside(done.outside)}"),
            *(("names", printable(note, 500)) for note in done.notes),
            ("not told", "what the cut costs in loss: measure it on held-out text"),
        ]
    )


def extraction_json(done: Extraction, *, command: Sequence[str] = ()) -> str:
    """Everything as JSON with sorted keys; ``command`` is what was run."""
    return as_json(dataclasses.asdict(done) | {"output": str(done.output), "command": list(command)})


def extraction_rows(done: Extraction) -> Records:
    """One row per layer: the fields of :class:`~lorarank.fine_tune.extract.Kept`."""
    return records(Kept, done.modules)
