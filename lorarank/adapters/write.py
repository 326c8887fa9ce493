"""The one way out: an adapter in one of the formats that can be written (floor 1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lorarank.adapters import write_diffusers, write_kohya, write_peft
from lorarank.adapters.adapter import Adapter
from lorarank.adapters.layout import Layout
from lorarank.adapters.replacement import Replacement
from lorarank.errors import OptionError

WRITERS: Mapping[str, Callable[[Adapter, Sequence[Replacement]], Layout]] = {
    "peft": write_peft.layout,
    "kohya": write_kohya.layout,
    "diffusers": write_diffusers.layout,
}
"""Format → what lays an adapter out in it."""

FORMATS = tuple(WRITERS)

BAKED = frozenset({"diffusers"})
"""Formats that hold no scaling of their own."""


def lay_out(adapter: Adapter, replacements: Sequence[Replacement], form: str) -> Layout:
    """What would be written; no numbers are computed yet.

    Raises
    ------
    OptionError
        No such format.
    AdapterError
        The format cannot hold this adapter.

    >>> lay_out(None, [], "gguf")
    Traceback (most recent call last):
        ...
    lorarank.errors.OptionError: --to gguf: this format is not written. Choose among: peft, kohya, diffusers.
    """
    if form not in WRITERS:
        raise OptionError(f"--to {form}", "this format is not written", do=f"choose among: {', '.join(FORMATS)}")
    if form != "peft":
        write_peft.check_base(adapter)
    return WRITERS[form](adapter, replacements)
