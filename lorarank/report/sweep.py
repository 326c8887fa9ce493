"""A sweep on a sheet, as JSON and as rows (floor 4)."""

from __future__ import annotations

import dataclasses
import math

from lorarank.estimate.constants import FEW_STEPS
from lorarank.report.json_text import as_json
from lorarank.report.plain import Grid, Records, Sheet
from lorarank.report.recommended_content import may_lose
from lorarank.sweep import Sweep
from lorarank.wording import percent, within


def lay(page: Sheet, found: Sweep) -> None:
    """The answer, how it was measured, what limits it, and the table of ranks."""
    page.head(headline(found), good=found.outcome.learned)
    page.facts(facts(found))
    page.section("How this came about", sentences(found))
    page.grid(grid(found))


def to_json(found: Sweep) -> str:
    """Everything as JSON with sorted keys; numbers that are not finite are null."""
    return as_json(dataclasses.asdict(found))


def rows(found: Sweep) -> Records:
    """One row per rank: losses in nats per target token."""
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
    if math.isnan(answer.gain.mean):
        return "The base model's held-out loss is no finite number, so nothing can be compared with it."
    if answer.gain.mean <= 0:
        return "No rank is better than the base model on held-out data."
    if math.isnan(answer.gain.se):
        return "There is one held-out document, which shows no error, so no rank can be told to suffice."
    if not answer.learned:
        return "No rank is better than the base model by more than the error of that, so none can be told to suffice."
    if not answer.compared:
        return (
            f"Only r = {answer.best} has a finite loss, so it is compared with none and no rank can be told to suffice."
        )
    around = f"{answer.low}–{answer.high} at 95%" if answer.low != answer.high else "at 95%"
    if answer.flat:
        lower = ", so lower ones may do as well" if answer.r_sufficient > answer.ranks[0].rank else ""
        return (
            f"r = {answer.r_sufficient} suffices ({around}); no rank is worse than the best, r = {answer.best}, by "
            f"more than its error at 95%{lower}."
        )
    if answer.censored:
        takes = "it may take more" if answer.lowest_suffices else f"it takes at least r = {answer.r_sufficient}"
        return (
            f"r = {answer.r_sufficient} suffices ({around}) among the ranks tried; the lowest loss is at the highest "
            f"of them, r = {answer.best}, so {takes}."
        )
    return f"r = {answer.r_sufficient} suffices ({around}); the lowest loss is at r = {answer.best}."


def facts(found: Sweep) -> list[tuple[str, str]]:
    """The figures that go with the answer."""
    answer = found.outcome
    return [
        *may_lose(answer.allowed),
        (
            "gain",
            f"{answer.gain.mean:.3f}{within(answer.gain.se, 3)} nats per token at r = {answer.best} on "
            f"{found.heldout_documents:,} held-out document{'s' if found.heldout_documents != 1 else ''}, "
            f"{answer.base.mean:.3f} before",
        ),
        (
            "each point",
            f"{found.steps:,} step{'s' if found.steps != 1 else ''}, {found.tokens:,} tokens, lora_alpha {found.alpha} "
            "at every rank",
        ),
        (
            "seeds",
            ("" if math.isnan(answer.seed_spread) else f"spread {percent(answer.seed_spread, 2)} of the gain, ")
            + (
                "measured here, beside what a seed does to all ranks alike"
                if answer.measured_spread
                else "assumed: too few seeds to measure it; see --seeds"
            ),
        ),
        ("cost", f"{found.points} points, {found.trained_tokens:,} tokens, {found.seconds / 60:,.1f} minutes"),
    ]


def sentences(found: Sweep) -> list[str]:
    """What the numbers mean, and what limits them."""
    if not found.outcome.learned:
        return [*_unlearned(found), *_diverged(found)]
    return [*_sufficient(found), *_diverged(found), *_above_the_best(found), *_rates(found)]


def _unlearned(found: Sweep) -> list[str]:
    answer = found.outcome
    if math.isnan(answer.gain.mean):
        return [
            f"The lowest loss is at r = {answer.best}. Without the base model's, no gain is known: check the model."
        ]
    if answer.gain.mean > 0 and math.isnan(answer.gain.se):
        return [
            f"The lowest loss, at r = {answer.best}, is {answer.gain.mean:.4f} nats per token below the base model's "
            "on one held-out document. How far that holds for others, only more documents can show: hold out two or "
            "more, better fifty."
        ]
    return [
        f"The lowest loss, at r = {answer.best}, is {answer.gain.mean:.4f} ± {answer.gain.se:.4f} nats per token "
        "below the base model's. What ranks differ by means something only where there is something to learn: "
        "train for longer, check that the data is what the model is to learn, or hold out more documents."
    ]


def _sufficient(found: Sweep) -> list[str]:
    answer = found.outcome
    allowed = percent(answer.allowed)
    if answer.r_sufficient == answer.best:
        first = f"r = {answer.best} has the lowest loss, and no smaller rank comes within {allowed} of the gain"
    else:
        first = f"r = {answer.r_sufficient} is the smallest rank within {allowed} of the gain of r = {answer.best}"
    said = [
        f"{first}; at 95%, over documents and seeds, the smallest that could be is {answer.low}, and {answer.high} "
        "does suffice."
    ]
    lowest = answer.ranks[0].rank
    if answer.low == lowest > 1:
        said.append(f"No rank below r = {lowest} was tried: a lower one may suffice as well.")
    if answer.flat:
        said.append(
            "The curve is flat: no rank is worse than the best by more than its error at 95%. These points do not tell "
            "them apart."
        )
    return said


def _diverged(found: Sweep) -> list[str]:
    """Which ranks have no loss."""
    ranks = found.outcome.diverged
    if not ranks:
        return []
    told = ", ".join(f"r = {rank}" for rank in ranks)
    return [
        f"{told} diverged: a held-out loss of {'it' if len(ranks) == 1 else 'each'} is no finite number, so "
        f"{'it is' if len(ranks) == 1 else 'they are'} compared with nothing; a lower learning rate may help."
    ]


def _above_the_best(found: Sweep) -> list[str]:
    """What becomes of the loss beyond the best rank, or that nobody knows."""
    answer = found.outcome
    if answer.censored:
        which = "none above it was tried" if answer.best == answer.ranks[-1].rank else "those above it diverged"
        return [
            f"The best rank, {answer.best}, is the highest with a loss: {which}. If a higher rank is better still, it "
            f"may take more than r = {answer.r_sufficient}{'' if answer.lowest_suffices else ', never less'}."
        ]
    if answer.overfits_from is not None:
        few = f" Doubt it: {found.steps} steps, below {FEW_STEPS}, say little of that."
        return [
            f"Overfitting starts at r = {answer.overfits_from}: beyond the best rank the held-out loss rises by more "
            f"than its error at 95%, while the training loss falls.{few if found.steps < FEW_STEPS else ''}"
        ]
    if answer.worse_from is not None:
        return [
            f"From r = {answer.worse_from} the held-out loss is higher than the best by more than its error at 95%. "
            "That is no overfitting, for the training loss is no lower: such a rank trains worse at this learning rate "
            "or in so few steps."
        ]
    return []


def _rates(found: Sweep) -> list[str]:
    """How the learning rate was found."""
    tuning = found.tuning
    if tuning is None:
        said = ["The learning rates were given; each rank is shown at the best of them."]
    elif tuning.moves == 0:
        said = [
            f"The learning rate {tuning.low_rate:.3g} is the best on a grid of half decades at both r = "
            f"{tuning.low_rank} and r = {tuning.high_rank}, so it holds for all ranks between."
        ]
    else:
        said = [
            f"The best learning rate moves from {tuning.low_rate:.3g} at r = {tuning.low_rank} to "
            f"{tuning.high_rate:.3g} at r = {tuning.high_rank}, so every rank was trained at both and at what lies "
            "between, and is shown at its best."
        ]
    if found.at_last_rate:
        said.append("A best learning rate is the last that was tried; a better one may lie beyond it.")
    return said


def grid(found: Sweep) -> Grid:
    """Every rank."""
    answer = found.outcome
    marks = {answer.r_sufficient: ["suffices"]} if answer.learned else {}
    if answer.learned:
        marks.setdefault(answer.best, []).append("best")
    marks |= {rank: ["diverged"] for rank in answer.diverged}
    rows = [
        (
            str(one.rank),
            f"{one.parameters:,}",
            f"{one.learning_rate:.3g}",
            _number(one.train_loss),
            _number(one.loss.mean),
            "" if one.rank == answer.best or one.diverged else f"{one.excess.mean:+.4f}{within(one.excess.se)}",
            percent(one.share, 1) if math.isfinite(one.share) else "",
            str(len(one.seeds)),
            ", ".join(marks.get(one.rank, ())),
        )
        for one in answer.ranks
    ]
    headings = ("r", "parameters", "rate", "train", "held-out", "beyond the best", "of the gain", "seeds", "")
    return Grid("Loss by rank", headings, (True,) * 8 + (False,), tuple(rows))


def _number(loss: float) -> str:
    return f"{loss:.4f}" if math.isfinite(loss) else ""
