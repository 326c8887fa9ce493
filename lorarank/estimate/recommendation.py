"""What an estimate answers, as values (floor 2). Everything a report shows is here; nothing here renders or measures.

All of it turns into JSON through :func:`dataclasses.asdict`. Losses are in nats per target token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lorarank import __version__
from lorarank.capacity import CapacityFloor, Recall
from lorarank.estimate.constants import CUT_FACTOR, LOSS_SHARE, TOLD_LOSSES
from lorarank.heuristics import Comparison
from lorarank.result import Result
from lorarank.runs import Controls

SCHEMA = 1


@dataclass(frozen=True)
class Reading:
    """One way to read the train rank from the same evidence, and what it gives, on the ladder."""

    source: str
    r: int


@dataclass(frozen=True)
class Interval:
    """The envelope of the readings. It is not a calibrated confidence level."""

    low: int
    high: int
    readings: tuple[Reading, ...]


@dataclass(frozen=True)
class EnergyRule:
    """What the energy says: the ``median`` of the modules' energy ranks at ``share``, ``r`` on the ladder, and the
    ``pooled`` rank that keeps ``share`` of all modules' energy together. ``kept`` is what ``r`` keeps of it.
    """

    share: float
    explicit: bool
    median: float
    r: int
    pooled: int
    kept: float


def cut_share(allowed: float) -> float:
    """Share of the gain that a cut may lose where a rank may lose ``allowed``; never more than all of it.

    >>> cut_share(0.01), cut_share(0.75)
    (0.02, 1.0)
    """
    return min(CUT_FACTOR * allowed, 1.0)


@dataclass(frozen=True)
class LowRank:
    """What the same probe loses at a low ``rank``, what it loses cut, and the rank that both ask for.

    ``lost`` is a share of the gain with its standard error, documents and seeds in it; ``needed`` the rank that loses
    what may be lost, ``allowed``, and ``low`` and ``high`` the same on the ladder with the error on either side.
    ``cut`` is the smallest rank to which the probe can be cut and lose at most ``cut_allowed`` of the gain, ``between``
    the geometric mean of both, and ``r`` that on the ladder; or ``needed`` on the ladder, if that is less and
    ``prompts_used`` is false: held-out completions go as well with the prompts of other rows. ``at_cuts`` is what ``r``
    would be were the loss of every cut a standard error less, and more.
    """

    rank: int
    lost: float
    lost_se: float
    needed: float
    cut: int
    between: float
    r: int
    low: int
    high: int
    prompts_used: bool = True
    at_cuts: tuple[int, int] | None = None
    allowed: float = LOSS_SHARE

    @property
    def told(self) -> bool:
        """Whether answers were held against sweeps where so much may be lost, and were right."""
        least, most = TOLD_LOSSES
        return least <= self.allowed <= most

    @property
    def cut_allowed(self) -> float:
        """Share of the gain that the cut may lose."""
        return cut_share(self.allowed)


@dataclass(frozen=True)
class Outlook:
    """What is known of how a longer run would answer.

    ``moves``: whether the companion's distance to the probe goes "up", "down" or "stays" as training ends; by that runs
    were counted beside longer ones (data/evidence/longer-runs.json). ``before`` and ``end`` are by how much the
    companion's training loss exceeds the probe's on the same rows, in the third quarter of training and in the last;
    ``se`` is the standard error of their difference.
    """

    before: float
    end: float
    se: float
    moves: str


@dataclass(frozen=True)
class KeepRank:
    """To which rank the trained update can be cut; ``low`` and ``high`` are the answers one standard error either way.

    ``basis`` is "truncation curve", or "pooled energy" where no loss was measured. ``metric`` is that of the cut;
    ``excess`` is the loss it adds as a share of the gain, ``None`` where nothing less than the whole probe will do.
    """

    r: int
    low: int | None
    high: int | None
    basis: str
    metric: str
    excess: float | None


@dataclass(frozen=True)
class Growth:
    """Energy-weighted mean energy rank three quarters of the way, and at the end."""

    before: float
    end: float
    grows: bool


@dataclass(frozen=True)
class Replication:
    """How far the replicates agree: energy-weighted mean agreement, median and mean replicated rank."""

    adapters: int
    agreement: float
    replicated_median: float
    replicated_mean: float


@dataclass(frozen=True)
class Evidence:
    """What the run measured about itself. ``gain`` is the smallest over replicates, in its standard errors too.

    ``noise`` is the energy-weighted participation ratio as a share of its value for pure noise. ``controls`` is
    ``None`` in runs of an older kind, ``recall`` where held-out rows ask for something else.
    """

    base_loss: float
    probe_loss: float
    gain: float
    gain_se: float
    heldout_documents: int
    rank: int
    steps: int
    trained_tokens: int
    epochs: float
    learning_rate: float
    noise: float
    growth: Growth | None
    capacity: CapacityFloor
    controls: Controls | None = None
    recall: Recall | None = None


@dataclass(frozen=True)
class Alpha:
    """``lora_alpha``, by which convention ("2r" or "r"), and a learning rate to start from."""

    lora_alpha: int
    convention: str
    learning_rate: float


@dataclass(frozen=True)
class Cost:
    """Trainable parameters at the recommended r over the probe's modules, and their share of the base's."""

    parameters: int
    parameters_per_rank: int
    base_parameters: int
    share: float


@dataclass(frozen=True)
class Allocation:
    """A rank per module within a budget, beside the largest uniform r that fits; ``kept`` are shares of the energy.

    Modules with rank 0 get no adapter.
    """

    budget: int
    parameters: int
    ranks: Mapping[str, int]
    kept: float
    uniform_r: int
    uniform_parameters: int
    uniform_kept: float


@dataclass(frozen=True)
class Config:
    """Arguments of PEFT's ``LoraConfig``, in its names."""

    task_type: str
    r: int
    lora_alpha: int
    lora_dropout: float
    target_modules: tuple[str, ...]
    bias: str
    fan_in_fan_out: bool
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, int]


@dataclass(frozen=True)
class TypeSummary:
    """Modules of one type. ``excess`` is the loss without them as a share of the gain, with its standard error;
    ``spare`` says whether that is within what may be lost; all three are ``None`` where no loss was measured.
    """

    type: str
    modules: int
    parameters_per_rank: int
    energy: float
    rank: float
    excess: float | None
    excess_se: float | None
    spare: bool | None


@dataclass(frozen=True)
class LayerSummary:
    """Modules of one layer (``None``: outside all layers), their share of the energy, and their median energy rank."""

    layer: int | None
    modules: int
    energy: float
    rank: float


@dataclass(frozen=True)
class ModuleSummary:
    """One module: ``rank`` is its energy rank; for the measures see :mod:`lorarank.numerics.measures`.

    ``replicated`` and ``agreement`` compare replicates, ``None`` where there is one.
    """

    name: str
    type: str
    layer: int | None
    out_features: int
    in_features: int
    r: int
    scaling: float
    parameters: int
    norm: float
    energy: float
    rank: int
    effective_rank: float
    energy_entropy_rank: float
    stable_rank: float
    participation_ratio: float
    numerical_rank: int
    replicated: float | None
    agreement: float | None


@dataclass(frozen=True)
class AdapterSummary:
    """One adapter: what it is, and the rule's reading of it (for a bare adapter a description, not advice)."""

    source: str
    base_model: str | None
    r: tuple[int, ...]
    modules: int
    parameters: int
    median: float
    pooled: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Recommendation(Result):
    """The answer to "which r?", or why there is none.

    Attributes
    ----------
    sources : what was estimated from.
    kind : "run" or "adapters".
    metric : in which singular values were taken.
    heuristics : the reference table beside the answer.
    reasons : how the answer came about, as sentences.
    r : the train rank; ``None`` where refused, and for bare adapters.
    interval, confidence : around ``r``; "high", "medium" or "low".
    doubts : what lowers the confidence, as sentences.
    refusals : why there is no recommendation, as sentences; empty where there is one.
    fallback : the reference table's rank, where refused.
    keep : the keep rank.
    allowed : the share of the gain that may be lost.
    low_rank : what a companion at a low rank and a cut say: ``r`` comes from it, unless an energy was given.
    outlook : how a longer run would answer, by the companion's training.
    rule : what the energy says; without a companion ``r`` comes from it.
    alpha, cost, config : what goes with ``r``; ``None`` without it.
    evidence : what a run measured about itself; ``replication`` likewise, of two or more adapters.
    adapters : each adapter in a line; ``types``, ``layers`` and ``modules`` are those of the first.
    allocation : ranks within a budget, where one was given.
    schema, lorarank : version of this layout, and of the package.
    """

    sources: tuple[str, ...]
    kind: str
    metric: str
    heuristics: Comparison
    reasons: tuple[str, ...]
    r: int | None = None
    interval: Interval | None = None
    confidence: str | None = None
    doubts: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    fallback: int | None = None
    keep: KeepRank | None = None
    allowed: float = LOSS_SHARE
    low_rank: LowRank | None = None
    outlook: Outlook | None = None
    rule: EnergyRule | None = None
    alpha: Alpha | None = None
    cost: Cost | None = None
    evidence: Evidence | None = None
    replication: Replication | None = None
    adapters: tuple[AdapterSummary, ...] = ()
    types: tuple[TypeSummary, ...] = ()
    layers: tuple[LayerSummary, ...] = ()
    modules: tuple[ModuleSummary, ...] = ()
    allocation: Allocation | None = None
    config: Config | None = None
    schema: int = SCHEMA
    lorarank: str = __version__

    @property
    def refused(self) -> bool:
        """Whether the evidence does not carry a recommendation."""
        return bool(self.refusals)
