"""A brief fine-tune at high rank on the user's own model and data (floor 2).

``import lorarank.probe`` loads no torch; calling :func:`probe` or :func:`plan` does, and nothing else in the package.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lorarank.errors import needing
from lorarank.probe.options import ProbeOptions
from lorarank.runs import Run

if TYPE_CHECKING:
    from lorarank.probe.planning import Plan
    from lorarank.probe.progress import Progress

__all__ = ["ProbeOptions", "plan", "probe"]

NEEDED = ("torch", "transformers", "peft", "accelerate", "datasets")


def probe(
    options: ProbeOptions,
    *,
    report: Callable[[Progress], None] = lambda progress: None,
    announce: Callable[[Plan], None] = lambda plan: None,
    command: Sequence[str] = (),
) -> Run:
    """Fine-tune a LoRA adapter of rank R briefly, measure it on held-out data, and leave a run folder.

    Parameters
    ----------
    options : what to probe, on what, for how long.
    report : called as the work goes on, several times a second at most.
    announce : called once with the plan, before any weight is loaded.
    command : the command line to record in the manifest.

    Returns
    -------
    The finished run, as :func:`lorarank.runs.read` gives it.

    Raises
    ------
    MissingExtraError
        torch, transformers, peft, accelerate or datasets is not installed.
    SourceError, ModelError, CorpusError, OptionError, RunError, ResourceError
        The line of each says what to do. What was finished before is kept for ``resume``.

    Examples
    --------
    >>> from pathlib import Path
    >>> options = ProbeOptions(model="base", data="train.jsonl", output=Path("run"), tokens=60_000)
    >>> probe(options)
    Traceback (most recent call last):
    ...
    lorarank.errors.SourceError: ...
    """
    run: Run = load_stage("pipeline").run(options, report=report, announce=announce, command=command)
    return run


def plan(options: ProbeOptions) -> Plan:
    """What :func:`probe` would do: parameters, tokens, memory, time. Loads no weights and writes nothing."""
    made: Plan = load_stage("planning").make_plan(options)
    return made


def load_stage(name: str) -> Any:
    """A module that needs torch, or the line that says which extra brings it."""
    with needing("lorarank probe", *NEEDED, extra="probe"):
        return importlib.import_module(f"lorarank.probe.{name}")
