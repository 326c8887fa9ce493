"""What a resize and a conversion can be asked (floor 2): every option with its one default."""

from __future__ import annotations

from dataclasses import dataclass

from lorarank.choices import FORMATS, check_metric
from lorarank.errors import OptionError
from lorarank.typed import settle

DTYPES = ("float32", "float16", "bfloat16")
"""What factors can be stored as."""

CRITERIA = ("rank", "energy", "params", "threshold_global", "keep_loss")
"""Options of which a resize takes exactly one."""


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """Options of :func:`lorarank.resize.convert`; the command line reads its defaults from here.

    Parameters
    ----------
    to : format to write; ``None`` keeps that of the input.
    dtype : what factors are stored as; ``None`` keeps that of each.
    bake_alpha : multiply the scaling into the factors, so that alpha = r and the scaling is 1.
    base : the model that it is for (a folder, a config.json or a hub id), where another format needs paths or the
        number of heads, which the adapter's own names do not tell; no weights are read.

    Raises
    ------
    OptionError
        A value out of its range.

    >>> ConvertOptions(to="diffusers").bake_alpha
    False
    """

    to: str | None = None
    dtype: str | None = None
    bake_alpha: bool = False
    base: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        settle(self)
        for option, value, allowed in (("--to", self.to, FORMATS), ("--dtype", self.dtype, DTYPES)):
            if value is not None and value not in allowed:
                raise OptionError(f"{option} {value}", "it is none that is written", do=f"give {', '.join(allowed)}")


@dataclass(frozen=True, kw_only=True)
class ResizeOptions(ConvertOptions):
    """Options of :func:`lorarank.resize.resize`; exactly one of :data:`CRITERIA` is given.

    Parameters
    ----------
    rank : k, the same for every module; modules that have fewer keep theirs.
    energy : share of Σσ² to keep, in (0, 1].
    params : most numbers in all factors together.
    threshold_global : τ in [0, 1): of all modules' σ pooled, those above τ times the largest are kept.
    keep_loss : most that the held-out loss may rise, as a share of the probe's gain, in (0, 1); needs a run.
    per_module : a rank for each module rather than one for all; ``None`` is what goes with the criterion.
    metric : in which σ is taken and the cut is best; all but ``weight`` need the moments of a run.
    pad : fill factors up with zeros where ``rank`` is above theirs, instead of refusing.

    Raises
    ------
    OptionError
        Not exactly one criterion, a value out of its range, or options that contradict each other.

    >>> ResizeOptions(rank=8).energy is None
    True
    """

    rank: int | None = None
    energy: float | None = None
    params: int | None = None
    threshold_global: float | None = None
    keep_loss: float | None = None
    per_module: bool | None = None
    metric: str = "weight"
    pad: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        super().__post_init__()
        given = [name for name in CRITERIA if getattr(self, name) is not None]
        flags = [f"--{name.replace('_', '-')}" for name in given or CRITERIA]
        if len(given) != 1:
            what = "are given together" if given else "are the ways to say how small, and none is given"
            raise OptionError(", ".join(flags), what, do="give exactly one of them")
        (name,), (flag,) = given, flags
        value = getattr(self, name)
        ok, range_ = _allowed(name, value)
        if not ok:
            raise OptionError(f"{flag} {value:g}", f"it must be {range_}")
        check_metric(self.metric)
        if self.pad and name != "rank":
            raise OptionError("--pad", f"{flag} never asks for more than there is", do="leave it out")
        if self.per_module and name == "rank":
            raise OptionError("--per-module", "--rank gives every module the same", do="give --params or --energy")
        if self.per_module and name == "keep_loss":
            raise OptionError(
                "--per-module",
                "--keep-loss needs one rank for all",
                why="the run has measured the loss of uniform cuts only",
                do="leave it out, or give --params",
            )
        if self.per_module is False and name == "threshold_global":
            raise OptionError("--uniform", "one threshold for all modules gives each its own rank", do="leave it out")

    @property
    def criterion(self) -> str:
        """The one of :data:`CRITERIA` that is given."""
        return next(name for name in CRITERIA if getattr(self, name) is not None)

    @property
    def flag(self) -> str:
        """The same as an option of the command line."""
        return f"--{self.criterion.replace('_', '-')}"


def _allowed(name: str, value: float) -> tuple[bool, str]:
    """Whether a criterion's value is in its range, and which that is; NaN is in none."""
    if name == "energy":
        return 0 < value <= 1, "a share above 0 and at most 1, such as 0.9"
    if name == "threshold_global":
        return 0 <= value < 1, "from 0 to below 1, a share of the largest singular value, such as 0.05"
    if name == "keep_loss":
        return 0 < value < 1, "a share of the gain between 0 and 1, such as 0.01"
    return value >= 1, "at least 1"
