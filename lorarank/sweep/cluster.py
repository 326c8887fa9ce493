"""The points of a sweep side by side, on a Ray cluster (floor 2; needs the extra ``ray``)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lorarank import ray_cluster
from lorarank.sweep.options import SweepOptions
from lorarank.sweep.points import Fan, Spot


class Worker:
    """A process of the cluster with one model in memory, that trains the points it is given."""

    def __init__(self, options: SweepOptions) -> None:
        from lorarank.probe.point import Bench

        self.bench = Bench(options.point(options.ladder[-1]))

    def train(self, spot: Spot) -> tuple[Spot, Any]:
        """One point."""
        with tempfile.TemporaryDirectory(prefix="lorarank-") as scratch:
            return spot, self.bench.point(*spot, Path(scratch), lambda log, total: None)


def fan_out(options: SweepOptions) -> Fan:
    """Train points on all GPUs of a cluster, or on all its CPUs where it has none.

    ``options.ray`` is the cluster's address; "" starts one on this machine. Model and data must be readable under the
    same names from every node.

    Raises
    ------
    MissingExtraError
        ray is not installed.
    ResourceError
        The cluster cannot be reached.
    """
    ray, _ = ray_cluster.connect(options.ray or "")
    from ray.util import ActorPool

    resources = ray.cluster_resources()
    gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
    remote = ray.remote(num_gpus=1)(Worker) if gpus else ray.remote(num_cpus=1)(Worker)
    workers: list[Any] = []

    def train(spots: Sequence[Spot]) -> Iterator[tuple[Spot, Any]]:
        while len(workers) < min(gpus or cpus, len(spots)):
            workers.append(remote.remote(options))
        yield from ActorPool(workers).map_unordered(lambda worker, spot: worker.train.remote(spot), list(spots))

    return train
