"""What an inspection answers, as values (floor 2)."""

from __future__ import annotations

from dataclasses import dataclass

from lorarank import __version__
from lorarank.inspect.layers import Layer
from lorarank.result import Result

SCHEMA = 1

FLOAT_BYTES, HALF_BYTES = 4, 2
"""Bytes of a float32 and of a bfloat16 or float16."""

ADAM_MOMENTS = 2
"""Running means that Adam and AdamW keep for every trainable parameter (D. Kingma and J. Ba, Adam, 2015,
arXiv:1412.6980, algorithm 1)."""


@dataclass(frozen=True)
class Cost:
    """LoRA of one rank on some modules.

    Attributes
    ----------
    r : the rank.
    parameters : trainable ones, r·Σ(in + out).
    share : of the parameters of the base model, 0 to 1.

    >>> cost = Cost(16, 13_631_488, 13_631_488 / 8_030_261_248)
    >>> cost.adapter_bytes, cost.optimizer_bytes, cost.training_bytes, cost.half_file_bytes
    (54525952, 109051904, 218103808, 27262976)
    """

    r: int
    parameters: int
    share: float

    @property
    def adapter_bytes(self) -> int:
        """The factors in float32: in memory, where PEFT keeps them so (``autocast_adapter_dtype``), and on disk."""
        return FLOAT_BYTES * self.parameters

    @property
    def gradient_bytes(self) -> int:
        """Their gradients, in float32."""
        return FLOAT_BYTES * self.parameters

    @property
    def optimizer_bytes(self) -> int:
        """State of AdamW in float32: two moments for every parameter."""
        return ADAM_MOMENTS * FLOAT_BYTES * self.parameters

    @property
    def training_bytes(self) -> int:
        """Factors, gradients and optimiser state. Activations and the base model come on top."""
        return self.adapter_bytes + self.gradient_bytes + self.optimizer_bytes

    @property
    def half_file_bytes(self) -> int:
        """The factors on disk in bfloat16 or float16."""
        return HALF_BYTES * self.parameters


@dataclass(frozen=True)
class TypeRow:
    """Modules of one type, kind and shape, in the same target sets.

    Attributes
    ----------
    type : last part of their paths.
    kind : see :class:`~lorarank.inspect.layers.Layer`.
    modules : how many; ``stack`` experts in each, 1 where it is no stack.
    out_features, in_features : shape of the map; of a convolution, in = input channels × kernel size.
    parameters_per_rank : of all of them together.
    sets : names of the target sets that hold them all.
    example : path of the first.
    """

    type: str
    kind: str
    modules: int
    stack: int
    out_features: int
    in_features: int
    parameters_per_rank: int
    sets: tuple[str, ...]
    example: str


@dataclass(frozen=True)
class TargetSet:
    """Modules to put LoRA on.

    Attributes
    ----------
    name : ``qv``, ``attention``, ``all-linear``, or the pattern.
    names : last parts of their paths, sorted.
    modules : their paths, in the model's order.
    parameters_per_rank : Σ(in + out).
    costs : at the ranks asked for.
    """

    name: str
    names: tuple[str, ...]
    modules: tuple[str, ...]
    parameters_per_rank: int
    costs: tuple[Cost, ...]


@dataclass(frozen=True)
class Inspection(Result):
    """A base model as LoRA sees it.

    Attributes
    ----------
    source : the model as it was named.
    model_type : of its configuration; "" where there is none.
    basis : where names and shapes come from.
    parameters : of the model, tied ones once.
    layers : everything that can be adapted, in the model's order.
    types : the same by type, kind, shape and target sets.
    sets : qv, attention and all-linear, without empty ones; then what was asked for, one of them or a pattern.
    ranks : those whose costs are told.
    rule : how the pattern was read; ``None`` without one.
    notes : sentences on what a user of the numbers has to know.
    schema, lorarank : version of this layout, and of the package.
    """

    source: str
    model_type: str
    basis: str
    parameters: int
    layers: tuple[Layer, ...]
    types: tuple[TypeRow, ...]
    sets: tuple[TargetSet, ...]
    ranks: tuple[int, ...]
    rule: str | None = None
    notes: tuple[str, ...] = ()
    schema: int = SCHEMA
    lorarank: str = __version__
