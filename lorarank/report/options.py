"""What pictures can be asked (floor 4): every option with its one default."""

from __future__ import annotations

from dataclasses import dataclass

from lorarank.errors import OptionError
from lorarank.estimate.options import EstimateOptions
from lorarank.typed import settle

KINDS = ("png", "svg", "pdf")
"""What a picture can be written as."""


@dataclass(frozen=True, kw_only=True)
class PlotOptions:
    """Options of ``lorarank plot``; the command line reads its defaults from here.

    Parameters
    ----------
    kind : what pictures are written as: ``png``, ``svg`` or ``pdf``.
    energy : share of Σσ² to keep, in (0, 1]; ``None`` is the default rule, which keeps 0.90.
    keep_loss : most that the rank may lose, as a share of the gain, in (0, 1); it needs a run.
    metric : in which metric singular values are taken; all except ``weight`` need the moments of a run.

    Raises
    ------
    OptionError
        A value out of its range.

    >>> PlotOptions().kind
    'png'
    """

    kind: str = KINDS[0]
    energy: float | None = EstimateOptions.energy
    keep_loss: float = EstimateOptions.keep_loss
    metric: str = EstimateOptions.metric

    @property
    def estimate(self) -> EstimateOptions:
        """What is measured before it is drawn."""
        return EstimateOptions(energy=self.energy, keep_loss=self.keep_loss, metric=self.metric)

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        settle(self)
        self.estimate  # noqa: B018 (it refuses its own)
        if self.kind not in KINDS:
            raise OptionError(f"--format {self.kind}", "no such kind", do=f"choose among: {', '.join(KINDS)}")
