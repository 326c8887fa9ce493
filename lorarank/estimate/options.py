"""What an estimate can be asked (floor 2): every option with its one default."""

from __future__ import annotations

from dataclasses import dataclass

from lorarank.choices import check_keep_loss, check_least, check_metric, check_share
from lorarank.estimate.constants import LOSS_SHARE
from lorarank.heuristics import task_row
from lorarank.typed import settle


@dataclass(frozen=True, kw_only=True)
class EstimateOptions:
    """Options of :func:`lorarank.estimate.recommend`; the command line reads its defaults from here.

    Parameters
    ----------
    energy : share of Σσ² to keep, in (0, 1]: the plain rule. ``None`` is the default: what the run's companion at
        r = 1 loses and a cut keeps set the rank; where there is no companion, the plain rule at 0.90 does.
    keep_loss : most that the rank may lose, as a share of the gain, in (0, 1): of the best rank's for the train rank,
        unless the plain rule sets that; of the probe's for the keep rank and for what could be left out. It needs a
        run.
    metric : in which metric singular values are taken; all but ``weight`` need the moments of a run.
    task : row of the reference table to stand beside the answer; ``None`` names none.
    budget : most trainable parameters; asks for a rank per module.
    tokens : training tokens that the rank is for; ``None`` takes those of the probe. It matters where held-out rows ask
        for what training tells, see :func:`lorarank.capacity.recall`.

    Raises
    ------
    OptionError
        A value out of its range.

    Examples
    --------
    >>> EstimateOptions(energy=0.95).metric
    'weight'
    """

    energy: float | None = None
    keep_loss: float = LOSS_SHARE
    metric: str = "weight"
    task: str | None = None
    budget: int | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        settle(self)
        check_share("--energy", self.energy)
        check_keep_loss(self.keep_loss)
        check_metric(self.metric)
        if self.task is not None:
            task_row(self.task)
        check_least("--budget", self.budget)
        check_least("--tokens", self.tokens)
