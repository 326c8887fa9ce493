"""Two adapters beside each other: two seeds, two checkpoints, two tasks (floor 2).

*stage* measures module by module, *verdict* says what that means for merging, *result* is what is answered. Merging
itself is left to the tools that do it.
"""

from lorarank.compare.options import CompareOptions
from lorarank.compare.result import Compared
from lorarank.compare.stage import compare

__all__ = ["CompareOptions", "Compared", "compare"]
