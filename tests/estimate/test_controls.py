"""A gain that token frequencies explain is refused; shuffled labels and a rate far off are said."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lorarank
from lorarank import runs
from lorarank.errors import RunError
from lorarank.estimate import Recommendation, constants, recommend
from lorarank.json_files import SCHEMA, write_json

Make = Callable[..., Path]


def answer(
    run: Path, *, frequencies: Any = (2.0, 0.02), prompts: Any = (1.0, 0.02), losses: Any = ()
) -> Recommendation:
    rates = tuple(runs.LearningRateTrial(rate, 8, loss) for rate, loss in zip((1e-4, 1e-3, 1e-2), losses, strict=False))
    other = None if prompts is None else runs.Loss(*prompts)
    write_json(run / runs.CONTROLS, runs.Controls(SCHEMA, rates, runs.Loss(*frequencies), other))
    return recommend(run)


def test_a_good_run_is_not_doubted(make_run: Make) -> None:
    found = answer(make_run(), losses=(2.2, 2.0, 2.4))
    assert (found.r, found.doubts, found.confidence) == (2, (), "high")
    assert found.evidence is not None
    assert found.evidence.controls is not None
    assert found.evidence.controls.over_frequencies == runs.Loss(2.0, 0.02)
    assert answer(make_run(name="text"), prompts=None).confidence == "high"
    assert answer(make_run(name="little"), prompts=(0.041, 0.01)).confidence == "high"


@pytest.mark.parametrize(("stage", "name"), [("companion", runs.COMPANION), ("other-prompts", runs.CONTROLS)])
def test_what_was_measured_and_is_gone_is_missed(make_run: Make, stage: str, name: str) -> None:
    run = make_run(companion=(0.001, 0.001))
    answer(run)
    manifest = json.loads((run / runs.MANIFEST).read_text())
    manifest["wall_seconds"][stage] = 1.0
    (run / runs.MANIFEST).write_text(json.dumps(manifest))
    recommend(run)
    (run / name).unlink()
    with pytest.raises(RunError, match=rf"{name}: the file is missing"):
        recommend(run)


def test_what_is_left_of_a_run_is_no_adapter(make_run: Make) -> None:
    run = make_run()
    (run / runs.MANIFEST).unlink()
    with pytest.raises(RunError, match=r"manifest\.json: the file is missing\. Take the folder as the probe left it"):
        lorarank.report(run)


def test_prompts_that_may_be_of_no_use_are_said_and_leave_the_answer(make_run: Make) -> None:
    found = answer(make_run(r=32, companion=(0.001, 0.001), excesses=dict.fromkeys((1, 2, 4, 8), 0.17)))
    doubted = answer(
        make_run(name="little", r=32, companion=(0.001, 0.001), excesses=dict.fromkeys((1, 2, 4, 8), 0.17)),
        prompts=(0.039, 0.01),
    )
    assert doubted.r == found.r
    (sentence,) = set(doubted.doubts) - set(found.doubts)
    assert "nearly as well as with their own (loss +0.039 ± 0.010 nats): it may have learned" in sentence
    assert "shuffled labels" in sentence


@pytest.mark.parametrize("frequencies", [(-0.1, 0.01), (0.04, 0.001), (0.3, 0.2)])
def test_nothing_learned_but_frequencies_is_refused(make_run: Make, frequencies: tuple[float, float]) -> None:
    found = answer(make_run(), frequencies=frequencies)
    assert found.r is None
    (sentence,) = found.refusals
    assert f"than their frequencies in training do ({frequencies[0]:.3f} ± {frequencies[1]:.3f} nats)" in sentence


@pytest.mark.parametrize("prompts", [(-0.4, 0.01), (0.001, 0.01)])
def test_labels_that_do_not_follow_from_prompts_are_said(make_run: Make, prompts: tuple[float, float]) -> None:
    found = answer(make_run(), prompts=prompts)
    assert (found.r, found.confidence) == (2, "medium")
    (sentence,) = found.doubts
    assert f"(loss {prompts[0]:+.3f} ± {prompts[1]:.3f} nats): it learned" in sentence
    assert "shuffled labels" in sentence


@pytest.mark.parametrize("prompts", [(math.nan, math.nan), (1.0, math.nan), (math.inf, math.nan), (-math.inf, 0.1)])
def test_what_other_prompts_lose_may_be_no_number(make_run: Make, prompts: tuple[float, float]) -> None:
    found = answer(make_run(r=32, companion=(0.0, 0.001)), prompts=prompts)
    assert found.low_rank is not None
    assert found.low_rank.prompts_used
    assert not any("prompt" in doubt for doubt in found.doubts)


@pytest.mark.parametrize(("lost", "cut", "r"), [(0.0, 8, 1), (0.012, 8, 2), (0.08, 4, 8), (0.04, 16, 4)])
def test_where_prompts_are_of_no_use_a_cut_cannot_raise_the_answer(
    make_run: Make, lost: float, cut: int, r: int
) -> None:
    excesses = {k: 0.019 if k >= cut else 0.17 for k in (1, 2, 4, 8, 16)}  # the gain is 1, so shares are nats
    options: dict[str, Any] = {"r": 32, "companion": (lost, 0.001), "excesses": excesses}
    used = answer(make_run(name="used", **options))
    found = answer(make_run(name="unused", **options), prompts=(0.001, 0.01))
    assert used.low_rank is not None
    assert found.low_rank is not None
    assert (used.low_rank.prompts_used, found.low_rank.prompts_used) == (True, False)
    assert used.low_rank.between == found.low_rank.between
    assert found.r == r == min(r, used.r or 0)
    assert found.interval is not None
    assert found.interval.low <= r <= found.interval.high
    words = f"asked to keep that too. So what r = 1 loses answers alone, no less than 1: r = {r}."
    assert any(words in reason for reason in found.reasons) == (r < (used.r or 0))
    (chapter,) = (one for one in lorarank.report(found.sources[0]).chapters if one.key == "low-rank")
    assert any(words in str(block) for block in chapter.blocks) == (r < (used.r or 0))
    assert not any(words in reason for reason in used.reasons)


@pytest.mark.parametrize(
    ("losses", "words"),
    [((1.9, 2.0, 2.4), "a tenth of it does better"), ((2.2, 2.3, 2.1), "ten times it does better")],
)
def test_a_rate_far_off_is_low_confidence(make_run: Make, losses: tuple[float, ...], words: str) -> None:
    found = answer(make_run(), losses=losses)
    assert (found.r, found.confidence) == (2, "low")
    (sentence,) = found.doubts
    assert words in sentence


@pytest.mark.parametrize(("rate", "far"), [(0.3, True), (0.1, False)])
def test_a_rate_far_above_all_measured_ones_is_doubted(make_run: Make, rate: float, far: bool) -> None:
    run = make_run(training={"learning_rate": rate, "learning_rate_trials": ()})
    found = answer(run, losses=(8.0, 6.5, math.nan))  # the middle one looks best in a few steps
    assert any("no measured sweep did best above 0.01" in doubt for doubt in found.doubts) is far
    assert (found.confidence == "low") is far


def test_no_measured_sweep_did_best_above_it() -> None:
    kept = Path(__file__).resolve().parents[2] / "data" / "evidence" / "pairs"
    sweeps = [json.loads(path.read_text(encoding="utf-8")) for path in kept.glob("*/sweep.json")]
    assert max(one["learning_rate"] for sweep in sweeps for one in sweep["outcome"]["ranks"]) == constants.HIGHEST_RATE


@pytest.mark.parametrize(("steps", "told"), [(11, "after 11 steps: it has hardly begun"), (120, "check the data")])
def test_a_probe_that_has_hardly_begun_is_not_called_random_text(make_run: Make, steps: int, told: str) -> None:
    found = answer(make_run(training={"steps": steps}), frequencies=(-1.77, 0.03))
    (sentence,) = found.refusals
    assert told in sentence
    assert "predicts held-out tokens worse than their frequencies" in sentence
