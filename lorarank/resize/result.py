"""What a resize answers, as values (floor 2). Nothing here renders or measures.

All of it turns into JSON through :func:`dataclasses.asdict`. Energies are in the metric of the cut.
"""

from __future__ import annotations

from dataclasses import dataclass

from lorarank import __version__
from lorarank.result import Result

SCHEMA = 1


@dataclass(frozen=True)
class ResizedModule:
    """One module before and after; a new r of 0 means that it is left out.

    ``energy`` is its share of that of all modules (``None`` where it was not measured, since nothing was cut),
    ``dropped`` the share of its own that is gone, and ``scaling`` what the new product is multiplied by.
    """

    name: str
    type: str
    out_features: int
    in_features: int
    r_before: int
    r: int
    scaling_before: float
    scaling: float
    parameters_before: int
    parameters: int
    energy: float | None
    dropped: float


@dataclass(frozen=True)
class MeasuredLoss:
    """What a run has measured of the same cut: the loss at ``k`` above that of the whole probe, as a share of the gain,
    with its standard error. ``k`` = r of the probe is the probe itself.
    """

    k: int
    excess: float
    excess_se: float | None
    documents: int


@dataclass(frozen=True)
class Resized(Result):
    """An adapter that has been written anew.

    Attributes
    ----------
    source, output : from where, and the folder or file it went to.
    criterion : what decided the ranks, in words; empty for a conversion.
    metric : in which the cut is best, and energies are shares.
    format_before, format : of the files.
    dtypes_before, dtypes : of the factors.
    r_before, r : all ranks there are, ascending; modules left out do not count.
    parameters_before, parameters : numbers in all factors.
    bytes_before, bytes : of the tensors, what is carried included; before is ``None`` where it is not known.
    carried : tensors copied byte for byte.
    dropped : share of all modules' energy that is gone.
    loss : what the run has measured of this cut, if it has.
    modules : all of them, in the adapter's order.
    notes : sentences on what a user of the result has to know.
    command : what was run, for the record.
    schema, lorarank : version of this layout, and of the package.
    """

    source: str
    output: str
    criterion: str
    metric: str
    format_before: str
    format: str
    dtypes_before: tuple[str, ...]
    dtypes: tuple[str, ...]
    r_before: tuple[int, ...]
    r: tuple[int, ...]
    parameters_before: int
    parameters: int
    bytes_before: int | None
    bytes: int
    carried: int
    dropped: float
    loss: MeasuredLoss | None
    modules: tuple[ResizedModule, ...]
    notes: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    schema: int = SCHEMA
    lorarank: str = __version__

    @property
    def rounded(self) -> bool:
        """Whether factors are stored in another dtype than they were."""
        return self.dtypes != self.dtypes_before

    @property
    def cut(self) -> bool:
        """Whether any rank is smaller than it was."""
        return any(module.r < module.r_before for module in self.modules)
