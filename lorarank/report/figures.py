"""Pictures of results, as the bytes of an image file (floor 4; needs the extra ``plot``)."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lorarank.dossier import Cell, Dossier, Update
from lorarank.errors import needing, printable
from lorarank.estimate.constants import STANDARD_ERRORS
from lorarank.estimate.readings import law
from lorarank.estimate.recommendation import LowRank
from lorarank.numerics.ladder import LADDER
from lorarank.report.series import gain_lost, sufficient
from lorarank.runs import Truncation
from lorarank.sweep.outcome import Outcome
from lorarank.wording import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, BAND, MARK = "#1f4e79", "#cfe0f1", "#c55a11"
SIZE = (7.0, 4.2)
"""Inches."""

MOST_TYPES = 24
"""Module types that one picture has room for."""


def drawings(found: Dossier, *, kind: str = "png") -> Mapping[str, bytes]:
    """Every picture there is of a run, a sweep or adapters, by name.

    A sweep has its curve ``loss``; a run ``low-rank`` where it has a companion, ``truncation``, ``scree``, ``heat-map``
    and ``parameters``; an adapter the last three, and of several every one with a number. There is no heat map where
    layers do not cross types.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    """
    if found.sweep is not None:
        return {"loss": loss_against_rank(found.sweep.outcome, kind=kind)}
    drawn: dict[str, bytes] = {}
    answer, run = found.answer, found.run
    if answer is not None and answer.low_rank is not None and answer.r is not None:
        drawn["low-rank"] = low_rank(answer.low_rank, answer.r, kind=kind)
    if run is not None and answer is not None and answer.keep is not None:
        gain = run.manifest.heldout.gains[0].mean
        drawn["truncation"] = truncation_curve(run.truncation, gain, answer.keep.r, answer.allowed, kind=kind)
    marked = None if answer is None else answer.r
    for number, update in enumerate(found.updates, start=1):
        ending = f"-{number}" if len(found.updates) > 1 else ""
        drawn[f"scree{ending}"] = scree(update, kind=kind)
        if update.crosses:
            drawn[f"heat-map{ending}"] = heat_map(update, kind=kind)
        drawn[f"parameters{ending}"] = parameters_by_rank(update.parameters_per_rank, marked, kind=kind)
    return drawn


def loss_against_rank(answer: Outcome, *, kind: str = "png") -> bytes:
    """Held-out loss against r with its errors, every seed, what still suffices, and the rank that does.

    Parameters
    ----------
    answer : of a sweep.
    kind : one of :data:`lorarank.report.options.KINDS`.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    """
    figure, axes = _begun()
    ranks = [one.rank for one in answer.ranks]
    losses = [one.loss.mean for one in answer.ranks]
    axes.axhspan(*sufficient(answer), color=BAND, label=f"within {percent(answer.allowed)} of the gain")
    errors = [STANDARD_ERRORS * one.excess.se for one in answer.ranks]
    axes.errorbar(
        ranks, losses, yerr=errors, color=INK, marker="o", capsize=3, label="held-out loss, 95% beside the best"
    )
    seeds = [(one.rank, seed) for one in answer.ranks if len(one.seeds) > 1 for seed in one.seeds]
    if seeds:
        axes.plot(*zip(*seeds, strict=True), linestyle="", marker="_", color=INK, alpha=0.6, label="a seed")
    if answer.learned:
        axes.axvline(answer.r_sufficient, color=MARK, linestyle="--", label=f"r = {answer.r_sufficient} suffices")
    _ladder(axes, ranks)
    axes.set_xlabel("rank r")
    axes.set_ylabel("held-out loss, nats per token")
    axes.set_title(f"Gain {answer.gain.mean:.3f} nats; lowest at r = {answer.best}", loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    return _written(figure, kind)


def truncation_curve(curve: Truncation, gain: float, keep: int, allowed: float, *, kind: str = "png") -> bytes:
    """Share of the gain that a cut to k loses, with bands of one and two standard errors, and the keep rank.

    Parameters
    ----------
    curve : losses in nats per token.
    gain : of the probe, nats per token.
    keep : the chosen k; ``allowed`` the share of the gain that it may lose.
    kind : one of :data:`lorarank.report.options.KINDS`.
    """
    figure, axes = _begun()
    ks, means, errors = (list(column) for column in zip(*gain_lost(curve, gain), strict=True))
    for times, alpha, name in ((2, 0.4, "two standard errors"), (1, 1.0, "one standard error")):
        low = [mean - times * error for mean, error in zip(means, errors, strict=True)]
        high = [mean + times * error for mean, error in zip(means, errors, strict=True)]
        axes.fill_between(ks, low, high, color=BAND, alpha=alpha, linewidth=0, label=name)
    axes.plot(ks, means, color=INK, marker="o")
    axes.axhline(allowed, color="grey", linestyle=":", label=f"{percent(allowed)} of the gain")
    axes.axvline(keep, color=MARK, linestyle="--", label=f"keep rank {keep}")
    _ladder(axes, ks)
    axes.yaxis.set_major_formatter(lambda value, _position: percent(value))
    axes.set_xlabel("cut to rank k")
    axes.set_ylabel("gain lost")
    axes.set_title(f"What a cut loses of {gain:.3f} nats, metric {curve.metric}", loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    return _written(figure, kind)


def low_rank(found: LowRank, r: int, *, kind: str = "png") -> bytes:
    """What the companion loses with its error, the law through it with its limits, and the chosen rank.

    Parameters
    ----------
    found : the companion's loss, a share of the gain.
    r : the answer.
    kind : one of :data:`lorarank.report.options.KINDS`.
    """
    figure, axes = _begun()
    ranks, shares, lows, highs = (list(column) for column in zip(*law(found, r), strict=True))
    axes.fill_between(ranks, lows, highs, color=BAND, linewidth=0, label="errors, and the powers measured")
    axes.plot(ranks, shares, color=INK, label="in proportion to 1/r")
    errors = STANDARD_ERRORS * found.lost_se
    axes.errorbar(
        [found.rank], [found.lost], yerr=[errors], color=INK, marker="o", capsize=3, label="measured, with 95% errors"
    )
    axes.axhline(found.allowed, color="grey", linestyle=":", label=f"{percent(found.allowed)} of the gain")
    axes.axvline(r, color=MARK, linestyle="--", label=f"r = {r}")
    _ladder(axes, ranks)
    axes.yaxis.set_major_formatter(lambda value, _position: percent(value, 1))
    axes.set_xlabel("rank r")
    axes.set_ylabel("gain lost")
    axes.set_title(f"What a low rank loses, from {percent(found.lost, 1)} at r = {found.rank}", loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    return _written(figure, kind)


def scree(update: Update, *, kind: str = "png") -> bytes:
    """σ over σ₁ of every module, one small plot per module type, with the ranks of the modules as ticks below.

    Of more than :data:`MOST_TYPES` types, those with the most energy.
    """
    energy = {name: sum(part.energy for part in update.parts if part.type == name) for name in update.types}
    types = sorted(update.types, key=lambda name: -energy[name])[:MOST_TYPES]
    some = f"; {len(types)} of {len(energy)} module types" if len(types) < len(energy) else ""
    columns = min(4, len(types))
    rows = -(-len(types) // columns)
    figure = _figure((max(SIZE[0], 2.4 * columns), max(2.6, 2.1 * rows)))
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes in grid.flat[len(types) :]:
        axes.set_axis_off()
    for axes, name in zip(grid.flat, types, strict=False):
        parts = [part for part in update.parts if part.type == name]
        for part in parts:
            if part.singular_values and part.singular_values[0] > 0:
                values = [value / part.singular_values[0] for value in part.singular_values]
                axes.plot(range(1, len(values) + 1), values, color=INK, alpha=0.35, linewidth=0.8)
        ranks = [part.rank for part in parts if part.rank]
        axes.plot(ranks, [0.0012] * len(ranks), linestyle="", marker="|", color=MARK, markersize=7)
        axes.set_yscale("log")
        axes.set_ylim(0.001, 1.2)
        axes.set_title(_plain(name), loc="left", fontsize=9)
        _open(axes)
    figure.supxlabel(f"direction; ticks below: the {percent(update.share)} energy ranks{some}", fontsize=9)
    figure.supylabel("σ / σ₁", fontsize=9)
    return _written(figure, kind)


def heat_map(update: Update, *, kind: str = "png") -> bytes:
    """The energy rank by module type and layer."""
    from matplotlib.colors import LogNorm

    cells, types, layers = update.cells, update.types, update.layers
    ranks = [[_rank_of(cells.get((layer, name))) for layer in layers] for name in types]
    top = max((rank for row in ranks for rank in row if rank > 0), default=1.0)
    figure = _figure((max(SIZE[0], 1.6 + 0.27 * len(layers)), 1.2 + 0.34 * len(types)))
    axes = figure.add_subplot()
    image = axes.imshow(ranks, cmap="Blues", norm=LogNorm(0.7, max(top, 1.4)), aspect="auto")
    for row, found in enumerate(ranks):
        for column, rank in enumerate(found):
            if math.isfinite(rank):
                dark = rank > top**0.6
                axes.text(column, row, f"{rank:g}", ha="center", va="center", fontsize=7, color="w" if dark else "k")
    axes.set_yticks(range(len(types)), [_plain(name) for name in types], fontsize=8)
    axes.set_xticks(range(len(layers)), ["–" if layer is None else str(layer) for layer in layers], fontsize=7)
    axes.set_xlabel("layer")
    axes.set_title(f"Rank that keeps {percent(update.share)} of the energy", loc="left", fontsize=10)
    axes.tick_params(length=0)
    image.axes.spines[:].set_visible(False)
    return _written(figure, kind)


def parameters_by_rank(per_rank: int, r: int | None, *, kind: str = "png") -> bytes:
    """Trainable parameters against r, both by logarithm; ``r`` is marked where there is one."""
    figure, axes = _begun()
    axes.plot(LADDER, [rank * per_rank for rank in LADDER], color=INK, marker="o")
    axes.set_yscale("log")
    if r is not None:
        axes.axvline(r, color=MARK, linestyle="--", label=f"r = {r}: {r * per_rank:,}")
        axes.legend(frameon=False, fontsize=8)
    _ladder(axes, LADDER)
    axes.set_xlabel("rank r")
    axes.set_ylabel("trainable parameters")
    axes.set_title(f"{per_rank:,} parameters for each unit of rank", loc="left", fontsize=10)
    return _written(figure, kind)


def _rank_of(cell: Cell | None) -> float:
    """NaN where there is nothing, which is drawn as nothing."""
    return math.nan if cell is None or cell.rank is None else float(cell.rank)


def _plain(name: str) -> str:
    """A name as text: matplotlib reads what stands between dollar signs as mathematics."""
    return printable(name, 40).replace("$", r"\$")


def _begun() -> tuple[Figure, Axes]:
    figure = _figure(SIZE)
    axes = figure.add_subplot()
    _open(axes)
    return figure, axes


def _figure(size: tuple[float, float]) -> Figure:
    with needing("the plot", "matplotlib", extra="plot"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _open(axes: Axes) -> None:
    """Without the lines above and to the right."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _ladder(axes: Axes, ranks: Sequence[float]) -> None:
    """Ranks along x, each with its label and at equal distances by doubling."""
    from matplotlib.ticker import NullLocator

    axes.set_xscale("log", base=2)
    axes.set_xticks(ranks, [f"{rank:g}" for rank in ranks])
    axes.xaxis.set_minor_locator(NullLocator())


def _written(figure: Figure, kind: str) -> bytes:
    """The file; no dates and no random names in it: equal results give equal bytes."""
    from matplotlib import rc_context

    written = io.BytesIO()
    dates = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with rc_context({"svg.hashsalt": "lorarank"}):
        figure.savefig(written, format=kind, dpi=150, metadata=dates[kind])
    return written.getvalue()
