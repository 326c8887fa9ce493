"""Names to choose among that several commands have in common (floor 0, so that no command's help costs numpy)."""

from __future__ import annotations

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
