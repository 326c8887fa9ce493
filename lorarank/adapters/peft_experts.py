"""Factors of parameters that PEFT targets directly, as those of stacked experts are (floor 1).

PEFT wraps a module once for each of its targeted parameters, the first registered innermost, and stores nothing but
``experts.lora_A`` for the outermost and ``experts.base_layer.lora_A`` for the next (``ParamWrapper`` in
``peft.tuners.lora.layer``). Which parameter a wrapper is for has to be found from the names in ``target_parameters``.
The factors of E experts lie in one tensor each: ``lora_A`` (E·r, in), an expert's rows together; ``lora_B`` (out, r·E),
an expert's columns E apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from lorarank.adapters.adapter import Stored
from lorarank.adapters.patterns import full_matches
from lorarank.adapters.peft_keys import Pair, without_wrappers
from lorarank.adapters.tensors import Store, read_finite

MOST_MODULES = 300_000
"""Six times as many as the largest mixtures of experts have, each expert counted."""

MOST_EXPERTS = 10_000
"""In one stack; the largest have 512."""

REGISTERED = ("gate_up_proj", "gate_proj", "up_proj", "down_proj")
"""The order in which the mixtures of experts of transformers register their parameters."""


class Parameter(NamedTuple):
    """The name of a targeted parameter; ``certain`` is false where the name only counts the wrappers."""

    name: str
    certain: bool = True


def parameters_of(
    pairs: Iterable[Pair], target_modules: Sequence[str] | str, target_parameters: Sequence[str], where: str = ""
) -> Mapping[Pair, Parameter]:
    """The pairs that belong to targeted parameters, and to which.

    Parameters
    ----------
    pairs : of the whole adapter.
    target_modules : of the configuration; suffixes of module paths, or a regular expression.
    target_parameters : likewise; suffixes of parameter paths.
    where : the configuration, for messages.

    Raises
    ------
    AdapterError
        The regular expression is none, or takes too long to match.

    >>> pairs = [Pair("mlp.experts", False, "a", "b"), Pair("mlp.experts.base_layer", False, "c", "d")]
    >>> found = parameters_of(pairs, [], ["experts.down_proj", "experts.gate_up_proj"])
    >>> found[pairs[0]].name, found[pairs[1]].name
    ('down_proj', 'gate_up_proj')
    """
    if not target_parameters:
        return {}
    wrapped: dict[str, list[Pair]] = {}
    for pair in pairs:
        if not pair.embedding:
            wrapped.setdefault(without_wrappers(pair.module), []).append(pair)
    targeted = {module: _targeted(module, target_parameters, len(levels)) for module, levels in wrapped.items()}
    doubtful = [module for module, names in targeted.items() if names]
    if isinstance(target_modules, str):
        whole = full_matches(target_modules, doubtful, f"{where}: target_modules")
    else:
        whole = frozenset(module for module in doubtful if any(_ends(module, target) for target in target_modules))
    found: dict[Pair, Parameter] = {}
    for module, levels in wrapped.items():
        names = targeted[module]
        if not names or module in whole:
            continue
        levels.sort(key=lambda pair: -pair.module.count(".base_layer"))  # innermost first
        if len(names) == len(levels) and (len(names) == 1 or set(names) <= set(REGISTERED)):
            names.sort(key=lambda name: REGISTERED.index(name) if name in REGISTERED else 0)
            found.update(zip(levels, map(Parameter, names), strict=True))
        else:
            found.update({pair: Parameter(f"parameter_{i}", certain=False) for i, pair in enumerate(levels)})
    return found


def _targeted(module: str, target_parameters: Sequence[str], levels: int) -> list[str]:
    """Names that may be of a module's parameters: those behind its own name, where they are as many as its wrappers.

    >>> _targeted("mlp.gate", ["gate_up_proj", "down_proj", "gate.weight"], 1)  # of "all-linear", in PEFT 0.21
    ['weight']
    """
    targets = [target.rpartition(".") for target in target_parameters]
    own = dict.fromkeys(name for parent, _, name in targets if parent and _ends(module, parent))
    any_module = dict.fromkeys(name for parent, _, name in targets if not parent or _ends(module, parent))
    return list(own if len(own) == levels else any_module)


def _ends(module: str, target: str) -> bool:
    return module == target or module.endswith(f".{target}")


class ExpertFactors:
    """Factors of single experts in a store; the pair read last is kept, since its experts are asked for in a row."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._latest: tuple[Pair, Stored] | None = None

    def of(self, pair: Pair, expert: int, experts: int) -> Stored:
        """``lora_A`` (r, in) and ``lora_B`` (out, r) of one expert out of ``experts``."""
        latest = self._latest
        if latest is None or latest[0] != pair:
            self._latest = None  # so that two pairs are never held at once
            latest = pair, (read_finite(self._store, pair.A), read_finite(self._store, pair.B))
            self._latest = latest
        lora_A, lora_B = latest[1]
        r = len(lora_A) // experts
        return lora_A[expert * r : (expert + 1) * r].copy(), lora_B[:, expert::experts].copy()
