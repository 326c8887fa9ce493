"""What options of several commands have in common: names, and ranges (floor 0, so that no help costs numpy)."""

from __future__ import annotations

from collections.abc import Callable

from lorarank.errors import OptionError

METRICS = ("weight", "activation", "loss")
"""Plain ΔW; ΔW·C^½ with the second moment C of the inputs; G^½·ΔW·C^½ with that of the output gradients too."""

FORMATS = ("peft", "kohya", "diffusers")
"""What any adapter can be written in; :data:`lorarank.adapters.write.WRITERS` are what writes them."""


def check_metric(metric: str) -> None:
    """Refuse what is none of :data:`METRICS`.

    Raises
    ------
    OptionError
        No such metric.

    >>> check_metric("loss")
    """
    if metric not in METRICS:
        raise OptionError(f"--metric {metric}", "no such metric", do=f"choose among: {', '.join(METRICS)}")


def check_share(option: str, share: float | None) -> None:
    """Refuse what is no share; ``None`` names none.

    Raises
    ------
    OptionError
        It is not above 0 and at most 1, or NaN.

    >>> check_share("--energy", 90.0)
    Traceback (most recent call last):
    ...
    lorarank.errors.OptionError: --energy 90: it is a share, above 0 and at most 1. For 90 % give 0.9.
    """
    if share is not None:
        _check(option, share, lambda value: 0 < value <= 1, "it is a share, above 0 and at most 1", "0.90")


def check_keep_loss(share: float) -> None:
    """Refuse what is no part of the gain that may be lost. All of it is none: ``--keep-loss 1`` would mean 1 %.

    Raises
    ------
    OptionError
        It is not above 0 and below 1, or NaN.

    >>> check_keep_loss(1.0)
    Traceback (most recent call last):
    ...
    lorarank.errors.OptionError: --keep-loss 1: it is a share of the gain, above 0 and below 1. For 1 % give 0.01.
    """
    what = "it is a share of the gain, above 0 and below 1"
    _check("--keep-loss", share, lambda value: 0 < value < 1, what, "0.01")


def _check(option: str, share: float, fits: Callable[[float], bool], what: str, example: str) -> None:
    """Refuse a share that does not fit; one that would as so many per cent was most likely meant so."""
    if not fits(share):
        hint = f"for {share:g} % give {share / 100:g}" if share >= 1 and fits(share / 100) else f"give, say, {example}"
        raise OptionError(f"{option} {share:g}", what, do=hint)


def check_least(option: str, value: float | None, least: int = 1) -> None:
    """Refuse a number that is too small; ``None`` names none.

    Raises
    ------
    OptionError
        It is below ``least``.

    >>> check_least("--rank", 8), check_least("--rank", None)
    (None, None)
    >>> check_least("--rank", 0)
    Traceback (most recent call last):
    ...
    lorarank.errors.OptionError: --rank 0: it must be at least 1.
    """
    if value is not None and value < least:
        raise OptionError(f"{option} {value}", f"it must be at least {least}")
