"""Where held-out rows ask for what training tells, a training that is long enough for it takes a rank to recall it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorarank.capacity import RECALL_EXPOSURES, RECALL_PARAMETERS
from lorarank.estimate import EstimateOptions, recommend
from lorarank.numerics.ladder import round_up

Make = Callable[..., Path]
FACTS: dict[str, Any] = {
    "known_targets": 1.0,
    "distinct_target_tokens": 100,
    "unique_tokens": 4000,
    "unique_target_tokens": 1000,
}
ENOUGH = int(RECALL_EXPOSURES * 100 * 4)  # a quarter of the tokens are targets


@pytest.fixture
def run(make_run: Make) -> Callable[..., Path]:
    def made(name: str = "run", **data: Any) -> Path:
        excesses = {1: 0.021, 2: 0.019}
        return make_run(r=32, name=name, companion=(0.008, 0.001), excesses=excesses, data={**FACTS, **data})

    return made


def test_recall_sets_the_answer_of_a_training_that_is_long_enough(run: Callable[..., Path]) -> None:
    folder = run(distinct_target_tokens=100)
    brief, long = (recommend(folder, EstimateOptions(tokens=tokens)) for tokens in (ENOUGH - 100, ENOUGH + 100))
    assert brief.evidence is not None
    assert brief.evidence.recall is not None
    recall = brief.evidence.recall
    assert recall.bits == pytest.approx(100 * brief.evidence.probe_loss / math.log(2))
    assert brief.cost is not None
    assert recall.rank == pytest.approx(recall.bits * RECALL_PARAMETERS / brief.cost.parameters_per_rank)
    assert brief.r == 2
    assert any("too seldom for recall" in reason for reason in brief.reasons)
    assert long.r == round_up(recall.rank) > 2
    assert long.config is not None
    assert long.config.r == long.r
    assert long.interval is not None
    assert long.interval.low <= 2 < long.r <= long.interval.high
    assert any("what recall takes" in doubt for doubt in long.doubts)
    assert long.confidence != "high"


def test_more_facts_take_a_higher_rank(run: Callable[..., Path]) -> None:
    ranks = [
        recommend(run(name=f"run-{many}", distinct_target_tokens=many), EstimateOptions(tokens=10**9)).r
        for many in (10, 100, 1000)
    ]
    assert ranks == sorted(ranks)
    assert ranks[0] == 2 < ranks[-1]


@pytest.mark.parametrize(
    "data", [{"known_targets": 0.5}, {"known_targets": None}, {"distinct_target_tokens": None}], ids=str
)
def test_other_tasks_are_left_alone(run: Callable[..., Path], data: dict[str, Any]) -> None:
    answer = recommend(run(**data), EstimateOptions(tokens=10**9))
    assert answer.r == 2
    assert answer.evidence is not None
    assert answer.evidence.recall is None
    assert not any("targets of training" in reason for reason in answer.reasons)
    assert any("1,000,000,000 tokens plays no part in r = 2" in reason for reason in answer.reasons)


def test_the_plain_rule_stands_alone(run: Callable[..., Path]) -> None:
    folder = run()
    plain = [recommend(folder, EstimateOptions(energy=0.9, tokens=tokens)).r for tokens in (1, 10**9)]
    assert plain[0] == plain[1]
