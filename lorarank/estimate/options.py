"""What an estimate can be asked (floor 2): every option with its one default."""

from __future__ import annotations

from dataclasses import dataclass

from lorarank.choices import check_metric
from lorarank.errors import OptionError
from lorarank.heuristics import task_row
from lorarank.typed import settle


@dataclass(frozen=True, kw_only=True)
class EstimateOptions:
    """Options of :func:`lorarank.estimate.recommend`; the command line reads its defaults from here.

    Parameters
    ----------
    energy : share of Σσ² to keep, in (0, 1]: the plain rule. ``None`` is the default: what the run's companion at
        r = 1 loses and a cut keeps set the rank; where there is no companion, the plain rule at 0.90 does.
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
    metric: str = "weight"
    task: str | None = None
    budget: int | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        settle(self)
        if self.energy is not None and not 0 < self.energy <= 1:
            hint = f"for {self.energy:g} % give {self.energy / 100:g}" if 1 < self.energy <= 100 else "give, say, 0.90"
            raise OptionError(f"--energy {self.energy:g}", "it is a share, above 0 and at most 1", do=hint)
        check_metric(self.metric)
        if self.task is not None:
            task_row(self.task)
        if self.budget is not None and self.budget < 1:
            raise OptionError(f"--budget {self.budget}", "it must be at least 1 parameter")
        if self.tokens is not None and self.tokens < 1:
            raise OptionError(f"--tokens {self.tokens}", "it must be at least 1 token")
