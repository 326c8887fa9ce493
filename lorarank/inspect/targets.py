"""Which modules a target set or a pattern means (floor 2)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lorarank.errors import OptionError
from lorarank.inspect.layers import LINEAR, Layer, Layers
from lorarank.module_names import TARGET_SETS
from lorarank.wording import nearest

RENAMED = {
    "mixtral": frozenset({"gate", "w1", "w2", "w3"}),
    "qwen2_moe": frozenset({"gate", "gate_proj", "up_proj", "down_proj"}),
}
"""Families of mixtures of experts that transformers 5 loads with stacked experts → names in them that PEFT maps to the
parameters of stacks and routers (``peft.utils.transformers_weight_conversion``, 0.21)."""

FUSED, FUSED_MATRICES = "gate_up_proj", 2
"""The stack that holds two matrices an expert; PEFT gives it as many times the rank, so that each can have its own."""

NAMES = re.compile(r"[\w.\- ]+(,[\w.\- ]+)*", re.ASCII)
"""Names with commas between them; anything else is a regular expression."""

SUFFIX_RULE = "module names: a path is hit that is one of them, or ends in a dot and one of them"
REGEX_RULE = "a regular expression: a path is hit that it matches from end to end"
SET_RULES = {
    "qv": "a set that PEFT has no word for: query and value projections",
    "attention": "a set that PEFT has no word for: linear layers inside attention",
    "all-linear": "PEFT's shorthand: all linear layers but the output layer",
}
"""How each of :data:`~lorarank.module_names.TARGET_SETS` is read where it stands for a pattern."""

WITH_EXPERTS = "with experts"
"""What PEFT makes of "all-linear" in a family of :data:`RENAMED`, as a target set."""


def in_set(layer: Layer, name: str) -> bool:
    """Whether one of :data:`~lorarank.module_names.TARGET_SETS` holds a layer.

    >>> layer = Layer("h.0.attn.c_proj", "Conv1D", 768, 768)
    >>> [in_set(layer, name) for name in TARGET_SETS]
    [False, True, True]
    """
    return layer.kind in LINEAR and TARGET_SETS[name](layer.name)


def with_experts(found: Layers) -> list[Layer]:
    """What PEFT 0.21 adapts in these families where it is told "all-linear": stacks and routers as well.

    Linear layers that are called as the experts' were, those of shared experts, are not adapted then.
    """
    renamed = RENAMED[found.family]
    return [
        layer
        for layer in found.layers
        if layer.kind in ("experts", "router") or (in_set(layer, "all-linear") and layer.type not in renamed)
    ]


def named_set(text: str, family: str) -> str | None:
    """The target set that a text names, as PEFT reads "all-linear" in the family; ``None`` where it is a pattern.

    >>> named_set("qv", ""), named_set("all-linear", ""), named_set("all-linear", "mixtral"), named_set("q_proj", "")
    ('qv', 'all-linear', 'with experts', None)
    """
    name = text.strip().lower()
    if family and name in ("all-linear", WITH_EXPERTS):
        return WITH_EXPERTS
    return name if name in TARGET_SETS else None


@dataclass(frozen=True)
class Pattern:
    """What ``LoraConfig.target_modules`` would be: a regular expression, or names.

    ``rule`` says how it is read.
    """

    text: str
    names: tuple[str, ...]
    expression: re.Pattern[str] | None
    rule: str

    def hits(self, path: str) -> bool:
        """Whether PEFT would adapt the module at ``path``."""
        if self.expression is not None:
            return self.expression.fullmatch(path) is not None
        return any(path == name or path.endswith(f".{name}") for name in self.names)


def parse(text: str) -> Pattern:
    """A pattern by PEFT's own rule (``peft.tuners.tuners_utils.check_target_module_exists``, 0.21).

    A list of names hits the paths that end in one of them, a single string is a regular expression for the whole path.
    Names alone, with commas between them, are taken for such a list, as everywhere on this command line.

    Raises
    ------
    OptionError
        It is no valid regular expression.

    >>> parse("q_proj,v_proj").hits("model.layers.0.self_attn.q_proj")
    True
    >>> parse(r".*\\.q_proj").hits("model.layers.0.self_attn.q_proj"), parse("^q_proj$").hits("h.0.q_proj")
    (True, False)
    """
    if NAMES.fullmatch(text):
        names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
        return Pattern(text, names, None, SUFFIX_RULE)
    try:
        return Pattern(text, (), re.compile(text), REGEX_RULE)
    except (re.error, RecursionError, OverflowError) as error:
        raise OptionError(f"--target {text}", f"neither module names nor a regular expression ({error})") from None


def missing(pattern: Pattern, layers: Sequence[Layer]) -> tuple[str, ...]:
    """Names of a pattern that hit nothing."""
    return tuple(name for name in pattern.names if not any(f".{layer.name}".endswith(f".{name}") for layer in layers))


def probably_meant(text: str, layers: Sequence[Layer]) -> str | None:
    """For a pattern that hits nothing: each name in it as the nearest type of linear layer or target set.

    ``None`` where one of them is like nothing there is.

    >>> layers = [Layer(f"h.0.attn.{name}", "linear", 64, 64) for name in ("q_proj", "v_proj")]
    >>> probably_meant("qproj,vproj", layers), probably_meant("atention", layers), probably_meant("xyz", layers)
    ('q_proj,v_proj', 'attention', None)
    """
    known = [*dict.fromkeys(layer.type for layer in layers if layer.kind in LINEAR), *TARGET_SETS]
    near = [nearest(name.strip().rsplit(".", 1)[-1], known) for name in text.split(",")]
    return ",".join(dict.fromkeys(name for name in near if name)) if all(near) else None
