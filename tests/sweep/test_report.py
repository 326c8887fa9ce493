"""What a sweep looks like, and its picture."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest

from lorarank.report import figures
from lorarank.report.options import KINDS
from lorarank.report.page import Page
from lorarank.report.plain import laid_out
from lorarank.report.sweep import headline, lay, sentences
from lorarank.runs import Loss
from lorarank.sweep import Sweep
from lorarank.sweep.outcome import Outcome, RankOutcome
from lorarank.sweep.search import Tuning


@pytest.fixture
def found() -> Sweep:
    excesses = {1: 0.041, 2: 0.012, 4: 0.0, 8: 0.001, 16: 0.02}
    ranks = tuple(
        RankOutcome(
            r, 1e-3, Loss(1.61 + e, 0.04), Loss(e, 0.004 if e else 0.0), 1 - e / 0.95, (1.61 + e,), 1.5, 100 * r
        )
        for r, e in excesses.items()
    )
    answer = Outcome(Loss(2.56, 0.05), Loss(0.95, 0.03), ranks, 4, 4, 2, 4, 16, 0.0035, False, False)
    return Sweep(
        1, "0.1.0", {}, ("lorarank", "sweep", "base"), "2026-01-01T00:00:00+00:00", "base", "train.jsonl", 60, 2400,
        61_440, 120, 512, 32, 1, 11, 675_840, 1320.0, Tuning(1, 16, 1e-3, 1e-3, 0, False), answer,
    )  # fmt: skip


def test_the_table_is_what_it_was(found, golden):
    golden("sweep.txt", laid_out(Page(), lay, found))


def test_what_the_sentences_say_of_the_learning_rate(found):
    said = " ".join(sentences(found))
    assert "0.001 is the best on a grid of half decades at both r = 1 and r = 16" in said
    moved = dataclasses.replace(found, tuning=Tuning(1, 16, 1e-3, 3.16e-4, 1, True))
    said = " ".join(sentences(moved))
    assert "moves from 0.001 at r = 1 to 0.000316 at r = 16" in said
    assert "the last that was tried" in said
    for rates, beyond in (((3e-4, 1e-3), True), ((1e-3, 3e-3), True), ((3e-4, 1e-3, 3e-3), False), ((1e-3,), False)):
        said = " ".join(sentences(dataclasses.replace(found, tuning=None, lrs=rates)))
        assert "were given" in said
        assert ("the last that was tried" in said) is beyond
    assert "the last that was tried" not in " ".join(sentences(dataclasses.replace(found, tuning=None)))


def test_an_answer_at_the_highest_rank_is_at_least_that(found):
    short = dataclasses.replace(found.outcome, ranks=found.outcome.ranks[:3], overfits_from=None)
    censored = dataclasses.replace(found, outcome=short)
    assert "so it takes at least r = 4." in headline(censored)
    assert "none above it was tried" in " ".join(sentences(censored))
    assert "at least" not in headline(found)


def test_ranks_below_the_lowest_that_was_tried_may_suffice(found):
    lower = "a lower one may suffice as well"
    for first, low, said in ((0, 1, False), (1, 2, True), (1, 4, False)):
        tried = dataclasses.replace(found.outcome, ranks=found.outcome.ranks[first:], low=low)
        assert (lower in " ".join(sentences(dataclasses.replace(found, outcome=tried)))) is said


def test_where_the_ends_of_the_ladder_suffice_and_do_best_neither_end_is_known(found):
    between = found.outcome.ranks[1:3]
    outcome = dataclasses.replace(found.outcome, ranks=between, r_sufficient=2, low=2, high=2, overfits_from=None)
    both = dataclasses.replace(found, outcome=outcome)
    assert headline(both).endswith("at the highest of them, r = 4, so it may take more.")
    assert "never less" not in " ".join(sentences(both))
    above = dataclasses.replace(both, outcome=dataclasses.replace(outcome, ranks=found.outcome.ranks[:3]))
    assert headline(above).endswith("so it takes at least r = 2.")
    assert "it may take more than r = 2, never less." in " ".join(sentences(above))


def test_another_loss_that_was_allowed_is_told_at_the_top(found):
    outcome = dataclasses.replace(found.outcome, allowed=0.03, r_sufficient=2, low=1, high=2)
    text = laid_out(Page(), lay, dataclasses.replace(found, outcome=outcome))
    assert "may lose    3% of the gain, as was asked with --keep-loss" in text
    assert "r = 2 is the smallest rank within 3% of the gain of r = 4" in text
    assert "--keep-loss" not in laid_out(Page(), lay, found)


def test_of_a_flat_curve_lower_ranks_may_do_only_where_there_are_some(found):
    flat = dataclasses.replace(found, outcome=dataclasses.replace(found.outcome, flat=True, r_sufficient=2))
    assert headline(flat).endswith("by more than its error at 95%, so lower ones may do as well.")
    lowest = dataclasses.replace(flat, outcome=dataclasses.replace(flat.outcome, r_sufficient=1, low=1))
    assert headline(lowest).endswith("by more than its error at 95%.")


def test_nothing_is_for_sure(found):
    sure = dataclasses.replace(found, outcome=dataclasses.replace(found.outcome, low=4))
    assert headline(sure) == "r = 4 suffices (at 95%); the lowest loss is at r = 4."
    for one in (found, sure):
        assert not re.search(r"\bsure|surely", laid_out(Page(), lay, one))


def test_what_rises_beyond_the_best_rank(found):
    assert "Overfitting starts at r = 16" in " ".join(sentences(found))
    assert "Doubt it" not in " ".join(sentences(found))
    hurried = " ".join(sentences(dataclasses.replace(found, steps=20)))
    assert "Overfitting starts at r = 16" in hurried
    assert "Doubt it: 20 steps, below 60," in hurried
    unlearned = dataclasses.replace(found, outcome=dataclasses.replace(found.outcome, overfits_from=None))
    said = " ".join(sentences(unlearned))
    assert "Overfitting starts" not in said
    assert "From r = 16 the held-out loss is higher" in said
    assert "the training loss is no lower" in said


def _diverging(found: Sweep, *ranks: int) -> Sweep:
    nothing = Loss(math.nan, math.nan)
    kept = tuple(
        dataclasses.replace(one, loss=nothing, excess=nothing, share=math.nan, seeds=(math.inf,), train_loss=math.nan)
        if one.rank in ranks
        else one
        for one in found.outcome.ranks
    )
    return dataclasses.replace(found, outcome=dataclasses.replace(found.outcome, ranks=kept))


def test_ranks_that_diverged_are_named_in_one_sentence(found, golden):
    golden("diverged.txt", laid_out(Page(), lay, _diverging(found, 2, 8)))
    assert any(line.startswith("r = 1 diverged: a held-out loss of it is") for line in sentences(_diverging(found, 1)))
    above = _diverging(found, 8, 16)
    assert "those above it diverged" in " ".join(sentences(above))
    assert "nan" not in laid_out(Page(), lay, above)
    for kind in KINDS:
        assert figures.loss_against_rank(above.outcome, kind=kind)


def test_one_held_out_document_is_the_reason_that_is_given(found):
    alone = dataclasses.replace(
        found,
        heldout_documents=1,
        outcome=dataclasses.replace(
            found.outcome,
            gain=Loss(0.95, math.nan),
            ranks=tuple(dataclasses.replace(o, excess=Loss(o.excess.mean, math.nan)) for o in found.outcome.ranks),
        ),
    )
    assert headline(alone).startswith("There is one held-out document, which shows no error")
    text = " ".join(laid_out(Page(), lay, alone).split())
    assert "nan" not in text
    assert "0.950 nats per token at r = 4 on 1 held-out document," in text
    assert "hold out two or more" in text


def test_a_base_without_a_loss_is_the_reason_that_is_given(found):
    nothing = Loss(math.nan, math.nan)
    lost = dataclasses.replace(found, outcome=dataclasses.replace(found.outcome, base=nothing, gain=nothing))
    assert headline(lost).startswith("The base model's held-out loss is no finite number")


def test_no_gain_is_said_first(found):
    worse = dataclasses.replace(found, outcome=dataclasses.replace(found.outcome, gain=Loss(-0.1, 0.01)))
    assert headline(worse) == "No rank is better than the base model on held-out data."
    for gain, learned in ((0.011, False), (0.03, True)):
        weak = dataclasses.replace(found, outcome=dataclasses.replace(found.outcome, gain=Loss(gain, 0.01)))
        text = " ".join(laid_out(Page(), lay, weak).split())
        assert ("none can be told to suffice" in text) is not learned
        assert (" suffices (" in text) is learned
        assert ("0.0110 ± 0.0100 nats per token below the base model's" in text) is not learned


def test_the_picture_says_what_the_marks_of_seeds_are(found):
    assert b"a seed" not in figures.loss_against_rank(found.outcome, kind="svg")
    first, *others = found.outcome.ranks
    seeded = dataclasses.replace(found.outcome, ranks=(dataclasses.replace(first, seeds=(1.64, 1.66)), *others))
    assert b"a seed" in figures.loss_against_rank(seeded, kind="svg")


@pytest.mark.parametrize(("kind", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_the_picture_is_the_same_twice(found, kind, begins):
    picture = figures.loss_against_rank(found.outcome, kind=kind)
    assert picture.startswith(begins)
    assert picture == figures.loss_against_rank(found.outcome, kind=kind)
