"""A sweep laid out for a terminal (floor 4)."""

from __future__ import annotations

import dataclasses

from lorarank.report.page import Page
from lorarank.report.plain import Grid, Records, Sheet, as_json
from lorarank.sweep import Sweep
from lorarank.sweep.outcome import LOSS_SHARE
from lorarank.wording import percent


def lay(page: Sheet, found: Sweep) -> None:
    """The answer, how it was measured, what limits it, and the table of ranks."""
    page.head(headline(found), good=found.outcome.learned)
    page.facts(facts(found))
    page.section("How this came about", sentences(found))
    page.grid(grid(found))


def render(found: Sweep, *, width: int = 100, colour: bool = False) -> str:
    """The same for a terminal, in so many columns."""
    page = Page(width, colour)
    lay(page, found)
    return page.text()


def to_json(found: Sweep) -> str:
    """Everything as JSON with sorted keys; numbers that are not finite are null."""
    return as_json(dataclasses.asdict(found))


def rows(found: Sweep) -> Records:
    """A row a rank: losses in nats per target token."""
    names = ("rank", "parameters", "learning_rate", "train_loss", "loss", "loss_se", "excess", "excess_se", "share")
    return Records(
        (*names, "seeds"),
        tuple(
            (
                *(one.rank, one.parameters, one.learning_rate, one.train_loss),
                *(one.loss.mean, one.loss.se, one.excess.mean, one.excess.se, one.share, len(one.seeds)),
            )
            for one in found.outcome.ranks
        ),
    )


def headline(found: Sweep) -> str:
    """The answer in one sentence."""
    answer = found.outcome
    if answer.gain.mean <= 0:
        return "No rank is better than the base model on held-out data."
    if not answer.learned:
        return "No rank is better than the base model by more than the error of that, so none can be told to suffice."
    around = f"{answer.low}–{answer.high}" if answer.low != answer.high else "for sure"
    return f"r = {answer.r_sufficient} suffices ({around}); the lowest loss is at r = {answer.best}."


def facts(found: Sweep) -> list[tuple[str, str]]:
    """The figures that go with the answer."""
    answer = found.outcome
    return [
        (
            "gain",
            f"{answer.gain.mean:.3f} ± {answer.gain.se:.3f} nats per token at r = {answer.best} on "
            f"{found.heldout_documents:,} held-out documents, {answer.base.mean:.3f} before",
        ),
        (
            "each point",
            f"{found.steps:,} steps, {found.tokens:,} tokens, lora_alpha {found.alpha} at every rank",
        ),
        (
            "seeds",
            f"spread {percent(answer.seed_spread, 2)} of the gain, "
            + ("measured here" if answer.measured_spread else "assumed: there is one seed; see --seeds"),
        ),
        ("cost", f"{found.points} points, {found.trained_tokens:,} tokens, {found.seconds / 60:,.1f} minutes"),
    ]


def sentences(found: Sweep) -> list[str]:
    """What the numbers mean, and what limits them."""
    answer, tuning = found.outcome, found.tuning
    allowed = percent(LOSS_SHARE)
    if not answer.learned:
        return [
            f"The lowest loss, at r = {answer.best}, is {answer.gain.mean:.4f} ± {answer.gain.se:.4f} nats per token "
            "below the base model's. What ranks differ by means something only where there is something to learn: "
            "train for longer, check that the data is what the model is to learn, or hold out more documents."
        ]
    if answer.r_sufficient == answer.best:
        first = f"r = {answer.best} has the lowest loss, and no smaller rank comes within {allowed} of the gain"
    else:
        first = f"r = {answer.r_sufficient} is the smallest rank within {allowed} of the gain of r = {answer.best}"
    said = [
        f"{first}; the smallest that could be is {answer.low}, the smallest that surely is {answer.high} (95%, over "
        "documents and seeds)."
    ]
    if answer.flat:
        said.append("The curve is flat: no rank is worse than the best by more than its error, so any of them will do.")
    if answer.overfits_from is not None:
        said.append(f"Overfitting starts at r = {answer.overfits_from}: beyond the best rank the loss rises for sure.")
    elif answer.best == answer.ranks[-1].rank:
        said.append("The best rank is the highest of the sweep; a higher one may be better still.")
    if tuning is None:
        said.append("The learning rates were given; each rank is shown at the best of them.")
    elif tuning.moves == 0:
        said.append(
            f"The learning rate {tuning.low_rate:.3g} is the best on a grid of half decades at both r = "
            f"{tuning.low_rank} and r = {tuning.high_rank}, so it holds for all ranks between."
        )
    else:
        said.append(
            f"The best learning rate moves from {tuning.low_rate:.3g} at r = {tuning.low_rank} to "
            f"{tuning.high_rate:.3g} at r = {tuning.high_rank}, so every rank was trained at both and at what lies "
            "between, and is shown at its best."
        )
    if tuning is not None and tuning.at_edge:
        said.append("A best learning rate is the last that was tried; a better one may lie beyond it.")
    return said


def grid(found: Sweep) -> Grid:
    """Every rank."""
    answer = found.outcome
    rows = []
    for one in answer.ranks:
        marks = {"suffices": answer.r_sufficient, "best": answer.best} if answer.learned else {}
        mark = ", ".join(word for word, rank in marks.items() if rank == one.rank)
        rows.append(
            (
                str(one.rank),
                f"{one.parameters:,}",
                f"{one.learning_rate:.3g}",
                f"{one.train_loss:.4f}",
                f"{one.loss.mean:.4f}",
                "" if one.rank == answer.best else f"{one.excess.mean:+.4f} ± {one.excess.se:.4f}",
                percent(one.share, 1),
                str(len(one.seeds)),
                mark,
            )
        )
    headings = ("r", "parameters", "rate", "train", "held-out", "beyond the best", "of the gain", "seeds", "")
    return Grid("Loss by rank", headings, (True,) * 8 + (False,), tuple(rows))
