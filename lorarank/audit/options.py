"""What an audit can be asked (floor 3): every option with its one default."""

from __future__ import annotations

from dataclasses import dataclass, field

from lorarank.audit.condition import Condition
from lorarank.choices import check_least, check_share
from lorarank.errors import OptionError
from lorarank.typed import settle
from lorarank.wording import percent

ENERGY = (0.90, 0.95, 0.99)
"""The shares that people ask for; the first is the one that keep rank and reduction are told at."""

SERVED_RANK = 16
"""``max_lora_rank`` of vLLM where its operator names none (vllm/config/lora.py)."""

MOST_SHARES = 9


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """Options of :func:`lorarank.audit.audit`; the command line reads its defaults from here.

    Parameters
    ----------
    energy : shares of Σσ² whose ranks are told, each in (0, 1]; the first is that of keep rank and reduction.
    served_rank : the largest rank that the serving engine takes.
    fail_if : expression on findings and quantities, see :mod:`lorarank.audit.condition`; ``None`` asks nothing.

    Raises
    ------
    OptionError
        A value out of its range, or an expression that is none.

    Examples
    --------
    >>> AuditOptions(fail_if="dead > 0").energy
    (0.9, 0.95, 0.99)
    """

    energy: tuple[float, ...] = ENERGY
    served_rank: int = SERVED_RANK
    fail_if: str | None = None
    condition: Condition | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        """Refuse what cannot work, before anything is read."""
        settle(self)
        if not 0 < len(self.energy) <= MOST_SHARES:
            raise OptionError("--energy", f"{len(self.energy)} shares", do=f"name between 1 and {MOST_SHARES}")
        for share in self.energy:
            check_share("--energy", share)
        if len(set(map(percent, self.energy))) < len(self.energy):
            raise OptionError("--energy", "names a share twice", do="name each once, in four digits or fewer")
        check_least("--served-rank", self.served_rank)
        if self.fail_if is not None:
            object.__setattr__(self, "condition", Condition.parse(self.fail_if))


def shares(text: str) -> tuple[float, ...]:
    """Shares separated by commas.

    Raises
    ------
    OptionError
        A part that is no number.

    >>> shares("0.9, 0.95")
    (0.9, 0.95)
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise OptionError(f"--energy {text}", "not numbers separated by commas", do="give, say, 0.9,0.95") from None
