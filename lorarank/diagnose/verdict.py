"""From signs to a verdict and what to do next (floor 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lorarank.diagnose.result import CANNOT_TELL, FINE, TOO_HIGH, TOO_LOW, UNTESTED, Sign


class Verdict(NamedTuple):
    """The verdict, how sure it is, why, and what to do."""

    verdict: str
    confidence: str | None
    reason: str
    next: tuple[str, ...]


SWEEP = "Train at several ranks on the same data: lorarank sweep MODEL --data D -o sweep."
PROBE = "Measure which rank this data needs: lorarank probe MODEL --data D -o run, then lorarank estimate run."


def verdict_of(signs: Sequence[Sign], rank: int | None, *, run: str | None = None) -> Verdict:
    """The verdict of all signs; ranks that were trained weigh more than curves, and curves more than their absence.

    ``run`` is the folder of a probe, which answers better than its curves do.

    >>> verdict_of((), None).verdict
    'cannot tell'
    """
    found = {sign.name: sign for sign in signs}
    seen = {name for name, sign in found.items() if sign.seen}
    if "diverged" in seen:
        return _unknown("the loss diverged", "Lower the learning rate and train again; the rank did not do this.")
    if "other ranks" in seen:
        return _by_sweep(found["other ranks"])
    trained = found.get("other ranks")
    enough = None if trained is None else trained.numbers.get("r_sufficient")
    sweep = (SWEEP,) if enough is None else ()
    if "overfitting" in seen:
        return Verdict(
            TOO_HIGH,
            "medium",
            "the validation loss rises while the training loss goes on falling",
            (
                f"Keep the checkpoint around step {found['overfitting'].numbers['lowest_step']:,.0f}, at no cost.",
                f"{_smaller(rank, enough)}; fewer passes over the data, more data or dropout help against it too.",
                *sweep,
            ),
        )
    if "stuck" in seen:
        return _unknown(
            "nothing was learned, which a rank too low does last of all",
            "Raise the learning rate tenfold, and check that lora_B is not zero: lorarank audit ADAPTER.",
            "Check that the loss falls on what should be learned (the labels), and which modules are trained.",
        )
    if "instability" in seen:
        return _unknown("both losses rise", "Lower the learning rate, or clip gradients, and look again.")
    if trained is not None and trained.outcome != UNTESTED:
        known = None if trained.numbers["at_least"] else enough  # of a rank that may be too low nothing is promised
        return Verdict(FINE, "high", trained.sentence.rstrip("."), _kept(rank, known))
    if "early plateau" in seen:
        above = enough is not None and (rank is None or enough > rank)
        return _plateau(found, seen, f"r = {enough:g}" if above else _double(rank), sweep)
    if "unfinished" in seen:
        return _unknown("the loss was still falling when training ended", "Train longer, then look again.", PROBE)
    if "gap" in seen:
        return _unknown(
            "the training loss has run away from the validation loss, which has not risen yet",
            "Stop here rather than train on, or evaluate more often to see a rise when it comes.",
            *sweep,
        )
    if run is not None:
        return _unknown(
            "a probe has no validation losses on the way, and its rank is high on purpose",
            f"Read the rank this data needs off the probe: lorarank estimate {run}.",
        )
    if not found or any(found[name].outcome == UNTESTED for name in ("early plateau", "overfitting") if name in found):
        return _unknown(
            "the curves do not carry a test of every sign",
            "Log more: eval_steps for a dozen validation losses, logging_steps for some dozens of training losses.",
            PROBE,
        )
    return Verdict(
        FINE,
        "medium",
        "the loss fell, kept falling after the first third, and the validation loss did not turn",
        ("Nothing: keep this rank. Whether a smaller one would do as well only trained ranks tell.", *sweep),
    )


def _kept(rank: int | None, enough: float | None) -> tuple[str, ...]:
    if rank is not None and enough is not None and enough < rank:
        return (f"Nothing: keep this rank. r = {enough:g} suffices in the sweep, with fewer parameters.",)
    return ("Nothing: keep this rank.",)


def _smaller(rank: int | None, enough: float | None) -> str:
    """The rank to go down to, if there is one below; the sweep's where one was given."""
    if enough is None:
        return f"Train at {_half(rank)}"
    if rank is None or enough < rank:
        return f"Train at r = {enough:g}, which suffices in the sweep"
    return "Keep the rank, as none below it is sure to suffice in the sweep"


def _plateau(found: dict[str, Sign], seen: set[str], higher: str, sweep: tuple[str, ...]) -> Verdict:
    use = found.get("saturation")
    if "saturation" in seen:
        return Verdict(
            TOO_LOW,
            "medium",
            "the loss levelled off early, and the adapter uses all the rank it has",
            (f"Train at {higher}: if the loss does not move, it was not the rank.", *sweep),
        )
    if use is not None and use.numbers.get("room"):
        return Verdict(
            FINE,
            "low",
            "the loss levelled off early, but the adapter has room to spare: it is not the rank that stops it",
            (
                "Look at the data, the learning rate and the modules that are trained before the rank.",
                *("A smaller rank may do as well: " + one[0].lower() + one[1:] for one in sweep),
            ),
        )
    return Verdict(
        TOO_LOW,
        "low",
        "the loss levelled off early, which a task that is already learned does too",
        (
            f"Train at {higher}: if the loss does not move, it was not the rank.",
            "Look whether the adapter uses all the rank it has: lorarank audit ADAPTER.",
            *sweep,
        ),
    )


def _by_sweep(sign: Sign) -> Verdict:
    enough = sign.numbers["r_sufficient"]
    verdict = TOO_HIGH if sign.speaks_for == TOO_HIGH else TOO_LOW
    return Verdict(verdict, "high", sign.sentence.rstrip("."), (f"Train at r = {enough:g}.",))


def _unknown(reason: str, *then: str) -> Verdict:
    return Verdict(CANNOT_TELL, None, reason, then)


def _half(rank: int | None) -> str:
    return "half the rank" if rank is None or rank < 2 else f"r = {rank // 2}"


def _double(rank: int | None) -> str:
    return "twice the rank" if rank is None else f"r = {2 * rank}"
