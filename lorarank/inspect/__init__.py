"""What LoRA can be put on in a base model, and what each rank costs there (floor 2)."""

from lorarank.inspect.layers import Layer
from lorarank.inspect.options import InspectOptions
from lorarank.inspect.result import Cost, Inspection, TargetSet, TypeRow
from lorarank.inspect.stage import inspect

__all__ = ["Cost", "InspectOptions", "Inspection", "Layer", "TargetSet", "TypeRow", "inspect"]
