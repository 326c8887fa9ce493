"""Every threshold of the diagnosis (floor 2). "Convention" marks those that nobody has measured.

The signs themselves are the reference's: too low, the validation loss plateaus early or never leaves its baseline; too
high, the training loss falls while the validation loss rises, or a lower rank does better. How often each is seen on
curves that do not have it is measured over seeds in ``tests/diagnose/test_rates.py``.
"""

from __future__ import annotations

from lorarank.estimate.constants import LOSS_SHARE

FEWEST_EVALUATIONS = 6
"""Validation losses from which noise and movement can be told apart: the noise is read off second differences, of which
six points leave four."""

FEWEST_LOSSES = 12
"""The same for training losses, which are noisier. Convention."""

LEAST_RISE = LOSS_SHARE
"""A rise below this share of what was learned is no rise: what a rank may cost everywhere in this package."""

RISE_ERRORS = 4.0
"""Standard errors by which the end must stand above the best. The best is the lowest of many windows and the noise is
read off few points, so that three are reached by chance in one flat curve of twenty (tests/diagnose/test_rates.py)."""

FALL_ERRORS = 2.0
"""Standard errors by which the training loss must have fallen since the validation loss was best."""

EARLY = 1 / 3
"""A plateau is early that begins in the first third: at a linear or cosine schedule the rate is still two thirds of its
peak or more there, so that the schedule is no explanation. Convention."""

PLATEAU_SHARE = 0.05
"""A plateau: all that is learned after :data:`EARLY` is surely at most this share of the whole. Convention."""

WARM = 0.5
"""Where the learning rate at :data:`EARLY` is below this share of its peak, a plateau is the schedule's. Convention."""

GAP_SHARE = 0.25
"""The gap between validation and training loss counts once it has grown by this share of what was learned. A gap by
itself does no harm. Convention."""

UNFINISHED_SHARE = 0.10
"""Training stopped early if its last third still brought this share of the whole. Convention."""

STUCK_ERRORS = 3.0
"""What was learned, in standard errors, and below: the loss is where it began."""

END_SHARE = 1 / 6
"""Share of the steps at the end over which the last level is averaged; the start takes a sixteenth. Convention."""

START_SHARE = 1 / 16

ROOM = 0.5
"""Energy rank over r, in the median module, up to which the adapter has room to spare: half its rank would hold 90 % of
its energy. Saturation is :data:`~lorarank.numerics.criteria.SATURATED`. Convention."""
