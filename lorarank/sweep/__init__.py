"""The systematic search: train at every rank, tune the learning rate, plot loss against r (floor 2).

*stage* is the whole of it: *search* decides which points to train, *points* trains each once and keeps it, here or by
*cluster*, *outcome* says which rank suffices. *folder* tells a finished one from other folders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorarank.front import lazily, listed

if TYPE_CHECKING:
    from lorarank.sweep.folder import SWEEP, is_sweep, refuse_sweeps
    from lorarank.sweep.options import SweepOptions
    from lorarank.sweep.stage import Sweep, read, sweep

__all__ = ["SWEEP", "Sweep", "SweepOptions", "is_sweep", "read", "refuse_sweeps", "sweep"]

_HOMES = {
    "SWEEP": "folder",
    "Sweep": "stage",
    "SweepOptions": "options",
    "is_sweep": "folder",
    "read": "stage",
    "refuse_sweeps": "folder",
    "sweep": "stage",
}
"""Where each name lives: it is imported when it is asked for, so that a command's help costs no numpy."""

if not TYPE_CHECKING:  # to a type checker it would be a package with every name
    __getattr__ = lazily(__name__, _HOMES)
    __dir__ = listed(__name__, _HOMES)
