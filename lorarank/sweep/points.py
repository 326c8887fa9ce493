"""The points of a sweep: each trained once and kept at once, so that an interrupted sweep goes on (floor 2)."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from lorarank.errors import RunError
from lorarank.files import disk_error
from lorarank.json_files import SCHEMA, read_json, write_json
from lorarank.probe.contents import changed
from lorarank.probe.progress import Progress, Report
from lorarank.sweep.outcome import Trained

FOLDER = "points"


class Spot(NamedTuple):
    """Where a point is: what it is trained at."""

    rank: int
    learning_rate: float
    seed: int

    def __str__(self) -> str:
        return f"r = {self.rank}, learning rate {self.learning_rate:.3g}, seed {self.seed}"


@dataclass(frozen=True)
class StoredPoint:
    """``points/*.json``: a point with all that its numbers depend on. ``base`` is the base model without an adapter,
    at rank 0. ``contents`` are hashes of what it was trained on, ``None`` in points from before they were taken."""

    schema: int
    identity: str
    rank: int
    learning_rate: float
    seed: int
    sums: tuple[float, ...]
    counts: tuple[int, ...]
    train_loss: float
    steps: int
    trained_tokens: int
    seconds: float
    contents: Mapping[str, str] | None = None

    @property
    def trained(self) -> Trained:
        """What an outcome is made of."""
        return Trained(self.rank, self.learning_rate, self.seed, self.sums, self.train_loss, self.seconds)


class Bench(Protocol):
    """What trains a point; :class:`lorarank.probe.point.Bench` in earnest."""

    def identity(self) -> dict[str, Any]:
        """What the numbers depend on, in words: it names a point."""

    def contents(self) -> dict[str, str]:
        """What they depend on besides, as hashes: a point is used again only where they are the same."""

    def base(self) -> Any:
        """Losses of the base model."""

    def point(self, rank: int, learning_rate: float, seed: int, folder: Path, on_step: Callable[..., None]) -> Any:
        """Losses of a freshly trained adapter."""


Fan = Callable[[Sequence[Spot]], Iterator[tuple[Spot, Any]]]
"""Trains several points side by side and gives each as it is done."""


class Points:
    """All points of a sweep, by where they are.

    Parameters
    ----------
    bench : trains and measures.
    folder : of the sweep; points lie in a folder below it.
    report : called as the work goes on.
    fan : trains points side by side instead of on ``bench``, where given.
    announce : called with a sentence on every kept point that cannot be read and is trained again, and with one on
        what changed where kept points are trained again for that.
    """

    def __init__(
        self,
        bench: Bench,
        folder: Path,
        report: Report,
        fan: Fan | None = None,
        announce: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.bench, self.folder, self.report, self.fan = bench, folder / FOLDER, report, fan
        self.announce = announce
        self.identity, self.contents = json.dumps(bench.identity(), sort_keys=True), bench.contents()
        self.found: dict[Spot, StoredPoint] = {}
        self.trained = 0
        self.said: set[str] = set()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(self.folder, error) from None

    def base(self) -> StoredPoint:
        """The base model, measured on the same documents."""
        spot = Spot(0, 0.0, 0)
        if not self._is_kept(spot):
            self.report(Progress("held-out loss of the base", 0, 1))
            self._keep(spot, self.bench.base())
            self.report(Progress("held-out loss of the base", 1, 1))
        return self.found[spot]

    def measure(self, wanted: Sequence[Spot]) -> list[Trained]:
        """The points in the order asked for; those not there yet are trained."""
        missing = [spot for spot in dict.fromkeys(wanted) if not self._is_kept(spot)]
        if self.fan is not None and missing:
            stage = f"training {len(missing)} points"
            for done, (spot, losses) in enumerate(self.fan(missing), start=1):
                self._keep(spot, losses)
                self.report(Progress(stage, done, len(missing), self.loss(spot)))
        else:
            for spot in missing:
                with self._scratch(spot) as scratch:
                    self._keep(spot, self.bench.point(*spot, scratch, self._on_step(spot)))
        return [self.found[spot].trained for spot in wanted]

    def loss(self, spot: Spot) -> float:
        """Held-out loss in nats per target token; infinite where it is no number."""
        (point,) = self.measure([spot])
        total = sum(point.sums) / sum(self.found[spot].counts)
        return total if total == total else float("inf")

    def _path(self, spot: Spot) -> Path:
        name = hashlib.sha256(f"{self.identity} {tuple(spot)!r}".encode()).hexdigest()[:16]
        return self.folder / f"r{spot.rank:03}-{name}.json"

    def _is_kept(self, spot: Spot) -> bool:
        """Whether a point is there; one that cannot be read, or is another model's or data's, is not."""
        if spot not in self.found and self._path(spot).is_file():
            try:
                stored = read_json(self._path(spot), StoredPoint)
            except RunError as error:
                again = "trained" if spot.rank else "measured"
                self.announce(f"{error.where}: {error.what}. This point ({spot}) is {again} again.")
            else:
                what = None if stored.contents is None else changed(stored.contents, self.contents)
                if what is None:
                    self.found[spot] = stored
                elif what not in self.said:  # once for all points
                    self.said.add(what)
                    self.announce(
                        f"{self.folder}: {what} changed since points in it were trained. They are trained again."
                    )
        return spot in self.found

    def _keep(self, spot: Spot, losses: Any) -> None:
        stored = StoredPoint(
            schema=SCHEMA,
            identity=self.identity,
            rank=spot.rank,
            learning_rate=spot.learning_rate,
            seed=spot.seed,
            sums=losses.sums,
            counts=losses.counts,
            train_loss=losses.train_loss,
            steps=losses.steps,
            trained_tokens=losses.trained_tokens,
            seconds=losses.seconds,
            contents=self.contents,
        )
        write_json(self._path(spot), stored)
        self.found[spot] = stored
        self.trained += spot.rank > 0

    @contextmanager
    def _scratch(self, spot: Spot) -> Iterator[Path]:
        """A folder for a point's checkpoints; it stays when the work is interrupted.

        Its name tells the contents too: nothing in it could, and another model's checkpoints are not to be gone on
        with.
        """
        point = self._path(spot).stem
        mark = hashlib.sha256(json.dumps(self.contents, sort_keys=True).encode()).hexdigest()[:8]
        yield self.folder / f"{point}-{mark}"
        for left in (self.folder / point, *self.folder.glob(f"{point}-*")):
            shutil.rmtree(left, ignore_errors=True)

    def _on_step(self, spot: Spot) -> Callable[..., None]:
        return lambda log, total: self.report(Progress(str(spot), log.step, total, log.loss))
