"""With a companion at r = 1 the answer lies between what that asks for and what a cut keeps.

The plain rule is one flag away.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorarank import runs
from lorarank.estimate import EstimateOptions, constants, reasons, recommend
from lorarank.estimate.readings import low_rank
from lorarank.numerics.ladder import LADDER
from lorarank.report import recommended
from lorarank.report.page import Page
from lorarank.report.plain import laid_out

EVIDENCE = Path(__file__).resolve().parents[2] / "data" / "evidence"
CUT = constants.CUT_FACTOR * constants.LOSS_SHARE
Make = Callable[..., Path]
Golden = Callable[[str, str], None]


@pytest.mark.parametrize(
    ("lost", "cut", "r"),
    [
        (0.0, 1, 1),
        (0.0, 4, 2),
        (-0.004, 4, 2),
        (0.008, 4, 2),
        (0.02, 2, 2),
        (0.02, 4, 4),
        (0.04, 4, 4),
        (0.041, 4, 8),
        (0.074, 4, 8),
        (0.16, 4, 8),
        (0.16, 16, 16),
        (0.02, 1, 2),
    ],
)
def test_the_answer_is_halfway_from_the_loss_over_what_may_be_lost_to_the_cut(
    make_run: Make, lost: float, cut: int, r: int
) -> None:
    excesses = {k: 0.019 if k >= cut else 0.17 for k in (1, 2, 4, 8, 16)}  # the gain is 1, so shares are nats
    answer = recommend(make_run(r=32, companion=(lost, 0.001), excesses=excesses))
    assert answer.r == r
    assert answer.low_rank is not None
    assert answer.low_rank.lost == pytest.approx(lost)
    assert answer.low_rank.cut == cut
    assert answer.low_rank.between == pytest.approx(math.sqrt(max(1, 100 * lost) * cut))
    assert answer.interval is not None
    assert answer.interval.low <= r <= answer.interval.high
    assert answer.cost is not None
    assert answer.config is not None
    assert answer.cost.parameters == r * answer.cost.parameters_per_rank
    assert answer.config.r == r
    assert answer.rule is not None
    assert answer.rule.r == 2  # what the energy says stands beside it


@pytest.mark.parametrize(("allowed", "r", "needed", "cut"), [(0.005, 8, 8, 8), (0.01, 4, 4, 4), (0.02, 2, 2, 2)])
def test_what_may_be_lost_moves_every_answer(make_run: Make, allowed: float, r: int, needed: int, cut: int) -> None:
    """At r = 1 the probe loses 4 % of a gain of 1, cut to k 8 %/k, without a module type 3 % or nothing."""
    run = make_run(r=32, companion=(0.04, 0.0), excesses={k: 0.08 / k - 1e-6 for k in (1, 2, 4, 8, 16)})
    answer = recommend(run, EstimateOptions(keep_loss=allowed))
    assert answer.low_rank is not None
    assert answer.keep is not None
    assert (answer.r, answer.low_rank.needed, answer.low_rank.cut) == (r, pytest.approx(needed), cut)
    assert answer.keep.r == 2 * cut  # the cut that answers may lose twice as much
    assert (answer.allowed, answer.low_rank.allowed) == (allowed, allowed)
    told = f"{100 * allowed:g}% of the gain is lost at r = {needed}.0"
    assert any(told in reason for reason in answer.reasons)
    page = laid_out(Page(), recommended.lay, answer)
    assert ("as was asked with --keep-loss" in page) == (allowed != 0.01)
    assert f"{100 * allowed:g}% is lost at about r = {needed}.0" in page


def test_of_a_loss_that_sweeps_do_not_vouch_for_the_measured_pairs_say_nothing(make_run: Make) -> None:
    """It is a doubt, and what held on the pairs is not claimed; but that much is enough for a constant holds beyond."""
    run = make_run(r=32, companion=(0.01, 0.0))
    for allowed in (0.004, 0.3):
        found = recommend(run, EstimateOptions(keep_loss=allowed))
        assert any(f"{100 * allowed:g}% of the gain may be lost is outside" in doubt for doubt in found.doubts)
        assert "lost less" not in " ".join(found.reasons)
        assert "The geometric mean of the two, no less than 1 each, is" in " ".join(found.reasons)
    for allowed in constants.TOLD_LOSSES:
        found = recommend(run, EstimateOptions(keep_loss=allowed))
        assert not any("is outside" in doubt for doubt in found.doubts)
        assert "lost less of the gain than either" in " ".join(found.reasons)


def test_a_cut_is_not_asked_to_lose_more_than_all_of_the_gain(make_run: Make) -> None:
    run = make_run(r=32, companion=(0.01, 0.0), excesses={1: 1.5, 2: 0.9, 4: 0.1})
    found = recommend(run, EstimateOptions(keep_loss=0.8)).low_rank
    assert found is not None
    assert (found.cut, found.cut_allowed) == (2, 1.0)


@pytest.mark.parametrize("options", [{"energy": 0.9}, {}])
def test_where_the_energy_sets_the_rank_what_may_be_lost_is_said_to_play_no_part(
    make_run: Make, options: dict[str, float]
) -> None:
    run = make_run(companion=(0.05, 0.001) if options else None)
    told = "That 5% of the gain may be lost plays no part in r = 2"
    asked, plain = (
        recommend(run, EstimateOptions(keep_loss=0.05, **options)),
        recommend(run, EstimateOptions(**options)),
    )
    assert asked.r == plain.r
    assert told in " ".join(asked.reasons)
    assert told[:20] not in " ".join(plain.reasons)
    beside = recommend(make_run(name="beside", companion=(0.05, 0.001)), EstimateOptions(keep_loss=0.05))
    assert "plays no part" not in " ".join(beside.reasons)


def test_too_little_to_lose_for_the_probes_rank_is_refused(make_run: Make) -> None:
    run = make_run(r=32, companion=(0.09, 0.0))
    assert not recommend(run).refused
    (why,) = recommend(run, EstimateOptions(keep_loss=0.005)).refusals
    assert "which asks for r = 18" in why
    assert "at most 1% keeps" in why
    assert why.endswith("Or let more than 0.5% be lost.")
    (why,) = recommend(make_run(name="low", companion=(0.09, 0.0))).refusals
    assert "Or let" not in why


def test_where_much_may_be_lost_a_constant_does(make_run: Make) -> None:
    run = make_run(r=32, companion=(0.02, 0.0))
    told = [recommend(run, EstimateOptions(keep_loss=allowed)).reasons for allowed in (0.02, constants.PLENTY)]
    assert ["needs no probe" in " ".join(reasons) for reasons in told] == [False, True]


def test_a_rank_for_recall_is_not_said_to_need_no_probe() -> None:
    found = low_rank(
        runs.Companion(1, 1, runs.Loss(1, 0), runs.Loss(0.02, 0), ()),
        runs.Truncation(1, "loss", 32, 60, (runs.TruncationPoint(1, runs.Loss(1, 0), runs.Loss(0.05, 0)),), ()),
        1.0,
        allowed=constants.PLENTY,
    )
    assert found is not None
    told = [" ".join(reasons.about_constant(found, r)) for r in (found.r, 8)]
    assert ["needs no probe" in one for one in told] == [True, False]


def test_a_share_of_the_energy_asks_for_the_plain_rule(make_run: Make) -> None:
    run = make_run(companion=(0.05, 0.001))
    plain = recommend(run, EstimateOptions(energy=0.9))
    assert (plain.r, plain.low_rank) == (2, None)
    assert recommend(run).r == 8


def test_without_a_companion_the_plain_rule_answers(make_run: Make) -> None:
    assert recommend(make_run()).low_rank is None
    assert recommend(make_run(name="nan", companion=(math.nan, math.nan))).low_rank is None


def test_an_answer_above_half_of_the_probes_rank_is_refused(make_run: Make) -> None:
    refused = recommend(make_run(companion=(0.17, 0.001)))  # r = 16 of R = 16
    assert refused.r is None
    (sentence,) = refused.refusals
    assert "r = 1 loses 17.0% of the gain" in sentence
    assert "keeps r = 4" in sentence
    assert sentence.endswith("Probe higher with --rank 32.")
    given = recommend(make_run(name="given", companion=(0.17, 0.001), training={"learning_rate_trials": ()}))
    assert "--rank 32, and without --lr" in given.refusals[0]
    assert recommend(make_run(name="wide", r=32, companion=(0.16, 0.001), excesses={8: 0.0})).r == 16


def test_a_companion_that_lost_more_than_a_cut_to_its_rank_is_refused(make_run: Make) -> None:
    excesses = {1: 0.1, 2: 0.03, 4: 0.01, 8: 0.0}
    assert recommend(make_run(name="as good", r=32, companion=(0.1, 0.001), excesses=excesses)).r is not None
    assert recommend(make_run(name="in doubt", r=32, companion=(0.11, 0.02), excesses=excesses)).r is not None
    refused = recommend(make_run(name="worse", r=32, companion=(0.4, 0.001), excesses=excesses))
    assert refused.r is None
    (sentence,) = refused.refusals  # and no advice to probe at a higher rank, which is not what is wrong
    assert "at r = 1 loses 0.400 nats" in sentence
    assert sentence.endswith("give a lower one, say --lr 0.00033.")  # it was searched for
    training = {"learning_rate_trials": ()}
    given = recommend(make_run(name="given", r=32, companion=(0.4, 0.001), excesses=excesses, training=training))
    assert "leave --lr out" in given.refusals[0]
    assert recommend(make_run(name="plain", companion=(0.4, 0.001)), EstimateOptions(energy=0.9)).r == 2


def test_the_interval_has_the_errors_of_documents_and_seeds_in_it(make_run: Make) -> None:
    sure = recommend(make_run(name="sure", r=32, companion=(0.04, 0.0))).low_rank
    noisy = recommend(make_run(name="noisy", r=32, companion=(0.04, 0.02))).low_rank
    assert sure is not None
    assert noisy is not None
    assert sure.lost_se == pytest.approx(math.sqrt(2) * constants.SEED_SPREAD)
    assert (sure.low, sure.r, sure.high) == (4, 4, 16)
    assert (noisy.low, noisy.r, noisy.high) == (1, 4, 32)


@given(st.floats(-0.1, 0.6), st.floats(0, 0.1), st.floats(0.01, 10), st.floats(0.1, 10))
def test_more_lost_is_never_a_lower_rank_and_units_do_not_matter(
    lost: float, se: float, more: float, unit: float
) -> None:
    def cut(gain: float) -> runs.Truncation:
        points = tuple(runs.TruncationPoint(k, runs.Loss(1, 1), runs.Loss(0.08 * gain / k, 0)) for k in (1, 2, 4, 8))
        return runs.Truncation(1, "loss", 16, 60, points, ())

    def reading(share: float, allowed: float = constants.LOSS_SHARE) -> tuple[int, int, int]:
        loss = runs.Loss(share, se)
        found = low_rank(runs.Companion(1, 1, loss, loss, ()), cut(1.0), 1.0, allowed=allowed)
        assert found is not None
        assert found.cut == 4 or allowed != constants.LOSS_SHARE
        return found.low, found.r, found.high

    low, r, high = reading(lost)
    assert low <= high
    assert {low, r, high} <= set(LADDER)
    assert all(a <= b for a, b in zip((low, r, high), reading(lost + more), strict=True))
    assert all(a >= b for a, b in zip((low, r, high), reading(lost, (1 + more) * constants.LOSS_SHARE), strict=True))
    loss = runs.Loss(lost * unit, se * unit)
    near = low_rank(runs.Companion(1, 1, runs.Loss(0, 0), loss, ()), cut(unit), unit)
    assert near is not None
    assert near.needed == pytest.approx(100 * max(lost, 0.0), rel=1e-9, abs=1e-9)


def test_below_the_customary_rank_it_says_what_that_would_do(make_run: Make) -> None:
    assert any(
        "constant r = 16 lost less" in reason for reason in recommend(make_run(r=32, companion=(0.03, 0))).reasons
    )
    above = recommend(make_run(name="above", r=32, companion=(0.16, 0.0), excesses={8: 0.0}))
    assert above.r == 16
    assert not any("constant" in reason for reason in above.reasons)
    found = json.loads((EVIDENCE / "bakeoff.json").read_text(encoding="utf-8"))["predictors"]
    scores = {one["name"]: one for one in found}
    companion = f"companion at 1, power {constants.POWER:g}"
    rule, constant = (
        scores[f"{companion}, and truncation 2%, the mean, heeding prompts and recall"],
        scores[f"always {constants.CONSTANT}"],
    )
    assert constant["mean_regret"] < rule["mean_regret"]
    assert constant["mean_rank"] > 1.8 * rule["mean_rank"]


def test_halfway_lost_less_than_either_on_the_measured_pairs() -> None:
    found = json.loads((EVIDENCE / "bakeoff.json").read_text(encoding="utf-8"))["predictors"]
    scores = {one["name"]: one for one in found}
    low, cut = f"companion at 1, power {constants.POWER:g}", f"truncation curve, {CUT:.0%} of the gain"
    both = scores[f"{low}, and truncation {CUT:.0%}, the mean"]
    for one in (low, cut):
        assert both["mean_regret"] < scores[one]["mean_regret"]
        assert both["within_octave"] >= scores[one]["within_octave"]
    cuts = [one for name, one in scores.items() if name.startswith("truncation curve")]
    assert max(cuts, key=lambda one: one["within_octave"])["name"] == cut
    assert found[0]["name"] == f"{both['name']}, heeding prompts and recall"  # the first of the table is the default


def test_the_page_is_what_it_was(
    make_run: Make, golden: Golden, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_run(r=32, companion=(0.031, 0.003))
    monkeypatch.chdir(tmp_path)
    golden("low-rank.txt", laid_out(Page(), recommended.lay, recommend("run")))


def test_a_run_from_before_the_quarters_were_kept_is_read(make_run: Make) -> None:
    run = make_run(r=32, companion=(0.031, 0.003))
    kept = json.loads((run / runs.COMPANION).read_text())
    assert len(kept.pop("training")) == 4
    (run / runs.COMPANION).write_text(json.dumps(kept))
    assert runs.read(run).companion == runs.Companion(1, 1, runs.Loss(1.531, 0.04), runs.Loss(0.031, 0.003), ())
    assert recommend(run).r == 4


def test_the_reference_table_is_said_and_not_a_doubt(make_run: Make) -> None:
    run = make_run(r=32, companion=(0.005, 0.0))
    answer = recommend(run, EstimateOptions(task="reasoning"))
    assert (answer.r, answer.heuristics.agrees, answer.doubts, answer.confidence) == (2, False, (), "high")
    assert "32–64" in laid_out(Page(), recommended.lay, answer)
    plain = recommend(run, EstimateOptions(task="reasoning", energy=0.9))
    assert any("reference table" in doubt for doubt in plain.doubts)


def test_an_answer_that_turns_on_the_error_of_the_cut_says_so(make_run: Make) -> None:
    """The cut to 4 loses 2.1 % of the gain: with an error of 0.2 % it may be 4 or 8, with 0.02 % it is 8."""
    excesses = {1: 0.2, 2: 0.06, 4: 0.021, 8: 0.005, 16: 0.001}
    sure = recommend(make_run(name="sure", r=32, companion=(0.01, 0.0), excesses=excesses, excess_se=0.0002))
    torn = recommend(make_run(name="torn", r=32, companion=(0.01, 0.0), excesses=excesses, excess_se=0.002))
    assert sure.low_rank is not None
    assert torn.low_rank is not None
    assert (sure.r, torn.r) == (4, 4)  # halfway from 1 to 8
    assert (sure.low_rank.at_cuts, torn.low_rank.at_cuts) == ((4, 4), (2, 4))
    assert not any("error of the cut" in doubt for doubt in sure.doubts)
    assert [doubt for doubt in torn.doubts if "error of the cut" in doubt] == [
        "The answer turns on the error of the cut: a standard error less or more of its loss says 2 or 4."
    ]
