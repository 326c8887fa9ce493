"""From a run folder with planted spectra to the recommendation: the number, the interval, confidence, both ranks."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lorarank import runs
from lorarank.errors import OptionError, RunError, SourceError
from lorarank.estimate import EstimateOptions, recommend
from lorarank.report.recommended import to_json

Make = Callable[..., Path]
FLAT = (1.0,) * 5

AT_THE_EDGE = tuple(runs.LearningRateTrial(rate, 8, loss) for rate, loss in ((3e-4, 2.2), (1e-3, 2.1), (3e-3, 2.0)))


def modules_with(*spectra: tuple[float, ...]) -> dict[str, tuple[int, int, tuple[float, ...]]]:
    return {f"model.layers.{i}.self_attn.q_proj": (48, 64, spectrum) for i, spectrum in enumerate(spectra)}


def test_a_good_run_is_answered_by_the_rule(make_run: Make) -> None:
    answer = recommend(make_run())  # energies 16, 4, 1, 1/4: two directions hold 94 %
    assert (answer.r, answer.confidence, answer.refused, answer.doubts) == (2, "high", False, ())
    assert answer.interval is not None
    assert (answer.interval.low, answer.interval.high) == (2, 4)  # 95 % takes three
    assert answer.rule is not None
    assert (answer.rule.median, answer.rule.pooled) == (2, 2)
    assert answer.rule.kept == pytest.approx(20 / 21.25)


@pytest.mark.parametrize(("energy", "directions"), [(0.75, 1), (0.94, 2), (0.98, 3), (0.999, 4), (1.0, 4)])
def test_energy_alone_is_exactly_the_plain_rule(make_run: Make, energy: float, directions: int) -> None:
    answer = recommend(make_run(), EstimateOptions(energy=energy))
    assert answer.rule is not None
    assert answer.rule.median == directions
    assert answer.r == {1: 1, 2: 2, 3: 4, 4: 4}[directions]


def test_nothing_but_the_energy_moves_the_number(make_run: Make) -> None:
    # much text, a long truncation tail and a rank that still grows: all in the interval, none in r
    answer = recommend(
        make_run(earlier=(4.0, 1.0), excesses={1: 0.5, 8: 0.3, 16: 0.0}, data={"unique_target_tokens": 10_000})
    )
    assert answer.r == 2
    assert answer.interval is not None
    assert answer.interval.high > 4


def test_the_capacity_floor_raises_the_upper_end_only(make_run: Make) -> None:
    # 2 layers of (112 + 96 + 160) parameters per rank; 2.5 nats are 3.6 bits a token
    few, many = (
        make_run(data={"unique_target_tokens": 10}),
        make_run(name="many", data={"unique_target_tokens": 16_000}),
    )
    one, other = recommend(few), recommend(many)
    assert one.interval is not None
    assert other.interval is not None
    assert one.r == other.r == 2
    assert (one.interval.low, other.interval.low) == (2, 2)
    assert one.interval.high == 4
    assert other.evidence is not None
    assert other.evidence.capacity.rank == pytest.approx(16_000 * 2.5 / np.log(2) / 2 / 736)
    assert other.interval.high == 64


def test_a_rank_that_still_grows_raises_the_upper_end_one_octave_and_doubts(make_run: Make) -> None:
    answer = recommend(make_run(earlier=(4.0, 0.1)))
    assert answer.interval is not None
    assert (answer.r, answer.interval.low, answer.interval.high) == (2, 1, 8)
    assert any("growing" in doubt for doubt in answer.doubts)
    assert any("upper end goes up one doubling" in reason for reason in answer.reasons)


def test_the_growth_of_the_energy_rank_plays_no_part_beside_a_companion(make_run: Make) -> None:
    settled, grew = (
        recommend(make_run(name=name, r=32, companion=(0.05, 0.003), earlier=earlier))
        for name, earlier in (("settled", (4.0, 1.0)), ("grew", (4.0, 0.1)))
    )
    assert grew.evidence is not None
    assert grew.evidence.growth is not None
    assert grew.evidence.growth.grows
    assert grew.interval == settled.interval
    (said,) = [reason for reason in grew.reasons if "still grew" in reason]
    assert "interval" not in said


def test_replicates_that_agree_vouch_and_give_their_own_answer(make_run: Make) -> None:
    answer = recommend(make_run(replicates=(0, 0)))
    assert answer.replication is not None
    assert answer.replication.agreement == pytest.approx(1)
    assert answer.replication.replicated_median == 4
    assert answer.interval is not None
    assert any(reading.source == "replicate 1" and reading.r == 2 for reading in answer.interval.readings)
    assert len(answer.adapters) == 2
    assert all(module.agreement == pytest.approx(1) for module in answer.modules)


def test_the_first_replicate_answers(make_run: Make) -> None:
    alone, two = make_run(), make_run(name="two", replicates=(0, 1))
    (module, *_), (same, *_) = recommend(alone).modules, recommend(two).modules
    assert module.norm == pytest.approx(same.norm)


def test_train_rank_and_keep_rank_are_two_answers(make_run: Make) -> None:
    answer = recommend(make_run(excesses={1: 0.2, 2: 0.05, 4: 0.0095, 8: 0.002}, excess_se=0.002))
    assert answer.keep is not None
    assert (answer.r, answer.keep.r, answer.keep.low, answer.keep.high) == (2, 4, 4, 8)
    assert answer.keep.basis == "truncation curve"
    assert answer.keep.excess == pytest.approx(0.0095)


def test_a_probe_that_cannot_be_cut_keeps_its_rank(make_run: Make) -> None:
    answer = recommend(make_run(excesses={1: 0.5, 2: 0.4, 4: 0.3}))
    assert answer.keep is not None
    assert (answer.keep.r, answer.keep.excess) == (16, None)
    assert any("contradicts" in doubt for doubt in answer.doubts)


@pytest.mark.parametrize(
    ("how", "word"),
    [
        ({"heldout": {"gains": (runs.Loss(1.0, 0.3),)}}, "weak"),
        ({"training": {"learning_rate_trials": AT_THE_EDGE}}, "edge"),
        ({"training": {"epochs": 9.0}}, "9.0 times"),
        ({"excesses": {1: 0.5, 8: 0.3}}, "contradicts"),
        ({"earlier": (4.0, 0.1)}, "growing"),
        ({"data": {"unique_target_tokens": 10**6}}, "wide"),
    ],
)
def test_each_doubt_has_its_sentence_and_lowers_confidence(make_run: Make, how: dict[str, object], word: str) -> None:
    answer = recommend(make_run(**how))
    assert any(word in doubt for doubt in answer.doubts), answer.doubts
    assert answer.confidence in ("medium", "low")


def test_few_steps_alone_make_confidence_low(make_run: Make) -> None:
    answer = recommend(make_run(training={"steps": 59}))
    assert (answer.confidence, len(answer.doubts)) == ("low", 1)
    assert recommend(make_run(name="more", training={"steps": 60})).confidence == "high"


def test_more_than_two_doubts_make_confidence_low(make_run: Make) -> None:
    two = make_run(training={"learning_rate_trials": AT_THE_EDGE, "epochs": 9.0})
    three = make_run(name="three", training={"learning_rate_trials": AT_THE_EDGE, "epochs": 9.0}, earlier=(4.0, 0.1))
    assert (recommend(two).confidence, recommend(three).confidence) == ("medium", "low")


def test_a_fixed_learning_rate_is_at_no_edge(make_run: Make) -> None:
    assert recommend(make_run(training={"learning_rate_trials": ()})).confidence == "high"


def test_a_gaussian_product_is_called_noise(make_run: Make) -> None:
    random = np.random.default_rng(0)
    r = 16

    def noise(tensors: dict[str, np.ndarray]) -> None:
        for name, tensor in tensors.items():
            tensors[name] = random.standard_normal(tensor.shape).astype(np.float32)

    answer = recommend(make_run(edit=noise, r=r), EstimateOptions(energy=0.5))
    assert answer.evidence is not None
    assert answer.evidence.noise == pytest.approx(1, abs=0.1)
    assert any("noise" in doubt for doubt in answer.doubts)


def test_the_table_row_stands_beside_and_never_overrides(make_run: Make) -> None:
    folder = make_run()
    agrees, differs = (recommend(folder, EstimateOptions(task=task)) for task in ("style", "reasoning"))
    assert agrees.r == differs.r == 2
    assert (agrees.heuristics.agrees, agrees.confidence) == (True, "high")
    assert (differs.heuristics.agrees, differs.confidence) == (False, "medium")
    assert recommend(folder).heuristics.row is None


@pytest.mark.parametrize(("r", "alpha", "convention"), [(4, 8, "2r"), (16, 32, "2r"), (32, 32, "r"), (64, 64, "r")])
def test_alpha_is_the_convention_nearest_the_probe(make_run: Make, r: int, alpha: int, convention: str) -> None:
    shape = (200, 200, (1.0,) * r)
    answer = recommend(make_run({"model.layers.0.mlp.up_proj": shape}, r=128), EstimateOptions(energy=1.0))
    assert answer.alpha is not None
    assert (answer.r, answer.alpha.lora_alpha, answer.alpha.convention) == (r, alpha, convention)
    assert answer.alpha.learning_rate == pytest.approx(1e-3 * min(2, 32 / alpha))


def test_cost_is_exact(make_run: Make) -> None:
    answer = recommend(make_run())
    assert answer.cost is not None
    assert answer.cost.parameters == 2 * 2 * (48 + 64 + 32 + 64 + 64 + 96)
    assert answer.cost.share == answer.cost.parameters / 1_000_000
    assert sum(kind.parameters_per_rank for kind in answer.types) * 2 == answer.cost.parameters


def test_types_and_layers_add_up_and_types_are_sorted_by_what_they_are_worth(make_run: Make) -> None:
    answer = recommend(make_run())
    assert [kind.type for kind in answer.types] == ["down_proj", "k_proj", "q_proj"]
    assert [kind.spare for kind in answer.types] == [False, False, True]
    assert [kind.excess for kind in answer.types] == pytest.approx([0.3, 0.03, 0.003])
    assert sum(kind.energy for kind in answer.types) == pytest.approx(1)
    assert sum(layer.energy for layer in answer.layers) == pytest.approx(1)
    assert [layer.layer for layer in answer.layers] == [0, 1]
    assert any("q_proj" in reason and "do not add up" in reason for reason in answer.reasons)


@pytest.mark.parametrize("metric", ["activation", "loss"])
def test_metrics_read_the_moments(make_run: Make, metric: str) -> None:
    folder = make_run(whitened=True)
    weight, other = recommend(folder), recommend(folder, EstimateOptions(metric=metric))
    assert other.metric == metric
    # identity moments whiten both factors, or A alone: B's columns carry the spectrum
    if metric == "activation":
        assert other.modules[0].norm == pytest.approx(weight.modules[0].norm, rel=1e-5)
    else:
        assert other.modules[0].participation_ratio == pytest.approx(16)
    assert other.interval is None or "three quarters" not in str(other.interval.readings)


def test_the_moments_of_another_adapter_are_refused(make_run: Make) -> None:
    folder = make_run()
    (folder / runs.MOMENTS).unlink()
    with pytest.raises(RunError, match=r"moments.safetensors: the file is missing"):
        recommend(folder, EstimateOptions(metric="loss"))


def test_a_run_cut_short_says_how_to_finish_it(make_run: Make) -> None:
    folder = make_run()
    (folder / runs.MANIFEST).unlink()
    (folder / runs.PROGRESS).mkdir()
    with pytest.raises(RunError, match="--resume"):
        recommend(folder)


def test_a_missing_replicate_is_not_looked_for_on_the_hub(
    make_run: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.rmtree(make_run() / "adapter")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="run/adapter: no such file or folder"):
        recommend("run")


def test_a_run_is_estimated_alone(make_run: Make, make_adapter: Make) -> None:
    with pytest.raises(OptionError, match="alone"):
        recommend([make_run(), make_adapter()])


def test_the_recommendation_is_frozen_and_json(make_run: Make) -> None:
    answer = recommend(make_run(heldout={"gains": (runs.Loss(1.0, 0.01),)}))
    with pytest.raises(dataclasses.FrozenInstanceError):
        answer.r = 4  # type: ignore[misc]
    assert json.loads(to_json(answer))["r"] == 2
