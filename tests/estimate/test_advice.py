"""Ranks under a budget, pattern keys by PEFT's own rule, and a configuration that evaluates."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorarank.errors import OptionError
from lorarank.estimate import EstimateOptions, recommend
from lorarank.estimate.advice import allocation_for, config_for, pattern_keys
from lorarank.estimate.readings import alpha_for
from lorarank.report.recommended import lora_config
from lorarank.report.recommended_content import headline
from lorarank.runs import Loss
from lorarank.spectrum import Spectrum

Make = Callable[..., Path]


def spectrum(name: str, out_features: int, in_features: int, values: list[float]) -> Spectrum:
    ordered = np.sort(np.array(values))[::-1]
    return Spectrum(name, name, None, out_features, in_features, len(values), 1.0, 0, ordered)


def evaluated(text: str) -> dict[str, Any]:
    return eval(text, {"LoraConfig": dict})


MODULES = st.lists(
    st.tuples(st.integers(1, 50), st.integers(1, 50), st.lists(st.floats(1e-3, 10), min_size=1, max_size=6)),
    min_size=1,
    max_size=6,
).map(lambda drawn: [spectrum(f"layers.{i}.q", *module) for i, module in enumerate(drawn)])


@given(MODULES, st.integers(1, 2000))
def test_an_allocation_never_exceeds_its_budget_and_counts_what_it_spends(modules: list[Spectrum], budget: int) -> None:
    try:
        found = allocation_for(modules, budget)
    except OptionError:
        assert budget < max(module.parameters_per_rank for module in modules)
        return
    spent = sum(found.ranks[module.module] * module.parameters_per_rank for module in modules)
    assert spent == found.parameters <= budget
    assert found.uniform_parameters <= budget < found.uniform_parameters + sum(m.parameters_per_rank for m in modules)
    assert 0 < found.kept <= 1 + 1e-12


@given(MODULES, st.integers(100, 5000))
def test_a_configuration_says_exactly_what_was_allocated(modules: list[Spectrum], budget: int) -> None:
    found = allocation_for(modules, budget)
    config = config_for(8, alpha_for(8, 32, 1e-3), ("q",), allocation=found)
    again = evaluated(lora_config(config))
    for name, rank in found.ranks.items():
        key = pattern_key(again.get("rank_pattern", {}), name)
        if rank == 0:
            assert name not in again["target_modules"]
            continue
        assert again.get("rank_pattern", {}).get(key, again["r"]) == rank
        assert again.get("alpha_pattern", {}).get(key, again["lora_alpha"]) == 2 * rank  # one scaling for all


def pattern_key(patterns: dict[str, int], name: str) -> str:
    """PEFT's rule: the first key that matches."""
    return next((key for key in patterns if re.match(rf"(.*\.)?({key})$", name)), name)


NAMES = st.lists(st.text(alphabet="ab01._[(", min_size=1, max_size=8), min_size=1, max_size=8, unique=True)


@given(NAMES)
def test_a_pattern_key_matches_its_own_module_and_no_other(names: list[str]) -> None:
    for name, key in pattern_keys(names).items():
        assert [other for other in names if re.match(rf"(.*\.)?({key})$", other)] == [name]


def test_ordinary_paths_are_their_own_keys() -> None:
    names = [f"model.layers.{i}.self_attn.{kind}" for i in range(12) for kind in ("q_proj", "k_proj")]
    assert list(pattern_keys(names).values()) == names


def test_a_budget_is_kept_and_stands_beside_the_uniform_rank(make_run: Make) -> None:
    modules = {
        "model.layers.0.self_attn.q_proj": (48, 64, (9.0, 8.0, 7.0, 6.0)),
        "model.layers.1.self_attn.q_proj": (48, 64, (1.0, 0.5)),
    }
    answer = recommend(make_run(modules), EstimateOptions(budget=600))
    found = answer.allocation
    assert found is not None
    assert dict(found.ranks) == {"model.layers.0.self_attn.q_proj": 4, "model.layers.1.self_attn.q_proj": 1}
    assert (found.parameters, found.uniform_r, found.uniform_parameters) == (560, 2, 448)
    assert found.kept > found.uniform_kept
    assert answer.config is not None
    assert set(answer.config.rank_pattern) == set(answer.config.alpha_pattern)
    assert answer.r == 4  # the budget does not move the number, but it is said first that it does not pay for it
    assert headline(answer).endswith("; 600 parameters pay for r = 2 at most in every module.")
    assert headline(recommend(make_run(modules), EstimateOptions(budget=6000))).endswith(".")
    assert "pay for" not in headline(recommend(make_run(modules), EstimateOptions(budget=6000)))


def test_a_refusal_says_that_the_budget_was_not_divided(make_run: Make) -> None:
    answer = recommend(make_run(heldout={"gains": (Loss(-0.5, 0.01),)}), EstimateOptions(budget=600))
    assert answer.refused
    assert answer.allocation is None
    assert any(reason.startswith("The budget of 600 parameters is not divided") for reason in answer.reasons)


def test_a_budget_too_small_for_one_direction_says_so(make_run: Make) -> None:
    with pytest.raises(OptionError, match="--budget 10: one rank of one module takes 96 parameters"):
        recommend(make_run(), EstimateOptions(budget=10))


def test_no_rank_pattern_without_a_budget(make_run: Make) -> None:
    text = lora_config(recommend(make_run()).config)  # type: ignore[arg-type]
    assert evaluated(text) == {
        "task_type": "CAUSAL_LM",
        "r": 2,
        "lora_alpha": 4,
        "lora_dropout": 0.05,
        "target_modules": ["down_proj", "k_proj", "q_proj"],
        "bias": "none",
    }


def test_conv1d_bases_get_their_flag(make_run: Make) -> None:
    answer = recommend(make_run(config={"fan_in_fan_out": True}))
    # planted factors are (in, out) then, so only the flag is looked at
    assert answer.config is None or answer.config.fan_in_fan_out


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "é", "\U0001f600", "\x1b[31m", "\ud800"])
def test_no_name_can_leave_its_quotes(name: str) -> None:
    config = config_for(8, alpha_for(8, 32, 1e-3), (name,))
    text = lora_config(config)
    assert text.isascii()
    assert evaluated(text)["target_modules"] == [name]
    assert len(text.splitlines()) == 8


def test_peft_takes_the_snippet_and_gives_the_ranks(make_run: Make) -> None:
    peft = pytest.importorskip("peft")
    answer = recommend(make_run(), EstimateOptions(budget=1500))
    config = eval(lora_config(answer.config), {"LoraConfig": peft.LoraConfig})  # type: ignore[arg-type]
    from peft.utils.other import get_pattern_key

    assert answer.allocation is not None
    for name, rank in answer.allocation.ranks.items():
        assert config.rank_pattern.get(get_pattern_key(config.rank_pattern, name), config.r) == rank
    assert json.dumps(sorted(config.target_modules))


@pytest.mark.parametrize("probe_alpha", [8, 16, 32, 64, 100])
@pytest.mark.parametrize("r", [1, 2, 4, 8, 16, 32, 64, 128, 256])
def test_alpha_is_r_or_2r_whichever_is_nearer(r: int, probe_alpha: int) -> None:
    found = alpha_for(r, probe_alpha, 1e-3)
    other = {r: 2 * r, 2 * r: r}[found.lora_alpha]
    assert abs(math.log2(found.lora_alpha / probe_alpha)) <= abs(math.log2(other / probe_alpha))
    assert found.learning_rate == pytest.approx(1e-3 * min(2.0, max(0.5, probe_alpha / found.lora_alpha)))
