"""LoRA of torchtune in its own names: ``lora_a.weight`` and ``lora_b.weight`` (floor 1).

ΔW = alpha/r · ``lora_b`` @ ``lora_a`` (pytorch/torchtune ``torchtune/modules/peft/lora.py``). For most models torchtune
writes PEFT's names and configuration, which :mod:`lorarank.adapters.peft` reads; in its own names it leaves r and alpha
to an ``adapter_config.json``, and for some models writes none (``torchtune/training/checkpointing/_checkpointer.py``).
The experts of a layer are parameters in stacks, the other way round: ``lora_gate_a`` (E, in, r), ``lora_gate_b``
(E, r, out) (``LoRAGroupedExperts``, ``torchtune/modules/moe/experts.py``).
"""

from __future__ import annotations

import re

from lorarank.adapters.adapter import Adapter
from lorarank.adapters.candidate import Candidate
from lorarank.adapters.factors import assemble, build, factor_shape
from lorarank.adapters.named_factors import Role, by_side, collect
from lorarank.adapters.peft_config import FILE_NAME, NOTES, read_config
from lorarank.adapters.stacks import Stacks, before_last
from lorarank.adapters.tool_names import ToolNames
from lorarank.errors import AdapterError

HUB_FILES = (FILE_NAME, "adapter_model*.safetensors", "adapter_model*.pt", "adapter_[0-9]*.pt")
"""What is fetched of an adapter on the hub."""

FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<side>[ab])\.weight")

UNSCALED = f"No {FILE_NAME} lies beside it, which would hold alpha: scaling 1 is assumed."

EXPERTS = ToolNames(
    re.compile(r"(?P<module>.+)\.lora_(?P<name>gate|up|down)_(?P<part>[ab])"), {"a": "A", "b": "B"}, "lora_gate_a"
)
"""The factors of a stack of experts."""


def role_of(key: str) -> Role | None:
    """What a tensor is, by its name."""
    return linear_role(key) or EXPERTS.role_of(key)


linear_role = by_side(FACTOR)
"""What a tensor of a single layer is."""


def recognises(candidate: Candidate) -> bool:
    """Whether any tensor is named as torchtune names factors.

    >>> FACTOR.fullmatch("layers.0.attn.q_proj.lora_a.weight")["module"]
    'layers.0.attn.q_proj'
    >>> role_of("layers.0.mlp.w1.lora_b.weight"), role_of("layers.0.mlp.w1.magnitude")
    (('layers.0.mlp.w1', 'B'), None)
    >>> role_of("layers.0.mlp.experts.lora_gate_a")
    ('layers.0.mlp.experts.gate', 'A')
    """
    return candidate.has(FACTOR) or candidate.has(EXPERTS.pattern)


def read(candidate: Candidate) -> Adapter:
    """Read an adapter of torchtune.

    Raises
    ------
    AdapterError
        Factors that do not fit each other or the configuration.
    """
    store = candidate.tensors
    found, carried = collect(store.tensors, role_of, store.path)
    config = None if candidate.config is None else read_config(candidate.config)
    scaling = 1.0 if config is None else config.alpha / config.r
    stacks, modules = Stacks(store), []
    for one in found:
        stacked = linear_role(one.A) is None
        rows = factor_shape(store, one.A)[-1 if stacked else 0]
        if config is not None and rows != config.r:
            raise AdapterError(
                f"{store.path}: {one.A}",
                f"has r = {rows} where {FILE_NAME} says r = {config.r}",
                why="its scaling is unknown",
                do=f"take the {FILE_NAME} saved with the weights",
            )
        if stacked:
            modules += stacks.modules(one, scaling, before_last(f"{one.module}_proj"), transposed="AB")
        else:
            modules.append(build(store, one, scaling))
    notes = [UNSCALED] if config is None else list(config.notes)
    if any(key.endswith(".magnitude") for key in carried):
        notes.append(NOTES["use_dora"])
    return assemble(
        candidate,
        "torchtune",
        modules,
        carried,
        notes=notes,
        base_model=None if config is None else config.base_model,
        config={} if config is None else config.raw,
    )
