"""What LoRA can be put on in a base model, and what each rank costs there (floor 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorarank.front import lazily, listed

if TYPE_CHECKING:
    from lorarank.inspect.layers import Layer
    from lorarank.inspect.options import InspectOptions
    from lorarank.inspect.result import Cost, Inspection, TargetSet, TypeRow
    from lorarank.inspect.stage import inspect

__all__ = ["Cost", "InspectOptions", "Inspection", "Layer", "TargetSet", "TypeRow", "inspect"]

_HOMES = {
    "Cost": "result",
    "InspectOptions": "options",
    "Inspection": "result",
    "Layer": "layers",
    "TargetSet": "result",
    "TypeRow": "result",
    "inspect": "stage",
}
"""Where each name lives: it is imported when it is asked for, so that a command's help costs no numpy."""

if not TYPE_CHECKING:  # to a type checker it would be a package with every name
    __getattr__ = lazily(__name__, _HOMES)
    __dir__ = listed(__name__, _HOMES)
