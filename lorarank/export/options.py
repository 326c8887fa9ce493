"""What an export can be asked (floor 3): every option with its one default."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from lorarank.choices import check_keep_loss, check_least
from lorarank.errors import OptionError
from lorarank.estimate.options import EstimateOptions
from lorarank.typed import settle
from lorarank.wording import nearest

NAMES = {
    "peft": "PEFT",
    "trl": "TRL",
    "axolotl": "axolotl",
    "llamafactory": "LLaMA-Factory",
    "unsloth": "Unsloth",
    "torchtune": "torchtune",
    "mlx": "MLX-LM",
    "vllm": "vLLM",
}
"""Tools whose keys are known → as they write themselves."""

TOOLS = tuple(NAMES)

WITH_PATTERNS = ("peft", "trl", "axolotl", "unsloth")
"""Those among them that take a rank for each module."""

ANY_MODEL = ("peft", "trl")
"""Those whose export holds for other models than causal language models."""


@dataclass(frozen=True)
class ExportOptions:
    """Options of :func:`lorarank.export.export`.

    Parameters
    ----------
    to : one of :data:`TOOLS`.
    per_module : a rank for each module, as many parameters in all; a run only.
    budget : of those parameters; ``None`` takes what one rank for all costs.
    rank : this rank instead of the recommended one, or of the adapter's own.
    keep_loss, tokens : for the recommended one, as in :class:`~lorarank.estimate.options.EstimateOptions`; a run only.
    qlora : with the base in 4 bits: nf4, double quantisation, bf16 compute.

    Raises
    ------
    OptionError
        A value out of its range, a budget without ``per_module``, or ``keep_loss`` or ``tokens`` beside ``rank``.

    Examples
    --------
    >>> ExportOptions("peft").rank is None
    True
    """

    to: str
    _: KW_ONLY
    per_module: bool = False
    budget: int | None = None
    rank: int | None = None
    keep_loss: float = EstimateOptions.keep_loss
    tokens: int | None = EstimateOptions.tokens
    qlora: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        settle(self)
        if self.to not in TOOLS:
            near = nearest(self.to, TOOLS)
            meant = f"did you mean {near}? Choose" if near else "choose"
            raise OptionError(f"--to {self.to}", "no such tool", do=f"{meant} among: {', '.join(TOOLS)}")
        check_least("--rank", self.rank)
        check_least("--budget", self.budget)
        check_keep_loss(self.keep_loss)
        check_least("--tokens", self.tokens)
        asked = self.for_estimate
        if self.rank is not None and asked is not None:
            raise OptionError(asked, "--rank sets the rank already", do="give one of the two")
        if self.budget is not None and not self.per_module:
            raise OptionError("--budget", "it is for a rank for each module", do="add --per-module, or give --rank")

    @property
    def for_estimate(self) -> str | None:
        """An option that was given and asks an estimate, if one was."""
        given = {
            "--keep-loss": self.keep_loss != EstimateOptions.keep_loss,
            "--tokens": self.tokens != EstimateOptions.tokens,
        }
        return next((option for option, was_given in given.items() if was_given), None)
