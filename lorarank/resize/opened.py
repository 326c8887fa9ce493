"""What is resized or converted, and which format it becomes (floor 2)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from lorarank import adapters, runs
from lorarank.adapters import Adapter
from lorarank.adapters.names import by_path
from lorarank.adapters.names.base import open_base
from lorarank.adapters.write import STORED, as_it_was
from lorarank.adapters.write_kohya import has_other_names
from lorarank.choices import FORMATS
from lorarank.errors import OptionError
from lorarank.resize.options import ConvertOptions
from lorarank.runs import Run
from lorarank.sources import Source

GGUF_BY = ", from which llama.cpp's convert_lora_to_gguf.py makes a GGUF file"


@dataclass(frozen=True)
class Opened:
    """An adapter, what it was opened from and, where that was one, the run it is of.

    ``adapter`` has its modules named as the format ``form`` needs them, ``stored`` is the format that it was in, and
    ``parameters`` is what it stores.
    """

    source: str
    adapter: Adapter
    run: Run | None
    form: str
    stored: str
    parameters: int

    @property
    def moments(self) -> Path | None:
        """The run's second moments."""
        return self.run.moments if self.run is not None else None


def open_source(source: Source, options: ConvertOptions) -> Opened:
    """Open an adapter, or the first one of a run, for the form that is asked for.

    Raises
    ------
    SourceError, AdapterError, RunError, ModelError
        It, or the base model, cannot be read or trusted.
    OptionError
        A form that is not written, or a base model that it does not take.
    """
    folder = runs.folder_of(source)
    run = None if folder is None else runs.read(folder)
    stored = adapters.open(source if run is None else run.adapters[0])
    form = _form(stored, options)
    own = form == stored.format and not (options.to == "kohya" and has_other_names(stored))
    if options.base is not None and own:
        raise OptionError("--base", f"the adapter keeps its format, {form}, and names", do="leave it out, or add --to")
    base = None if options.base is None else open_base(options.base)
    named = own and form != "diffusers"  # whose files hold names of the models' first code too
    with as_it_was(options.to):
        adapter = stored if named else by_path(stored, base, form)
    if form == stored.format == "kohya" and not own:
        adapter = dataclasses.replace(adapter, format="diffusers")  # by its names
    return Opened(str(source), adapter, run, form, stored.format, stored.parameters)


def _form(adapter: Adapter, options: ConvertOptions) -> str:
    form = options.to or adapter.format
    if form not in (*FORMATS, *STORED):
        raise OptionError(
            "--to",
            f"the input is in the format {form}, which is not written",
            do="give --to peft" + (GGUF_BY if form == "gguf" else ""),
        )
    return form
