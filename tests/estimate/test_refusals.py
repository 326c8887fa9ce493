"""Every reason to refuse: no number but the fallback, marked as such."""

from __future__ import annotations

from collections.abc import Callable
from math import nan
from pathlib import Path

import numpy as np
import pytest

from lorarank import runs
from lorarank.estimate import EstimateOptions, Recommendation, recommend
from lorarank.report import recommended
from lorarank.report.markdown_text import Markdown
from lorarank.report.page import Page
from lorarank.report.plain import laid_out

Make = Callable[..., Path]


def refused(answer: Recommendation, *words: str) -> None:
    assert answer.refused
    assert (answer.r, answer.interval, answer.confidence, answer.config, answer.cost) == (None,) * 5
    assert answer.fallback == 16
    assert any(all(word in refusal for word in words) for refusal in answer.refusals), answer.refusals
    for text in (
        laid_out(Page(), recommended.lay, answer),
        laid_out(Markdown(), recommended.lay, answer).removeprefix("**"),
    ):
        assert text.startswith("No recommendation:")
        assert "r = 16, from the project's reference table" in text
        assert "LoraConfig" not in text


def zero(tensors: dict[str, np.ndarray]) -> None:
    for name, tensor in tensors.items():
        if ".lora_B." in name:
            tensor[:] = 0


def poison(value: float) -> Callable[[dict[str, np.ndarray]], None]:
    def edit(tensors: dict[str, np.ndarray]) -> None:
        next(iter(tensors.values()))[0, 0] = value

    return edit


@pytest.mark.parametrize("gain", [-0.1, 0.0, 0.019])
def test_no_gain_over_the_base(make_run: Make, gain: float) -> None:
    refused(recommend(make_run(heldout={"gains": (runs.Loss(gain, 0.01),)})), "no better than the base", "--tokens")


def test_every_replicate_has_to_gain(make_run: Make) -> None:
    folder = make_run(replicates=(0, 0), heldout={"gains": (runs.Loss(1.0, 0.01), runs.Loss(0.01, 0.01))})
    refused(recommend(folder), "no better than the base")


def test_too_few_documents_to_tell(make_run: Make) -> None:
    folder = make_run(heldout={"gains": (runs.Loss(1.0, nan),)}, data={"heldout_documents": 1})
    refused(recommend(folder), "too few held-out documents (1)", "--val")


@pytest.mark.parametrize("loss", [{"base": runs.Loss(nan, nan)}, {"probes": (runs.Loss(nan, nan),)}])
def test_a_loss_that_is_no_number(make_run: Make, loss: dict[str, object]) -> None:
    refused(recommend(make_run(heldout=loss)), "not a number")


@pytest.mark.parametrize("training", [{"final_loss": 2.6}, {"final_loss": nan}])
def test_a_learning_rate_evidently_wrong(make_run: Make, training: dict[str, object]) -> None:
    refused(recommend(make_run(training=training)), "learning rate 0.001", "give a lower one, say --lr 0.00033")
    untried = recommend(make_run(name="given", training=training | {"learning_rate_trials": ()}))
    refused(untried, "learning rate 0.001", "leave --lr out")


def test_a_training_loss_that_rose_by_chance_is_no_wrong_rate(make_run: Make) -> None:
    assert not recommend(make_run(training={"final_loss": 2.51})).refusals


def test_a_search_in_which_every_rate_diverged(make_run: Make) -> None:
    folder = make_run(training={"learning_rate_trials": (runs.LearningRateTrial(1.0, 8, nan),)})
    refused(recommend(folder), "No trial")


def test_lora_b_all_zero(make_run: Make) -> None:
    refused(recommend(make_run(edit=zero)), "lora_B is all zero")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_name_the_tensor(make_run: Make, value: float) -> None:
    answer = recommend(make_run(edit=poison(value)), EstimateOptions(keep_loss=0.02))
    refused(answer, "cannot be read as numbers", "lora_A")
    assert answer.allowed == 0.02


def test_an_answer_above_half_the_probe(make_run: Make) -> None:
    modules = {"model.layers.0.self_attn.q_proj": (48, 64, (1.0,) * 10)}
    refused(recommend(make_run(modules)), "above 8", "--rank 32")  # nine of sixteen directions
    assert recommend(make_run(modules, name="higher", r=32)).r == 16


def test_an_explicit_energy_can_be_refused_too(make_run: Make) -> None:
    modules = {"model.layers.0.self_attn.q_proj": (48, 64, (1.0,) * 10)}
    refused(recommend(make_run(modules), EstimateOptions(energy=0.95)), "above 8")


def test_replicates_with_nothing_in_common(make_run: Make) -> None:
    modules = {f"model.layers.{i}.mlp.up_proj": (300, 300, (4.0, 2.0, 1.0)) for i in range(2)}
    refused(recommend(make_run(modules, replicates=(0, 1))), "replicates do not agree")


def test_what_was_measured_is_still_told(make_run: Make) -> None:
    answer = recommend(make_run(heldout={"gains": (runs.Loss(0.01, 0.01),)}))
    text = laid_out(Page(), recommended.lay, answer)
    assert "What was measured" in text
    assert "down_proj" in text


def test_all_reasons_are_told(make_run: Make) -> None:
    answer = recommend(make_run(heldout={"gains": (runs.Loss(0.01, 0.01),)}, training={"final_loss": 3.0}))
    assert len(answer.refusals) == 2
    assert "Further reasons to refuse" in laid_out(Page(), recommended.lay, answer)


def test_a_learning_rate_never_searched_is_a_doubt(make_run: Make) -> None:
    answer = recommend(make_run(training={"learning_rate_trials": (runs.LearningRateTrial(1e-3, 0, nan),)}))
    assert not answer.refused
    assert any("untested" in doubt for doubt in answer.doubts)


def test_a_gain_too_small_to_share_out(make_run: Make) -> None:
    """Ever so sure, and yet under two hundredths of what the base loses."""
    heldout = {"gains": (runs.Loss(0.049, 0.001),), "probes": (runs.Loss(2.451, 0.04),)}
    refused(recommend(make_run(heldout=heldout)), "nearly as well", "0.049 ± 0.001", "under 2%")
    enough = {"gains": (runs.Loss(0.051, 0.001),), "probes": (runs.Loss(2.449, 0.04),)}
    assert not any("nearly as well" in one for one in recommend(make_run(name="enough", heldout=enough)).refusals)
