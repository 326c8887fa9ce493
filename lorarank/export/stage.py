"""From a run or an adapter to the configuration of a tool (floor 3)."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

from lorarank import files
from lorarank.errors import OptionError
from lorarank.export.document import Exported
from lorarank.export.options import ExportOptions
from lorarank.export.settings import Settings, gather
from lorarank.export.translate import require_causal


def export(source: str | Path, options: ExportOptions) -> Exported:
    """The recommendation of a run, or an adapter's own configuration, in the words of a tool.

    Parameters
    ----------
    source : the folder of a run, or an adapter: a folder, a file or a hub id ``owner/name[@revision]``.
    options : which tool, and what of it.

    Raises
    ------
    RefusedError
        The run carries no recommendation, and ``options.rank`` is not given. Nothing is exported then.
    OptionError
        The tool cannot do what is asked or is not for such a model, or the options do not go with the source.
    SourceError, AdapterError, RunError, NumericsError
        A source that is missing, damaged or unfinished.

    >>> export("lora-that-is-not-there", ExportOptions("peft"))
    Traceback (most recent call last):
        ...
    lorarank.errors.SourceError: lora-that-is-not-there: no such file or folder, and no hub id either. \
Name a folder, a file, or a hub id like owner/name or owner/name@revision.
    """
    settings = gather(source, options)
    require_causal(settings, options.to)
    document, notes = importlib.import_module(f"lorarank.export.tools.{options.to}").write(settings)
    return Exported(options.to, settings, document, (*settings.notes, *_about_rate(settings, options.to), *notes))


def _about_rate(settings: Settings, tool: str) -> tuple[str, ...]:
    """Where the learning rate comes from; a serving engine has none."""
    if settings.learning_rate is None or tool == "vllm":
        return ()
    return (
        f"Learning rate {settings.learning_rate:g} to start from, with a linear schedule: the probe's, carried over to "
        f"a scaling of {settings.scaling:g}. Tune from there.",
    )


def write(output: Path, text: str) -> None:
    """Write the text of an export to a new file: all of it, or nothing.

    Raises
    ------
    OptionError
        ``output`` exists.
    ResourceError
        It cannot be written.
    """
    if os.path.lexists(output):
        raise OptionError(f"-o {output}", "it exists", do="give a new name; nothing is replaced")
    files.write(output, text.encode())
