"""What is drawn (floor 4): values in, an ``<svg>`` element out. Every picture says in words what it shows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lorarank.estimate.constants import STANDARD_ERRORS
from lorarank.estimate.readings import law
from lorarank.estimate.recommendation import Interval, LowRank
from lorarank.numerics.ladder import LADDER
from lorarank.report.drawing.svg import Frame, Scale, element, label, path, picture, steps
from lorarank.report.series import gain_lost, sufficient
from lorarank.runs import Truncation
from lorarank.sweep.outcome import Outcome
from lorarank.wording import percent

LEFT, RIGHT, TOP, BOTTOM = 46.0, 368.0, 26.0, 196.0
"""Where the axes of a chart lie, of 380 × 236."""

FLOOR = 1e-3
"""The smallest σ/σ₁ that a scree plot tells apart: a millionth of the first direction's energy."""

NEAR = 4
"""Times what may be lost, up to which a picture is near the limit."""

MOST_POINTS = 48
"""Points of a scree plot; of longer spectra some are left out, the first never."""


def rank_line(key: str, r: int, interval: Interval, keep: int | None) -> str:
    """The ladder of ranks with the interval on it, the answer, and every reading that made the interval."""
    top = max(64, r, interval.high, keep or 0)
    x = Scale(1, top, 24, 356, log=True)
    low, high = x(interval.low) - 9, x(interval.high) + 9
    parts = [element("rect", x=low, y=30, width=high - low, height=18, rx=9, class_="band")]
    parts.append(path([(14, 39), (366, 39)], "axis"))
    for rung in (rung for rung in LADDER if rung <= top):
        parts += [element("circle", cx=x(rung), cy=39, r=2.5, class_="tick"), label(x(rung), 66, str(rung))]
    counts: dict[int, int] = {}
    for reading in interval.readings:
        counts[reading.r] = counts.get(reading.r, 0) + 1
        parts.append(element("circle", cx=x(reading.r), cy=29 - 6 * counts[reading.r], r=2.2, class_="dot"))
    parts.append(element("circle", cx=x(r), cy=39, r=8, class_="mark"))
    told = ", ".join(f"{reading.source} {reading.r}" for reading in interval.readings)
    text = f"Train at r = {r}; the interval goes from {interval.low} to {interval.high}. Readings: {told}."
    return picture(key, "The rank on the ladder", text, "".join(parts), 380, 74)


def truncation(key: str, curve: Truncation, gain: float, keep: int, limit: float, *, near: bool) -> str:
    """Share of the gain that a cut to k loses, with bands of one and two standard errors, and the chosen k.

    Parameters
    ----------
    key : unique in the page.
    curve : excess losses, nats per token.
    gain : of the probe, nats per token, above 0.
    keep : the chosen k; ``limit`` the share of the gain that may be lost.
    near : only up to :data:`NEAR` times the limit, where the choice is made.
    """
    known = gain_lost(curve, gain)
    highest = NEAR * limit if near else max(2 * limit, *(mean + 2 * se for _, mean, se in known))
    lowest = min(0.0, *(mean - 2 * se for _, mean, se in known))
    lowest = max(lowest, -limit) if near else lowest
    frame = Frame(Scale(1, curve.rank, LEFT, RIGHT, log=True), Scale(lowest, highest, BOTTOM, TOP, open=True))
    ladder = [rung for rung in LADDER if rung <= curve.rank]
    parts = [frame.axes(ladder, steps(lowest, highest, 4), ("cut to rank k", "gain lost"), (_rank, _share))]
    drawn = []
    for errors, class_ in ((2, "band faint"), (1, "band")):
        above = [(k, mean + errors * se) for k, mean, se in known]
        below = [(k, mean - errors * se) for k, mean, se in reversed(known)]
        drawn.append(path(frame.place(above + below), class_, closed=True))
    drawn.append(path(frame.place((k, mean) for k, mean, _ in known), "line"))
    parts.append(frame.clipped(key, "".join(drawn)))
    parts.append(path([(LEFT, frame.y(limit)), (RIGHT, frame.y(limit))], "limit"))
    parts.append(label(RIGHT, frame.y(limit) - 4, f"{percent(limit)} allowed", "end"))
    shown = [(k, mean) for k, mean, _ in known if mean <= highest]
    parts += [element("circle", cx=x, cy=y, r=3, class_="dot") for x, y in frame.place(shown)]
    chosen = next((mean for k, mean, _ in known if k == keep), 0.0)
    parts += _marked(frame, keep, chosen, f"keep rank {keep}")
    told = "; ".join(f"k = {k}: {_share(mean)} ± {_share(se)}" for k, mean, se in known)
    title = "Gain lost by a cut, near the limit" if near else "Gain lost by a cut"
    return picture(key, title, f"Share of the gain lost, with its standard error. {told}.", "".join(parts), 380, 236)


def low_rank(key: str, found: LowRank, r: int) -> str:
    """What the companion loses with its error, the law through it with its limits, and the chosen rank.

    Parameters
    ----------
    key : unique in the page.
    found : the companion's loss, a share of the gain.
    r : the answer.
    """
    curve, limit = law(found, r), found.allowed
    lowest = min(0.0, *(low for _, _, low, _ in curve))
    highest = max(2 * limit, *(high for _, _, _, high in curve))
    ladder = [rung for rung, *_ in curve]
    frame = Frame(
        Scale(ladder[0], ladder[-1], LEFT + 8, RIGHT - 8, log=True), Scale(lowest, highest, BOTTOM, TOP, open=True)
    )
    parts = [frame.axes(ladder, steps(lowest, highest, 4), ("rank r", "gain lost"), (_rank, _share))]
    above = [(rung, high) for rung, _, _, high in curve]
    below = [(rung, low) for rung, _, low, _ in reversed(curve)]
    parts.append(path(frame.place(above + below), "band", closed=True))
    parts.append(path(frame.place((rung, share) for rung, share, _, _ in curve), "line"))
    parts.append(path([(frame.x.start, frame.y(limit)), (frame.x.end, frame.y(limit))], "limit"))
    parts.append(label(frame.x.end, frame.y(limit) - 4, f"{percent(limit)} allowed", "end"))
    errors = STANDARD_ERRORS * found.lost_se
    ends = [(found.rank, found.lost - errors), (found.rank, found.lost + errors)]
    parts.append(path(frame.place(ends), "error"))
    parts += [element("circle", cx=x, cy=y, r=3, class_="dot") for x, y in frame.place([(found.rank, found.lost)])]
    parts += _marked(frame, r, next((share for rung, share, _, _ in curve if rung == r), limit), f"r = {r}")
    told = "; ".join(
        f"r = {rung}: {_share(share)} ({_share(low)} to {_share(high)})" for rung, share, low, high in curve
    )
    text = f"Share of the gain lost: {_share(found.lost)} at r = {found.rank}, measured; by the law {told}."
    return picture(key, "Gain lost by a low rank", text, "".join(parts), 380, 236)


def scree(key: str, name: str, title: str, values: Sequence[float], rank: int | None) -> str:
    """σ over σ₁ of the module ``name`` on a logarithmic axis, small, and where its energy rank is.

    Parameters
    ----------
    key : unique in the page.
    name : the module's, for who cannot see the picture; ``title`` stands above it.
    values : σ, descending, any length; zeros and what is below :data:`FLOOR` are not drawn.
    rank : ``None`` where there is none to mark.

    >>> "rank 1" in scree("s", "layers.0.q_proj", "layer 0", (2.0, 1.0), 1)
    True
    """
    width, height, left, bottom, top = 150.0, 96.0, 8.0, 80.0, 20.0
    first = values[0] if values else 0.0
    count = max(2, len(values))
    frame = Frame(Scale(1, count, left, width - 8), Scale(FLOOR, 1, bottom, top, log=True), width)
    parts = [path([(left, bottom), (width - 8, bottom)], "axis"), path([(left, top), (width - 8, top)], "grid")]
    parts.append(label(left, 12, title, "start", "name"))
    if rank is not None and rank >= 1:
        x = frame.x(min(rank, count))
        parts += [path([(x, top), (x, bottom)], "cut"), label(width - 8, 12, f"rank {rank}", "end", "name")]
    shares = [(i + 1, values[i] / first) for i in thinned(len(values))] if first > 0 else []
    parts.append(path(frame.place((i, share) for i, share in shares if share >= FLOOR), "line"))
    parts += [label(left, bottom + 12, "1", "start"), label(width - 8, bottom + 12, str(len(values)), "end")]
    half = next((i for i, share in shares if share < 0.5), None)
    text = f"{len(values)} singular values" + (f"; below half of the first from {half}" if half else "")
    return picture(key, name, f"{text}.", "".join(parts), width, height)


def thinned(count: int) -> list[int]:
    """Which of ``count`` values are drawn: all of few; of many the first half of the room densely, then ever fewer.

    >>> thinned(3), len(thinned(1000)) <= MOST_POINTS, thinned(1000)[:3], thinned(1000)[-1]
    ([0, 1, 2], True, [0, 1, 2], 999)
    """
    if count <= MOST_POINTS:
        return list(range(count))
    dense = MOST_POINTS // 2
    ratio = ((count - 1) / dense) ** (1 / (MOST_POINTS - dense - 1))
    rest = {round(dense * ratio**step) for step in range(MOST_POINTS - dense)}
    return [*range(dense), *sorted(rest)]


def parameters(key: str, per_rank: int, marked: Sequence[tuple[int, str]]) -> str:
    """Trainable parameters against r, both by logarithm, with some ranks marked and named.

    >>> parameters("p", 1000, [(8, "r = 8")]).count('class="mark"')
    1
    """
    low, high = per_rank * LADDER[0], per_rank * LADDER[-1]
    bottom, top = 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high))
    frame = Frame(Scale(1, LADDER[-1], LEFT, RIGHT, log=True), Scale(bottom, top, BOTTOM, TOP, log=True))
    decades = [bottom * 10**power for power in range(round(math.log10(top / bottom)) + 1)]
    parts = [frame.axes(LADDER, decades, ("rank r", "parameters"), (_rank, short))]
    points = [(r, r * per_rank) for r in LADDER]
    parts.append(path(frame.place(points), "line"))
    parts += [element("circle", cx=x, cy=y, r=3, class_="dot") for x, y in frame.place(points)]
    for r, name in marked:
        parts += _marked(frame, r, r * per_rank, name)
    text = f"{per_rank:,} parameters for each unit of rank."
    return picture(key, "Parameters by rank", text, "".join(parts), 380, 236)


def loss_by_rank(key: str, answer: Outcome) -> str:
    """Held-out loss of a sweep against r: 95 % errors beside the best, every seed, and the rank that suffices."""
    losses = {one.rank: one.loss.mean for one in answer.ranks if math.isfinite(one.loss.mean)}
    errors = {one.rank: STANDARD_ERRORS * one.excess.se for one in answer.ranks}
    errors = {rank: error if math.isfinite(error) else 0.0 for rank, error in errors.items()}
    best, allowed = sufficient(answer)
    seeds = [seed for one in answer.ranks if one.rank in losses and len(one.seeds) > 1 for seed in one.seeds]
    low = min([*(loss - errors[rank] for rank, loss in losses.items()), *seeds])
    high = max(*(loss + errors[rank] for rank, loss in losses.items()), *seeds, allowed)
    room = 0.06 * (high - low) or 0.01
    ranks = sorted(losses)
    frame = Frame(
        Scale(ranks[0], ranks[-1], LEFT + 8, RIGHT - 8, log=True), Scale(low - room, high + room, BOTTOM, TOP)
    )
    up = steps(low - room, high + room)
    parts = [frame.axes(ranks, up, ("rank r", "loss, nats per token"), (_rank, "{:.3g}".format))]
    y = frame.y(allowed)
    across = frame.x.end - frame.x.start
    parts.append(element("rect", x=frame.x.start, y=y, width=across, height=frame.y(best) - y, class_="band"))
    parts.append(path(frame.place((rank, losses[rank]) for rank in ranks), "line"))
    for one in answer.ranks:
        if one.rank not in losses:
            continue
        ends = [(one.rank, losses[one.rank] + sign * errors[one.rank]) for sign in (-1, 1)]
        parts.append(path(frame.place(ends), "error"))
        parts += [
            element("circle", cx=x, cy=y, r=1.8, class_="seed")
            for x, y in frame.place((one.rank, seed) for seed in one.seeds if len(one.seeds) > 1)
        ]
        (point,) = frame.place([(one.rank, losses[one.rank])])
        parts.append(element("circle", cx=point[0], cy=point[1], r=3, class_="dot"))
    r = answer.r_sufficient
    if answer.learned and r in losses:
        parts += _marked(frame, r, losses[r], f"r = {r} suffices")
    told = "; ".join(f"r = {rank}: {losses[rank]:.4f} ± {errors[rank]:.4f}" for rank in ranks)
    return picture(key, "Held-out loss by rank", f"{told}.", "".join(parts), 380, 236)


def short(value: float) -> str:
    """A large number in few characters.

    >>> short(1000), short(2_442_240), short(1e9), short(12)
    ('1k', '2.44M', '1G', '12')
    """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _marked(frame: Frame, x: float, y: float, name: str) -> list[str]:
    """A line through a point, a ring around it, and its name at the top, on the side that has more room."""
    (point,) = frame.place([(x, y)])
    right = point[0] > 0.72 * frame.width
    return [
        path([(point[0], frame.y.start), (point[0], frame.y.end)], "cut"),
        element("circle", cx=point[0], cy=point[1], r=5.5, class_="mark"),
        label(point[0] + (-6 if right else 6), frame.y.end + 10, name, "end" if right else "start", "told"),
    ]


def _rank(value: float) -> str:
    return f"{value:g}"


def _share(value: float) -> str:
    """A share of the gain, to a tenth of a per cent, or whole where it is.

    >>> _share(0.05), _share(0.0046), _share(-0.0001)
    ('5%', '0.5%', '0%')
    """
    rounded = round(100 * value, 1) + 0.0
    return f"{rounded:g}%"
