"""Was the rank of a training run right? The signs of its curves, tested (floor 2).

``diagnose`` is the whole of it: *read* finds the curves (*tensorboard* those of event files), *curves* tells movement
from noise, *signs* tests each sign, *beside* looks at the adapter and at other ranks, *verdict* draws the conclusion.
Every threshold is in *constants*.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorarank.front import lazily, listed

if TYPE_CHECKING:
    from lorarank.diagnose.options import DiagnoseOptions
    from lorarank.diagnose.result import Diagnosis, Sign
    from lorarank.diagnose.stage import diagnose

__all__ = ["DiagnoseOptions", "Diagnosis", "Sign", "diagnose"]

_HOMES = {"DiagnoseOptions": "options", "Diagnosis": "result", "Sign": "result", "diagnose": "stage"}
"""Where each name lives: it is imported when it is asked for, so that a command's help costs no numpy."""

if not TYPE_CHECKING:  # to a type checker it would be a package with every name
    __getattr__ = lazily(__name__, _HOMES)
    __dir__ = listed(__name__, _HOMES)
