"""What LoRA can be put on in a base model, and what each rank costs there (floor 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorarank.front import lazily

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

__getattr__ = lazily(__name__, _HOMES)
