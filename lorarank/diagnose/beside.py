"""What lies beside the curves: the adapter that was trained, and other ranks that were (floor 2)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lorarank import adapters
from lorarank.diagnose import constants as c
from lorarank.diagnose.result import HIGH, LOW, NOT_SEEN, SEEN, UNTESTED, Sign
from lorarank.errors import LorarankError
from lorarank.estimate.constants import ENERGY, LOSS_SHARE
from lorarank.numerics import criteria
from lorarank.spectrum import measure
from lorarank.sweep.outcome import Outcome
from lorarank.wording import percent

if TYPE_CHECKING:
    from lorarank.sweep import Sweep


def saturation(folder: Path) -> Sign:
    """Whether the adapter uses all the rank it has: its energy rank over r, in the median module.

    An adapter that cannot be read is a sign that cannot be tested, and no error: the curves are what was asked about.
    """
    try:
        spectra = measure(adapters.open(folder))
    except LorarankError as error:
        return Sign("saturation", LOW, UNTESTED, f"The adapter beside the log cannot be measured: {error}", {})
    used = [
        criteria.energy(one.singular_values, ENERGY) / one.r
        for one in spectra
        if one.r > 1 and one.singular_values.any()
    ]
    if not used:
        sentence = "No module of the adapter has more than one direction, or none has any update."
        return Sign("saturation", LOW, UNTESTED, sentence, {})
    median = float(np.median(used))
    seen, room = median >= criteria.SATURATED, median <= c.ROOM
    what = "it uses all it has" if seen else "it has room to spare" if room else "neither all of it nor little"
    sentence = (
        f"{percent(ENERGY)} of the energy takes {percent(median, 0)} of the rank in the median of {len(used)} modules: "
        f"{what}."
    )
    numbers = {"used": median, "modules": float(len(used)), "room": float(room)}
    return Sign("saturation", LOW, SEEN if seen else NOT_SEEN, sentence, numbers)


def other_ranks(found: Outcome, rank: int | None) -> Sign:
    """Whether the rank does worse than another that was trained on the same data, by a sweep.

    A rank that the sweep has not trained is judged by its interval: below ``low`` it is too small, at or above
    ``worse_from`` it is too large, at 95 %. Of one above all that were trained nothing else is known, and nothing of
    one below all where ``low`` is the lowest of them.
    """
    name = "other ranks"
    if rank is None:
        return Sign(
            name, HIGH, UNTESTED, "The rank of this run is not known, so the sweep says nothing; give --rank.", {}
        )
    if not found.learned:
        return Sign(
            name,
            HIGH,
            UNTESTED,
            "No rank of the sweep is better than the base model by more than the error of that.",
            {},
        )
    if not found.compared:
        sentence = f"Only r = {found.best} of the sweep has a finite loss, so it is compared with none."
        return Sign(name, HIGH, UNTESTED, sentence, {})
    where = "" if found.allowed == LOSS_SHARE else f" where {percent(found.allowed)} of the gain may be lost"
    least = found.censored and not found.lowest_suffices
    enough = f"it takes at least r = {found.r_sufficient}" if least else f"r = {found.r_sufficient} suffices"
    enough += where
    numbers = {
        "rank": float(rank),
        "best": float(found.best),
        "r_sufficient": float(found.r_sufficient),
        "low": float(found.low),
        "high": float(found.high),
        "allowed": found.allowed,
        "at_least": float(found.censored),
    }
    here = next((one for one in found.ranks if one.rank == rank), None)
    told = f"r = {rank}"
    if here is not None and here.diverged:
        sentence = f"In the sweep {told} diverged, so it is not compared; {enough}."
        return Sign(name, HIGH, UNTESTED, sentence, numbers)
    if here is not None:
        numbers |= {"excess": here.excess.mean, "excess_standard_error": here.excess.se, "share": here.share}
        if rank != found.best:
            told += f", {here.excess.mean:+.4f} ± {here.excess.se:.4f} nats beside r = {found.best},"
    beyond = found.worse_from is not None and rank >= found.worse_from
    if rank > found.best and (beyond if here is None else here.worse):
        sentence = f"In the sweep {told} is worse than the lower rank {found.best}; {enough}."
        return Sign(name, HIGH, SEEN, sentence, numbers)
    lowest = found.ranks[0].rank
    if rank < found.low == lowest:
        sentence = f"The sweep starts at r = {lowest}, so it says nothing of {told}; {enough}."
        return Sign(name, LOW, UNTESTED, sentence, numbers)
    if rank < found.low:
        sentence = f"In the sweep {told} is not enough (95%): it takes r = {found.low} at least{where}."
        return Sign(name, LOW, SEEN, sentence, numbers)
    if rank < found.r_sufficient:
        sentence = f"In the sweep {told} may or may not suffice; r = {found.r_sufficient} does{where}."
        return Sign(name, LOW, UNTESTED, sentence, numbers)
    highest = found.ranks[-1].rank
    if rank > highest:
        sentence = f"The sweep goes up to r = {highest}, so it says nothing of {told}; {enough}."
        return Sign(name, HIGH, UNTESTED, sentence, numbers)
    if here is None:
        last = max(one.rank for one in found.ranks if found.worse_from is None or one.rank < found.worse_from)
        sentence = f"The sweep has not trained {told}; {enough}, and up to r = {last} no higher rank is worse."
        return Sign(name, HIGH, NOT_SEEN, sentence, numbers)
    if here.worse:
        sentence = f"In the sweep {told} is worse than the best by {percent(1 - here.share, 1)} of the gain; {enough}."
        return Sign(name, HIGH, NOT_SEEN, sentence, numbers)
    sentence = f"In the sweep {told} does as well as any within the error; {enough}."
    return Sign(name, HIGH, NOT_SEEN, sentence, numbers)


def other_lengths(found: Sweep, steps: int) -> tuple[str, ...]:
    """A note where the points of a sweep were trained for less than half as many steps as a run, or more than twice."""
    if steps == 0 or 0.5 <= found.steps / steps <= 2:
        return ()
    return (
        f"The sweep trained {found.steps:,} steps a point, of {found.batch_tokens:,} tokens each, and this run "
        f"{steps:,} steps: a longer training can ask for a higher rank.",
    )
