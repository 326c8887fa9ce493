"""From a rank to something that can be pasted: cost, ranks under a budget, PEFT's configuration (floor 2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from lorarank.adapters.patterns import pattern_keys
from lorarank.errors import OptionError
from lorarank.estimate.recommendation import Allocation, Alpha, Config, Cost
from lorarank.heuristics import LORA_DROPOUT
from lorarank.numerics.allocation import allocate
from lorarank.numerics.pooling import share_kept
from lorarank.spectrum import Spectrum


def cost_at(r: int, modules: Sequence[Spectrum], base_parameters: int) -> Cost:
    """Exact trainable parameters at one rank for all modules, and their share of the base's.

    >>> module = Spectrum("q", "q", None, 60, 40, 8, 1.0, 800, np.ones(8))
    >>> cost_at(4, [module], 4000)
    Cost(parameters=400, parameters_per_rank=100, base_parameters=4000, share=0.1)
    """
    per_rank = sum(module.parameters_per_rank for module in modules)
    parameters = r * per_rank
    return Cost(parameters, per_rank, base_parameters, parameters / base_parameters if base_parameters else 0.0)


def allocation_for(modules: Sequence[Spectrum], budget: int) -> Allocation:
    """A rank per module by energy per parameter, never above the budget, beside the largest uniform rank that fits.

    Raises
    ------
    OptionError
        The budget does not pay for a single direction.
    """
    costs = [module.parameters_per_rank for module in modules]
    spectra = [module.singular_values for module in modules]
    ranks = allocate(spectra, costs, budget)
    if not any(ranks):
        raise OptionError(f"--budget {budget}", f"one rank of one module takes {min(costs)} parameters or more")
    # relative to the largest σ, so that no square overflows; an allocation exists, so it is not zero
    peak = max(float(values[0]) for values in spectra if values.size)
    energy = [np.square(values / peak) for values in spectra]
    kept = sum(float(e[:r].sum()) for e, r in zip(energy, ranks, strict=True)) / sum(float(e.sum()) for e in energy)
    uniform = budget // sum(costs)
    return Allocation(
        budget=budget,
        parameters=sum(r * cost for r, cost in zip(ranks, costs, strict=True)),
        ranks={module.module: r for module, r in zip(modules, ranks, strict=True)},
        kept=kept,
        uniform_r=uniform,
        uniform_parameters=uniform * sum(costs),
        uniform_kept=share_kept(spectra, uniform) if uniform else 0.0,
    )


def config_for(
    r: int,
    alpha: Alpha,
    target_modules: tuple[str, ...],
    *,
    allocation: Allocation | None = None,
    fan_in_fan_out: bool = False,
) -> Config:
    """``LoraConfig`` arguments: uniform, or with the rank and alpha patterns of an allocation.

    With an allocation ``r`` is its most frequent rank, the patterns hold the others, and every module has the scaling
    that ``alpha`` gives the uniform rank; modules with rank 0 are left out of ``target_modules``.
    """
    rank_pattern: dict[str, int] = {}
    alpha_pattern: dict[str, int] = {}
    lora_alpha = alpha.lora_alpha
    if allocation is not None:
        scaling = 2 if alpha.convention == "2r" else 1
        taken = {name: rank for name, rank in allocation.ranks.items() if rank > 0}
        r = max(Counter(taken.values()).items(), key=lambda item: (item[1], item[0]))[0]
        lora_alpha = scaling * r
        keys = pattern_keys(taken)
        rank_pattern = {keys[name]: rank for name, rank in taken.items() if rank != r}
        alpha_pattern = {key: scaling * rank for key, rank in rank_pattern.items()}
        if len(taken) < len(allocation.ranks):
            target_modules = tuple(taken)
    return Config(
        task_type="CAUSAL_LM",
        r=r,
        lora_alpha=lora_alpha,
        lora_dropout=LORA_DROPOUT,
        target_modules=target_modules,
        bias="none",
        fan_in_fan_out=fan_in_fan_out,
        rank_pattern=rank_pattern,
        alpha_pattern=alpha_pattern,
    )
