"""Loss curves as arrays, and what can be read off a noisy one (floor 2, numpy only).

Nothing here knows files or ranks. Steps are optimiser steps, losses in nats per token or whatever the trainer logs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lorarank.errors import CurveError

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Curve:
    """A loss against steps.

    Attributes
    ----------
    steps : (n,) float64, ascending, no two equal.
    losses : (n,) float64; NaN and infinity where the trainer logged them.
    """

    steps: Floats
    losses: Floats

    def __len__(self) -> int:
        """Number of points."""
        return int(self.steps.size)

    def within(self, low: float, high: float) -> Curve:
        """The points of steps ``low`` to ``high``, both included."""
        inside = (self.steps >= low) & (self.steps <= high)
        return Curve(self.steps[inside], self.losses[inside])


@dataclass(frozen=True)
class Level:
    """A mean over ``points`` neighbouring losses, with its standard error."""

    mean: float
    se: float
    points: int


NOTHING = Curve(np.zeros(0), np.zeros(0))


def curve(steps: ArrayLike, losses: ArrayLike) -> Curve:
    """A curve from steps in any order; of several losses at a step the last is kept, as a resumed run logs it.

    Raises
    ------
    CurveError
        The two are not vectors of one length, or a step is not finite.

    >>> curve([20, 10, 20], [1.0, 2.0, 0.9]).losses
    array([2. , 0.9])
    """
    x, y = np.asarray(steps, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or not np.isfinite(x).all():
        raise CurveError("curve", f"steps {x.shape} and losses {y.shape} are no two vectors of one length")
    last = {float(step): index for index, step in enumerate(x)}
    order = [last[step] for step in sorted(last)]
    return Curve(x[order], y[order])


def noise(found: Curve) -> float:
    """Standard deviation of the losses around a smooth curve, from how each point departs from the line through its
    neighbours: Gasser, Sroka & Jennen-Steinmetz (1986), Biometrika 73(3), for steps of any spacing.

    NaN for fewer than three points. Curvature adds to it, so that it errs on the large side; noise that is correlated
    from point to point makes it err on the small side.

    >>> noise(curve(range(5), [5, 4, 3, 2, 1]))
    0.0
    """
    x, y = found.steps, found.losses
    if len(found) < 3:
        return float("nan")
    before = (x[2:] - x[1:-1]) / (x[2:] - x[:-2])
    after = 1 - before
    residuals = before * y[:-2] + after * y[2:] - y[1:-1]
    return float(np.sqrt(np.mean(residuals**2 / (before**2 + after**2 + 1))))


def level(found: Curve, low: float, high: float, sigma: float) -> Level | None:
    """Mean of the losses at steps ``low`` to ``high``; ``None`` where there are none. ``sigma`` is their noise.

    >>> level(curve(range(5), [5, 4, 3, 2, 1]), 3, 9, 0.2)
    Level(mean=1.5, se=0.1414..., points=2)
    """
    inside = found.within(low, high)
    if not len(inside):
        return None
    return Level(float(inside.losses.mean()), sigma / float(np.sqrt(len(inside))), len(inside))


def nearest(found: Curve, step: float, width: float, sigma: float) -> Level:
    """The level within ``width`` of ``step``, or the nearest point where none is that near."""
    around = level(found, step - width, step + width, sigma)
    if around is not None:
        return around
    return Level(float(found.losses[int(np.abs(found.steps - step).argmin())]), sigma, 1)


def lowest(found: Curve, points: int, sigma: float) -> tuple[float, Level]:
    """The lowest mean of ``points`` neighbouring losses, and the middle of their steps.

    >>> step, best = lowest(curve(range(6), [5, 3, 1, 1, 3, 5]), 2, 0.1)
    >>> step, best.mean
    (2.5, 1.0)
    """
    window = np.ones(points) / points
    means = np.convolve(found.losses, window, mode="valid")
    at = int(means.argmin())
    middle = float(found.steps[at : at + points].mean())
    return middle, Level(float(means[at]), sigma / float(np.sqrt(points)), points)
