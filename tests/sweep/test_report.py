"""What a sweep looks like, and its picture."""

from __future__ import annotations

import dataclasses

import pytest

from lorarank.report import figures
from lorarank.report.sweep import headline, render, sentences
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
    golden("sweep.txt", render(found))


def test_what_the_sentences_say_of_the_learning_rate(found):
    said = " ".join(sentences(found))
    assert "0.001 is the best on a grid of half decades at both r = 1 and r = 16" in said
    moved = dataclasses.replace(found, tuning=Tuning(1, 16, 1e-3, 3.16e-4, 1, True))
    said = " ".join(sentences(moved))
    assert "moves from 0.001 at r = 1 to 0.000316 at r = 16" in said
    assert "the last that was tried" in said
    assert "were given" in " ".join(sentences(dataclasses.replace(found, tuning=None)))


def test_no_gain_is_said_first(found):
    worse = dataclasses.replace(found, outcome=dataclasses.replace(found.outcome, gain=Loss(-0.1, 0.01)))
    assert headline(worse) == "No rank is better than the base model on held-out data."
    for gain, learned in ((0.011, False), (0.03, True)):
        weak = dataclasses.replace(found, outcome=dataclasses.replace(found.outcome, gain=Loss(gain, 0.01)))
        text = " ".join(render(weak).split())
        assert ("none can be told to suffice" in text) is not learned
        assert (" suffices (" in text) is learned
        assert ("0.0110 ± 0.0100 nats per token below the base model's" in text) is not learned


@pytest.mark.parametrize(("kind", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_the_picture_is_the_same_twice(found, kind, begins):
    picture = figures.loss_against_rank(found.outcome, kind=kind)
    assert picture.startswith(begins)
    assert picture == figures.loss_against_rank(found.outcome, kind=kind)
