"""The straight way from a training log to a diagnosis (floor 2)."""

from __future__ import annotations

from pathlib import Path

from lorarank.diagnose import signs
from lorarank.diagnose.beside import other_lengths, other_ranks, saturation
from lorarank.diagnose.options import DiagnoseOptions
from lorarank.diagnose.read import read
from lorarank.diagnose.result import Diagnosis, Sign
from lorarank.diagnose.training import Training
from lorarank.diagnose.verdict import verdict_of


def diagnose(source: str | Path, options: DiagnoseOptions | None = None) -> Diagnosis:
    """Say whether the rank of a training run was too low, too high or fine, as far as its curves tell.

    Parameters
    ----------
    source : a run of ``lorarank probe``; ``trainer_state.json``, a checkpoint or the folder of checkpoints;
        ``log.jsonl``; or a folder with TensorBoard's event files.
    options : what to ask; defaults where left out.

    Raises
    ------
    SourceError, CurveError
        It leads nowhere, or there is no log in it, or one without losses.
    RunError
        The run or the sweep is damaged.
    MissingExtraError
        TensorBoard's files without the package ``tensorboard``.

    Examples
    --------
    >>> diagnose("no-such-run")
    Traceback (most recent call last):
    ...
    lorarank.errors.CurveError: no-such-run: no such file or folder. Give the folder of a probe, ...
    """
    options = options or DiagnoseOptions()
    found = read(source, options.validation)
    rank = options.rank if options.rank is not None else found.rank
    seen = list(signs_of(found))
    if found.adapter is not None:
        seen.append(saturation(found.adapter))
    curves = (found.train, found.validation)
    steps = int(max((float(one.steps[-1]) for one in curves if len(one)), default=0.0))
    notes = found.notes
    if options.sweep is not None:
        from lorarank.sweep import read as read_sweep

        swept = read_sweep(options.sweep)
        seen.append(other_ranks(swept.outcome, rank))
        notes += other_lengths(swept, steps)
    verdict = verdict_of(seen, rank, run=str(source) if found.kind == "run" else None)
    return Diagnosis(
        source=str(source),
        kind=found.kind,
        rank=rank,
        verdict=verdict.verdict,
        confidence=verdict.confidence,
        reason=verdict.reason,
        next=verdict.next,
        signs=tuple(seen),
        losses=len(found.train),
        evaluations=len(found.validation),
        steps=steps,
        notes=notes,
    )


def signs_of(found: Training) -> tuple[Sign, ...]:
    """The signs of the curves alone.

    >>> from lorarank.diagnose.curves import NOTHING, curve
    >>> [sign.outcome for sign in signs_of(Training("log", curve([1, 2], [2.0, float("nan")]), NOTHING))]
    ['seen']
    """
    train, validation = found.train, found.validation
    broken = signs.diverged(train, validation)
    if broken is not None:
        return (broken,)
    shape = signs.shape_of(train, validation, found.base, found.fall_se)
    return (
        signs.plateau(train, validation, shape, found.rate),
        signs.stuck(shape),
        signs.overfitting(train, validation, shape),
        signs.gap(train, validation, shape, found.epochs),
        signs.unfinished(train, validation, shape),
    )
