"""Pictures of results, as the bytes of an image file (floor 4; needs the extra ``plot``)."""

from __future__ import annotations

import io

from lorarank.errors import MissingExtraError
from lorarank.sweep.outcome import LOSS_SHARE, STANDARD_ERRORS, Outcome

INK, BAND, MARK = "#1f4e79", "#cfe0f1", "#c55a11"


def loss_against_rank(answer: Outcome, *, kind: str = "png") -> bytes:
    """Held-out loss against r with its errors, every seed, what still suffices, and the rank that does.

    Parameters
    ----------
    answer : of a sweep.
    kind : ``png``, ``svg`` or ``pdf``.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("the plot", "matplotlib", "plot") from None
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    ranks = [one.rank for one in answer.ranks]
    losses = [one.loss.mean for one in answer.ranks]
    best = min(losses)
    allowed = LOSS_SHARE * max(answer.gain.mean, 0.0)
    axes.axhspan(best, best + allowed, color=BAND, label=f"within {LOSS_SHARE:.0%} of the gain")
    errors = [STANDARD_ERRORS * one.excess.se for one in answer.ranks]
    axes.errorbar(
        ranks, losses, yerr=errors, color=INK, marker="o", capsize=3, label="held-out loss, 95% beside the best"
    )
    for one in answer.ranks:
        if len(one.seeds) > 1:
            axes.plot([one.rank] * len(one.seeds), one.seeds, linestyle="", marker="_", color=INK, alpha=0.6)
    axes.axvline(answer.r_sufficient, color=MARK, linestyle="--", label=f"r = {answer.r_sufficient} suffices")
    axes.set_xscale("log", base=2)
    axes.set_xticks(ranks, [str(rank) for rank in ranks])
    axes.minorticks_off()
    axes.set_xlabel("rank r")
    axes.set_ylabel("held-out loss, nats per token")
    axes.set_title(f"Gain {answer.gain.mean:.3f} nats; lowest at r = {answer.best}", loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    written = io.BytesIO()
    # no dates and no random names in the file: equal results give equal bytes
    dates = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with rc_context({"svg.hashsalt": "lorarank"}):
        figure.savefig(written, format=kind, dpi=150, metadata=dates[kind])
    return written.getvalue()
