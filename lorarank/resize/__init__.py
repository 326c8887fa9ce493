"""An adapter made smaller, or written in another format, with what that drops stated (floor 2).

*options* says what can be asked, *ranks* turns spectra into a rank for every module, *stage* is the straight way from
an adapter to the files of another, *result* is what it answers. Numbers are read, cut and written a module at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorarank.front import lazily, listed

if TYPE_CHECKING:
    from lorarank.resize.options import ConvertOptions, ResizeOptions
    from lorarank.resize.result import Resized
    from lorarank.resize.stage import convert, resize

__all__ = ["ConvertOptions", "ResizeOptions", "Resized", "convert", "resize"]

_HOMES = {
    "ConvertOptions": "options",
    "ResizeOptions": "options",
    "Resized": "result",
    "convert": "stage",
    "resize": "stage",
}
"""Where each name lives: it is imported when it is asked for, so that a command's help costs no numpy."""

if not TYPE_CHECKING:  # to a type checker it would be a package with every name
    __getattr__ = lazily(__name__, _HOMES)
    __dir__ = listed(__name__, _HOMES)
