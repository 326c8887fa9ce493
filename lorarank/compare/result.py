"""What a comparison answers, as values (floor 2). Nothing here renders or measures.

All of it turns into JSON through :func:`dataclasses.asdict`. "First" and "second" are the adapters as given.
"""

from __future__ import annotations

from dataclasses import dataclass

from lorarank import __version__
from lorarank.compare.verdict import Verdict
from lorarank.result import Result

SCHEMA = 1


@dataclass(frozen=True)
class Spans:
    """How the spans of the leading ``k`` singular vectors of two updates lie to each other, on one side.

    ``agreement`` is the mean squared cosine of the principal angles, ``chance`` its mean for random subspaces (k over
    the dimension), and the angles are in degrees.
    """

    k: int
    agreement: float
    chance: float
    smallest_angle: float
    median_angle: float
    largest_angle: float


@dataclass(frozen=True)
class ComparedModule:
    """One module that both adapters change. ``first_replicates`` counts the leading components of the first update that
    predict the second, ``second_replicates`` the other way; ``out`` and ``into`` are ``None`` for a zero update.
    """

    name: str
    type: str
    out_features: int
    in_features: int
    first_r: int
    second_r: int
    first_norm: float
    second_norm: float
    agreement: float
    first_replicates: int
    second_replicates: int
    out: Spans | None
    into: Spans | None
    verdict: Verdict


@dataclass(frozen=True)
class ComparedGroup:
    """Modules of one type, or all of them.

    ``agreement`` is that of the updates of all its modules laid side by side, the norms are theirs; replicated ranks
    are medians and subspace agreements means over modules, weighted by the product of the norms.
    """

    type: str
    modules: int
    first_norm: float
    second_norm: float
    agreement: float
    first_replicates: float
    second_replicates: float
    out: float
    into: float
    verdict: Verdict


@dataclass(frozen=True)
class OneSided:
    """A module that cannot be compared: ``why`` is "only in the first", "only in the second" or "other shape"."""

    name: str
    why: str


@dataclass(frozen=True)
class ComparedAdapter:
    """One of the two. ``compared`` is the share of its energy in the modules that were compared."""

    source: str
    format: str
    base_model: str | None
    r: tuple[int, ...]
    modules: int
    parameters: int
    compared: float


@dataclass(frozen=True)
class Compared(Result):
    """Two adapters beside each other.

    Attributes
    ----------
    first, second : what they are.
    whole, types, modules : of the modules that both change, in the same shape.
    one_sided : the others.
    notes : sentences about what a reader of the numbers has to know.
    schema, lorarank : version of this layout, and of the package.
    """

    first: ComparedAdapter
    second: ComparedAdapter
    whole: ComparedGroup
    types: tuple[ComparedGroup, ...]
    modules: tuple[ComparedModule, ...]
    one_sided: tuple[OneSided, ...]
    notes: tuple[str, ...] = ()
    schema: int = SCHEMA
    lorarank: str = __version__
