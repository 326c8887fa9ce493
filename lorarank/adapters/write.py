"""The one way out: an adapter in one of the formats that can be written (floor 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from lorarank.adapters import write_diffusers, write_kohya, write_peft, write_stored
from lorarank.adapters.adapter import Adapter
from lorarank.adapters.layout import Layout
from lorarank.adapters.mlx import part_of_fused
from lorarank.adapters.replacement import Replacement
from lorarank.adapters.verbatim import check_biases
from lorarank.choices import FORMATS
from lorarank.errors import AdapterError, OptionError

WRITERS: Mapping[str, Callable[[Adapter, Sequence[Replacement]], Layout]] = {
    "peft": write_peft.layout,
    "kohya": write_kohya.layout,
    "diffusers": write_diffusers.layout,
}
"""Each of :data:`lorarank.choices.FORMATS` → what lays an adapter out in it."""

STORED = write_stored.FORMATS
"""What an adapter of the same format can be written in besides, under the names it has."""

BAKED = frozenset({"diffusers"})
"""Formats that hold no scaling of their own."""


LEAVE = "leave --to out"
"""What errors advise where another format cannot hold an adapter."""


@contextmanager
def as_it_was(to: str | None) -> Iterator[None]:
    """Where no other format is asked for, errors do not advise to ask for none.

    >>> with as_it_was(None):
    ...     raise AdapterError("in", "no place for it", do="leave --to out, or write --to peft")
    Traceback (most recent call last):
        ...
    lorarank.errors.AdapterError: in: no place for it. Write --to peft.
    """
    try:
        yield
    except AdapterError as error:
        if to is not None or not error.do.startswith(LEAVE):
            raise
        rest = error.do.removeprefix(LEAVE).removeprefix(", or ") or "leave this adapter as it is"
        raise AdapterError(error.where, error.what, why=error.why, do=rest) from None


def lay_out(adapter: Adapter, replacements: Sequence[Replacement], form: str) -> Layout:
    """What would be written; no numbers are computed yet.

    Parameters
    ----------
    adapter : what is written anew. For another format than its own, its modules are named by their paths in a model
        (:func:`lorarank.adapters.names.by_path`).
    replacements : of its modules.
    form : one of :data:`lorarank.choices.FORMATS`, or the adapter's own.

    Raises
    ------
    OptionError
        No such format.
    AdapterError
        The format cannot hold this adapter, or its file holds more.

    >>> lay_out(None, [], "gguf")
    Traceback (most recent call last):
        ...
    lorarank.errors.OptionError: --to gguf: this format is not written. Choose among: peft, kohya, diffusers.
    """
    stored = form in STORED and form == adapter.format
    if not stored and form not in WRITERS:
        raise OptionError(f"--to {form}", "this format is not written", do=f"choose among: {', '.join(FORMATS)}")
    left = getattr(adapter.store, "left", ())
    if left:
        raise AdapterError(
            adapter.source,
            f"it holds other tensors beside the adapter, under {', '.join(left)}",
            why="no format has a place for them, and all of it is written, or nothing",
            do="save the adapter's tensors as a file of their own",
        )
    check_biases(adapter, replacements)
    if stored:
        return write_stored.layout(adapter, replacements)
    of_mlx = adapter.format == "mlx"
    part = next((m for m in adapter.modules if m.is_part or (of_mlx and part_of_fused(m.keys[0]))), None)
    if part is not None:
        raise AdapterError(
            f"{adapter.source}: {part.name}",
            "a part of a fused projection, with factors of its own",
            why="other formats have one pair for the whole",
            do="leave --to out",
        )
    if form != "peft":
        write_peft.check_base(adapter)
    return WRITERS[form](adapter, replacements)
