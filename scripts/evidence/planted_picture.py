"""What the sweep and the answer say beside the planted rank; writes data/evidence/planted.png.

python scripts/evidence/planted_picture.py
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bakeoff import EVIDENCE
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

LADDER = (1, 2, 4, 8, 16, 32, 64)
INK, MARK = "#1f4e79", "#c55a11"
APART = 1.06
"""By what factor the marks of one planted rank stand beside each other."""


def drawn(output: Path) -> None:
    """The picture: for every planted teacher the sweep's rank with its interval, and the answer."""
    bakeoff = json.loads((EVIDENCE / "bakeoff.json").read_text(encoding="utf-8"))["pairs"]
    answers = json.loads((EVIDENCE / "answers.json").read_text(encoding="utf-8"))["answers"]
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name in sorted(one for one in bakeoff if one.startswith("planted-")):
        _, rank, seed = name.split("-")
        planted, truth, left = int(rank.removeprefix("r")), bakeoff[name], int(seed.removeprefix("s"))
        x = planted * APART ** (3 * left - 3)
        axes.errorbar(
            [x],
            [truth["r_sufficient"]],
            yerr=[[truth["r_sufficient"] - truth["low"]], [truth["high"] - truth["r_sufficient"]]],
            color=INK,
            marker="o",
            capsize=3,
            label="what the sweep says suffices, 95%",
        )
        axes.plot([x * APART], [answers[name]["r"]], color=MARK, marker="D", linestyle="", label="the answer")
    axes.plot(LADDER[:-1], LADDER[:-1], color="grey", linestyle=":", label="the planted rank")
    for axis, scale, ticks, ranks in (
        (axes.xaxis, axes.set_xscale, axes.set_xticks, LADDER[:-1]),
        (axes.yaxis, axes.set_yscale, axes.set_yticks, LADDER),
    ):
        scale("log", base=2)
        ticks(ranks, [str(rank) for rank in ranks])
        axis.set_minor_locator(NullLocator())
    axes.set_xlabel("rank planted in every module of the teacher")
    axes.set_ylabel("rank")
    asked = sorted({one["r_sufficient"] for name, one in bakeoff.items() if name.startswith("planted-")})
    title = f"A short run asks for r = {' or '.join(map(str, asked))}, whatever was planted"
    axes.set_title(title, loc="left", fontsize=10)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    axes.legend(handles.values(), handles.keys(), frameon=False, fontsize=8, loc="lower right")
    figure.savefig(output, dpi=150, metadata={"Software": None})


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    drawn(EVIDENCE / "planted.png")
