"""The signs that curves show: curves in, signs out (floor 2, numpy only).

Every test asks for more than chance: a rise, a fall or a gap has to exceed its standard errors, and that a curve is
flat has to be sure as well, not only unrefuted. Noise is taken to be independent from point to point; where it is not,
as with rates high enough for the weights to wander, the signs are seen too often by what ``tests/diagnose`` measures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lorarank.diagnose import constants as c
from lorarank.diagnose.curves import Curve, Level, lowest, nearest, noise
from lorarank.diagnose.result import HIGH, LOW, NEITHER, NOT_SEEN, SEEN, UNTESTED, Sign
from lorarank.estimate.constants import ONE_SIDED
from lorarank.wording import percent


@dataclass(frozen=True)
class Shape:
    """What the tests share.

    ``last`` is the last step; the noise is NaN where there are too few points; ``start``
    is where the validation loss began, ``learned`` how far it fell from there to its lowest (of the training loss where
    there is no validation loss), with its standard error.
    """

    last: float
    train_noise: float
    validation_noise: float
    start: float
    learned: float
    learned_se: float


def shape_of(train: Curve, validation: Curve, base: float | None = None, fall_se: float | None = None) -> Shape:
    """The common figures of a run; for ``base`` and ``fall_se`` see :class:`lorarank.diagnose.training.Training`."""
    last = max((float(one.steps[-1]) for one in (train, validation) if len(one)), default=0.0)
    train_noise = noise(_settled(train, last))
    validation_noise = noise(_settled(validation, last))
    told = validation if len(validation) else train
    sigma = validation_noise if len(validation) else train_noise
    if math.isnan(sigma):
        sigma = 0.0
    if not len(validation) and len(train) < c.FEWEST_LOSSES:
        return Shape(last, train_noise, validation_noise, math.nan, math.nan, math.nan)
    start, start_se = float(told.losses[0]), sigma
    if not len(validation):
        first = nearest(train, float(train.steps[0]), c.START_SHARE * last, sigma)
        start, start_se = first.mean, first.se
    elif base is not None:
        start = base
    elif len(train) and train.steps[0] < validation.steps[0]:  # what was learned before the first evaluation
        rough = 0.0 if math.isnan(train_noise) else train_noise
        first = nearest(train, float(train.steps[0]), 0.0, rough)
        then = nearest(train, float(validation.steps[0]), c.START_SHARE * last, rough)
        start += max(0.0, first.mean - then.mean)
        start_se = math.hypot(start_se, first.se, then.se)
    _, best = lowest(told, _window(told), sigma)
    learned_se = math.hypot(start_se, best.se) if fall_se is None else fall_se
    return Shape(last, train_noise, validation_noise, start, start - best.mean, learned_se)


def diverged(train: Curve, validation: Curve) -> Sign | None:
    """Losses that are no numbers any more, after which nothing else can be read; ``None`` where all are."""
    for name, one in (("training", train), ("validation", validation)):
        bad = ~np.isfinite(one.losses)
        if bad.any():
            step = float(one.steps[int(bad.argmax())])
            sentence = f"The {name} loss is no number from step {step:,.0f} on."
            return Sign("diverged", NEITHER, SEEN, sentence, {"step": step})
    return None


def stuck(shape: Shape) -> Sign:
    """The loss never left where it began."""
    if not (math.isfinite(shape.learned) and shape.learned_se > 0):  # a single document has no error
        return _untested("stuck", LOW, "There are too few losses to tell learning from noise.")
    numbers = {"start": shape.start, "learned": shape.learned, "standard_error": shape.learned_se}
    found = shape.learned <= c.STUCK_ERRORS * shape.learned_se
    moved = f"{'rose' if shape.learned < 0 else 'fell'} by {abs(shape.learned):.4g}"
    sentence = f"The loss {moved} ± {shape.learned_se:.2g} from {shape.start:.4g}"
    return Sign("stuck", LOW, SEEN if found else NOT_SEEN, f"{sentence}{': no more than noise' * found}.", numbers)


def plateau(train: Curve, validation: Curve, shape: Shape, rate: Curve) -> Sign:
    """Validation and training loss both flat since the first third of the steps.

    ``rate`` is the learning rate against steps, empty where it was not logged. A training loss that goes on falling
    while the validation loss stays is another matter: the rank is large enough to go on.
    """
    name = "early plateau"
    if len(validation) < c.FEWEST_EVALUATIONS or len(train) < c.FEWEST_LOSSES:
        return _untested(name, LOW, _few(train, validation))
    if len(rate) and rate.losses.max() > 0:
        then = float(np.interp(c.EARLY * shape.last, rate.steps, rate.losses)) / float(rate.losses.max())
        if then < c.WARM:
            said = f"A third of the way the learning rate was already down to {percent(then, 0)} of its peak."
            return _untested(name, LOW, said, {"rate": then})
    late = {
        "validation": _after(validation, shape.validation_noise, shape.last),
        "train": _after(train, shape.train_noise, shape.last),
    }
    if shape.learned <= c.STUCK_ERRORS * shape.learned_se:
        return _untested(name, LOW, "Nothing was learned, so there is nothing to level off.")
    allowed = c.PLATEAU_SHARE * shape.learned
    numbers = {
        f"{which}_{what}": value / shape.learned
        for which, (fall, se) in late.items()
        for what, value in (("share", fall), ("standard_error", se))
    }
    flat = all(fall + ONE_SIDED * se <= allowed for fall, se in late.values())
    falling = any(fall - ONE_SIDED * se > allowed for fall, se in late.values())
    words = {"validation": "validation", "train": "training"}
    each = " and ".join(
        f"{'rose' if fall < 0 else 'fell'} by {percent(abs(fall) / shape.learned, 1)} ± "
        f"{percent(se / shape.learned, 1)} ({words[which]})"
        for which, (fall, se) in late.items()
    )
    sentence = f"After the first third of the steps the loss {each} of what was learned in all"
    if flat:
        return Sign(name, LOW, SEEN, f"{sentence}: it was flat.", numbers)
    if falling:
        return Sign(name, LOW, NOT_SEEN, f"{sentence}.", numbers)
    return _untested(name, LOW, f"{sentence}: neither surely flat nor surely falling.", numbers)


def overfitting(train: Curve, validation: Curve, shape: Shape) -> Sign:
    """The validation loss rises from its lowest while the training loss goes on falling."""
    name = "overfitting"
    if len(validation) < c.FEWEST_EVALUATIONS:
        few = f"{len(validation)} validation losses are too few to tell a rise from noise"
        numbers = {}
        if len(validation) > 1:
            lowest_loss, last = float(validation.losses.min()), float(validation.losses[-1])
            few += f" (lowest {lowest_loss:.4g}, last {last:.4g})"
            numbers = {"lowest": lowest_loss, "last": last}
        return _untested(name, HIGH, f"{few}; {c.FEWEST_EVALUATIONS} would do.", numbers)
    sigma, points = shape.validation_noise, _window(validation)
    end = Level(float(validation.losses[-points:].mean()), sigma / math.sqrt(points), points)
    before = Curve(validation.steps[:-points], validation.losses[:-points])
    at, best = lowest(before, points, sigma)
    rise, se = end.mean - best.mean, math.hypot(end.se, best.se)
    numbers = {
        "lowest": best.mean,
        "lowest_step": at,
        "end": end.mean,
        "rise": rise,
        "rise_standard_error": se,
        "rise_share": rise / shape.learned if shape.learned > 0 else math.nan,
    }
    told = f"The validation loss is {end.mean:.4g} at the end and was {best.mean:.4g} around step {at:,.0f}"
    if rise <= max(c.RISE_ERRORS * se, c.LEAST_RISE * max(shape.learned, 0.0)):
        return Sign(name, HIGH, NOT_SEEN, f"{told}: no rise beyond noise ({rise:+.2g} ± {se:.2g}).", numbers)
    told += f": it rose by {rise:.3g} ± {se:.2g}, {percent(numbers['rise_share'], 1)} of what was learned"
    since = train.within(at, shape.last)
    if len(since) < 4:
        return _untested(
            name, HIGH, f"{told}, but too few training losses were logged to say whether they fell.", numbers
        )
    half = len(since) // 2
    fall = float(since.losses[:half].mean() - since.losses[half:].mean())
    fall_se = shape.train_noise * math.sqrt(1 / half + 1 / (len(since) - half))
    numbers |= {"train_fall": fall, "train_fall_standard_error": fall_se}
    if fall > c.FALL_ERRORS * fall_se:
        sentence = f"{told}, while the training loss went on falling (by {fall:.3g} ± {fall_se:.2g})."
        return Sign(name, HIGH, SEEN, sentence, numbers)
    sentence = f"{told}; the training loss did not fall meanwhile, so that this is no overfitting but a rate too high."
    return Sign("instability", NEITHER, SEEN, sentence, numbers)


def gap(train: Curve, validation: Curve, shape: Shape, epochs: float | None) -> Sign:
    """Validation minus training loss, grown since the beginning by a part of what was learned."""
    name = "gap"
    if len(validation) < 2 or len(train) < c.FEWEST_LOSSES:
        return _untested(name, HIGH, _few(train, validation, 2))
    if not shape.learned > 0:
        return _untested(name, HIGH, "Nothing was learned to set a gap against.")
    rough = 0.0 if math.isnan(shape.validation_noise) else shape.validation_noise
    width, first = c.START_SHARE * shape.last, float(validation.steps[0])
    ends = [
        nearest(train, first, width, shape.train_noise),
        nearest(validation, first, 0.0, rough),
        nearest(train, shape.last, c.END_SHARE * shape.last, shape.train_noise),
        nearest(validation, shape.last, c.END_SHARE * shape.last, rough),
    ]
    before, after = ends[1].mean - ends[0].mean, ends[3].mean - ends[2].mean
    growth, se = after - before, math.hypot(*(one.se for one in ends))
    share = growth / shape.learned
    numbers = {"before": before, "after": after, "share": share, "standard_error": se / shape.learned}
    sentence = (
        f"Validation minus training loss went from {before:+.3g} to {after:+.3g}, by {percent(share, 0)} ± "
        f"{percent(se / shape.learned, 0)} of what was learned"
    )
    if epochs is not None:
        numbers["epochs"] = epochs
        sentence += f", over {epochs:.3g} passes of the data"
    seen = growth - ONE_SIDED * se > c.GAP_SHARE * shape.learned
    return Sign(name, HIGH, SEEN if seen else NOT_SEEN, f"{sentence}.", numbers)


def unfinished(train: Curve, validation: Curve, shape: Shape) -> Sign:
    """The last third of the steps still brought a good part of the whole."""
    name = "unfinished"
    told, sigma, which = validation, shape.validation_noise, "validation"
    if len(validation) < c.FEWEST_EVALUATIONS:
        told, sigma, which = train, shape.train_noise, "training"
    if len(told) < c.FEWEST_EVALUATIONS or not shape.learned > 0:
        return _untested(name, NEITHER, _few(train, validation))
    fall, se = _fall(told, sigma, 2 / 3, shape.last)
    share = fall / shape.learned
    numbers = {"share": share, "standard_error": se / shape.learned}
    seen = fall - ONE_SIDED * se > c.UNFINISHED_SHARE * shape.learned
    size = f"{percent(abs(share), 1)} ± {percent(se / shape.learned, 1)} of what was learned"
    did = f"the {which} loss rose by {size}" if share < 0 else f"brought {size} ({which} loss)"
    sentence = f"{'In the' if share < 0 else 'The'} last third of the steps {did}."
    return Sign(name, NEITHER, SEEN if seen else NOT_SEEN, sentence, numbers)


def _after(one: Curve, sigma: float, last: float) -> tuple[float, float]:
    """Fall of the loss from the end of the first third to the end, with its standard error."""
    return _fall(one, sigma, c.EARLY, last)


def _fall(one: Curve, sigma: float, share: float, last: float) -> tuple[float, float]:
    half = c.END_SHARE * last / 2
    then = nearest(one, share * last, half, sigma)
    end = nearest(one, last, c.END_SHARE * last, sigma)
    return then.mean - end.mean, math.hypot(then.se, end.se)


def _settled(one: Curve, last: float) -> Curve:
    """Without the steep beginning, whose curvature would count as noise, unless that leaves too little."""
    late = one.within(c.EARLY * last - 1, math.inf)  # steps are whole numbers
    return late if len(late) >= c.FEWEST_EVALUATIONS - 1 else one


def _window(one: Curve) -> int:
    """Points that are averaged where the lowest level is sought."""
    return max(2, round(len(one) / 8)) if len(one) >= c.FEWEST_EVALUATIONS else 1


def _few(train: Curve, validation: Curve, evaluations: int = c.FEWEST_EVALUATIONS) -> str:
    return (
        f"It takes {evaluations} validation losses and {c.FEWEST_LOSSES} training losses; there are {len(validation)} "
        f"and {len(train)}."
    )


def _untested(name: str, speaks_for: str, sentence: str, numbers: dict[str, float] | None = None) -> Sign:
    return Sign(name, speaks_for, UNTESTED, sentence, numbers or {})
