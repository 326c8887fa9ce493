"""The whole of a sweep, from its options to ``sweep.json`` (floor 2); only calling :func:`sweep` loads torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorarank import ray_cluster
from lorarank.errors import OptionError, RunError, printable
from lorarank.json_files import read_json, write_json
from lorarank.locks import sole_writer
from lorarank.probe import load_stage
from lorarank.probe.progress import Report
from lorarank.probe.provenance import provenance
from lorarank.result import Result
from lorarank.sweep.folder import SWEEP, is_sweep
from lorarank.sweep.options import SweepOptions, said_of_a_sweep
from lorarank.sweep.outcome import Outcome
from lorarank.sweep.points import FOLDER, Points
from lorarank.sweep.search import Tuning, search


@dataclass(frozen=True)
class Sweep(Result):
    """A finished sweep, as ``sweep.json`` keeps it.

    ``tokens`` and ``steps`` are those of every point, ``trained_tokens`` those of all points together and ``seconds``
    what they took, whenever they were trained; ``points`` is how many there are. ``lrs`` are the learning rates that
    were given, ``None`` where they were searched for, and in sweeps from before they were kept.
    """

    schema: int
    lorarank: str
    versions: Mapping[str, str]
    command: tuple[str, ...]
    created: str
    model: str
    data: str
    heldout_documents: int
    heldout_target_tokens: int
    tokens: int
    steps: int
    batch_tokens: int
    alpha: int
    seeds: int
    points: int
    trained_tokens: int
    seconds: float
    tuning: Tuning | None
    outcome: Outcome
    lrs: tuple[float, ...] | None = None

    @property
    def at_last_rate(self) -> bool:
        """Whether a rank does best at the lowest or the highest of several learning rates, beyond which none was
        tried."""
        if self.tuning is not None:
            return self.tuning.at_edge
        ends = (min(self.lrs), max(self.lrs)) if self.lrs is not None and len(self.lrs) > 1 else ()
        return any(one.learning_rate in ends for one in self.outcome.ranks)


def sweep(
    options: SweepOptions,
    *,
    report: Report = lambda progress: None,
    announce: Callable[[str], None] = lambda text: None,
    command: Sequence[str] = (),
) -> Sweep:
    """Train at every rank with a tuned learning rate, on the same data and budget, and say which rank suffices.

    Parameters
    ----------
    options : what to sweep, over which ranks.
    report : called as the work goes on.
    announce : called with a sentence on what is other than asked for: ranks that no matrix has room for, modules that
        are left out, kept points that are trained again.
    command : the command line to record.

    Returns
    -------
    The sweep; ``sweep.json`` in ``options.output`` holds it too, and every point lies in the folder below.

    Raises
    ------
    MissingExtraError
        torch, transformers, peft, accelerate or datasets is not installed; or ray, where it was asked for.
    SourceError, ModelError, CorpusError, OptionError, RunError, ResourceError
        The line of each says what to do. Points that were trained before are kept and not trained again.

    Examples
    --------
    >>> sweep(SweepOptions(model="base", data="train.jsonl", output=Path("sweep")))
    Traceback (most recent call last):
    ...
    lorarank.errors.SourceError: ...
    """
    if options.ray is not None:
        ray_cluster.connect(options.ray)  # before the model and the data are loaded
    bench = load_stage("point").Bench(options.point(options.ladder[0]))
    with said_of_a_sweep():
        options = _fitted(options, bench.aim.tightest, announce)
    plain = options.point(options.ladder[-1])
    bench.reach(plain.rank)
    for sentence in (*bench.aim.fitting(plain.rank).notes, *bench.material.notes):
        announce(sentence)
    fan = None
    if options.ray is not None:
        from lorarank.sweep.cluster import fan_out

        fan = fan_out(options)
    points = Points(bench, options.output, report, fan, announce)
    per_rank = sum(out + inner for out, inner in bench.targets.values())
    resources = load_stage("failures").resources
    with (
        resources(bench.material, options.output, again="give the same command again"),
        sole_writer(options.output, "sweep", FOLDER),
    ):
        found, tuning = search(points, options, per_rank)
        result = _result(bench, points, options, found, tuning, command)
        write_json(options.output / SWEEP, result)
    return result


def _result(
    bench: Any, points: Points, options: SweepOptions, found: Outcome, tuning: Tuning | None, command: Sequence[str]
) -> Sweep:
    trained = [point for spot, point in points.found.items() if spot.rank > 0]
    return Sweep(
        **provenance(command),
        model=options.model,
        data=options.data,
        heldout_documents=len(points.base().counts),
        heldout_target_tokens=sum(points.base().counts),
        tokens=bench.options.token_budget,
        steps=max(point.steps for point in trained),
        batch_tokens=bench.material.step_tokens,
        alpha=options.alpha,
        seeds=options.seeds,
        points=len(trained),
        trained_tokens=sum(point.trained_tokens for point in trained),
        seconds=round(sum(point.seconds for point in trained), 1),
        tuning=tuning,
        outcome=found,
        lrs=options.lrs,
    )


def _fitted(
    options: SweepOptions, tightest: tuple[str, tuple[int, int]], announce: Callable[[str], None]
) -> SweepOptions:
    """With the ranks that the tightest module has room for; ranks that were asked for and have none are an error."""
    name, shape = tightest
    room = min(shape)
    above = [str(rank) for rank in options.ladder if rank > room]
    if not above:
        return options
    why = f"{printable(name)} is {shape[0]}×{shape[1]}, so no update of it has a rank above {room}"
    if options.ranks is not None:
        what = f"give ranks up to {room}, or leave this module out with --target"
        raise OptionError(f"--ranks {','.join(above)}", why, do=what)
    if room < options.ladder[1]:
        raise OptionError(
            f"--target {options.target}", f"{why}, and a sweep takes two or more ranks", do="leave this module out"
        )
    announce(f"Left out: r = {', '.join(above)}. {why[0].upper()}{why[1:]}.")
    return dataclasses.replace(options, ranks=tuple(rank for rank in options.ladder if rank <= room))


def read(folder: Path) -> Sweep:
    """Read a finished sweep.

    Raises
    ------
    RunError
        There is none, or its file is damaged or of another schema.
    """
    if not is_sweep(folder):
        raise RunError(folder, f"there is no {SWEEP} here", do="finish the sweep with the same command")
    found = read_json(folder / SWEEP, Sweep)
    ranks = found.outcome.ranks
    if any(one.rank < 1 for one in ranks) or all(math.isnan(one.loss.mean) for one in ranks):
        raise RunError(folder / SWEEP, "no ranks from 1 up with a loss", do="finish the sweep with the same command")
    return found
