"""Two adapters beside each other: two seeds, two checkpoints, two tasks (floor 2).

*stage* measures module by module, *verdict* says what that means for merging, *result* is what is answered. Merging
itself is left to the tools that do it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorarank.front import lazily, listed

if TYPE_CHECKING:
    from lorarank.compare.options import CompareOptions
    from lorarank.compare.result import Compared
    from lorarank.compare.stage import compare

__all__ = ["CompareOptions", "Compared", "compare"]

_HOMES = {
    "CompareOptions": "options",
    "Compared": "result",
    "compare": "stage",
}
"""Where each name lives: it is imported when it is asked for, so that a command's help costs no numpy."""

if not TYPE_CHECKING:  # to a type checker it would be a package with every name
    __getattr__ = lazily(__name__, _HOMES)
    __dir__ = listed(__name__, _HOMES)
