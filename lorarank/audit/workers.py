"""One task for sources by the thousand, on processes of this machine or on a Ray cluster (floor 3).

Results come back one at a time and in any order. A source that raises, and one that kills the process which reads it,
is a result as well: nothing stops the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lorarank import ray_cluster
from lorarank.errors import OptionError, ResourceError

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

IN_FLIGHT = 4
"""Portions handed out per process: enough that none waits, few enough that a million sources do not fill the memory."""

PORTION = 32
"""Most sources in a portion. Handed over one by one, 10,000 small adapters took 23 % more processor time."""

KILLED = "the process that read it was killed, for memory perhaps"


def each(
    task: Callable[[str], Any],
    sources: Sequence[str],
    failed: Callable[[str, str], Any],
    *,
    jobs: int = 1,
    ray: str | None = None,
) -> Iterator[Any]:
    """``task`` of every source, as they come; ``failed(source, message)`` where it raises or its process dies.

    Parameters
    ----------
    task, failed : what to do; picklable where it is not done in this process.
    sources : paths or hub ids.
    jobs : processes; 1 works in this one. They are started afresh, so that a script which asks for more needs the usual
        ``if __name__ == "__main__":``.
    ray : address of a Ray cluster that sees the same files; "" starts one here, ``None`` uses none.

    Raises
    ------
    OptionError
        ``jobs`` below 1.
    MissingExtraError
        Ray is asked for and not installed.
    ResourceError
        Processes cannot be started, or the cluster cannot be reached.

    >>> list(each(int, ["1", "x"], lambda source, message: message.partition(":")[0]))
    [1, 'ValueError']
    """
    if jobs < 1:
        raise OptionError(f"--jobs {jobs}", "at least one process is needed")
    if ray is not None:
        yield from _on_ray(task, sources, failed, ray)
    elif jobs == 1 or not sources:
        for source in sources:
            yield _tried(task, source, failed)
    else:
        yield from _on_processes(task, sources, failed, min(jobs, len(sources)))


def _tried(task: Callable[[str], Any], source: str, failed: Callable[[str, str], Any]) -> Any:
    try:
        return task(source)
    except Exception as error:  # a bug of ours in one file of a million; the row says so, and the rest goes on
        return failed(source, f"{type(error).__name__}: {error}")


def _all_tried(task: Callable[[str], Any], sources: Sequence[str], failed: Callable[[str, str], Any]) -> list[Any]:
    """A portion of sources; this is what runs in another process."""
    return [_tried(task, source, failed) for source in sources]


def _portions(sources: Sequence[str], processes: int) -> Iterator[Sequence[str]]:
    """Parts of the sources, smaller ones where there are few, so that every process has some.

    >>> list(_portions("abcde", 2)), len(next(_portions("a" * 10_000, 2)))
    (['a', 'b', 'c', 'd', 'e'], 32)
    """
    size = min(PORTION, max(1, len(sources) // (processes * IN_FLIGHT)))
    return (sources[start : start + size] for start in range(0, len(sources), size))


def _on_processes(
    task: Callable[[str], Any], sources: Sequence[str], failed: Callable[[str, str], Any], jobs: int
) -> Iterator[Any]:
    """Hand out portions to a pool; a pool that breaks is replaced, and its sources are tried one at a time."""
    from concurrent.futures.process import BrokenProcessPool  # imported where it is used: one adapter needs no pool

    todo = _portions(sources, jobs)
    portion: Sequence[str] = ()
    suspects: list[str] = []
    while True:
        pool = _pool(jobs)
        broken = False
        running: dict[Future[list[Any]], Sequence[str]] = {}
        try:
            for portion in todo:
                running[pool.submit(_all_tried, task, portion, failed)] = portion
                if len(running) >= IN_FLIGHT * jobs:
                    broken = yield from _finished(running, failed, suspects)
                if broken:
                    break
            while running and not broken:
                broken = yield from _finished(running, failed, suspects)
        except BrokenProcessPool:  # while handing out
            broken = True
            suspects += portion
        finally:
            suspects += [source for part in running.values() for source in part]
            pool.shutdown(wait=not broken, cancel_futures=True)
        yield from _one_at_a_time(task, suspects, failed)
        suspects.clear()
        if not broken:
            return


def _finished(
    running: dict[Future[list[Any]], Sequence[str]], failed: Callable[[str, str], Any], suspects: list[str]
) -> Generator[Any, None, bool]:
    """Yield what is done and take it out of ``running``; the generator's value is whether the pool broke."""
    from concurrent.futures import FIRST_COMPLETED, wait
    from concurrent.futures.process import BrokenProcessPool

    done, _ = wait(running, return_when=FIRST_COMPLETED)
    broken = False
    for future in done:
        portion, error = running.pop(future), future.exception()
        if isinstance(error, BrokenProcessPool):
            suspects += portion
            broken = True
        elif error is not None:  # results that do not travel
            yield from (failed(source, f"{type(error).__name__}: {error}") for source in portion)
        else:
            yield from future.result()
    return broken


def _one_at_a_time(
    task: Callable[[str], Any], sources: Sequence[str], failed: Callable[[str, str], Any]
) -> Iterator[Any]:
    """Sources that were in processes when one died: one process, one source, so that the one that kills it is known."""
    from concurrent.futures.process import BrokenProcessPool

    pool: Executor | None = None
    for source in sources:
        pool = pool or _pool(1)
        try:
            yield from pool.submit(_all_tried, task, [source], failed).result()
        except BrokenProcessPool:
            yield failed(source, KILLED)
            pool = None
    if pool is not None:
        pool.shutdown()


def _pool(jobs: int) -> Executor:
    """Processes started afresh: a fork would copy locks that threads of this one hold."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    try:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(jobs, mp_context=context, initializer=_end_with_parent)
    except (OSError, ImportError) as error:
        raise ResourceError("--jobs", f"no processes can be started here ({error})", do="use --jobs 1") from None


def _end_with_parent() -> None:
    """Let this process end with the one that started it: a pool whose owner is killed waits for work for ever."""
    import multiprocessing
    import os
    from threading import Thread

    def wait() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    Thread(target=wait, daemon=True).start()


def _on_ray(
    task: Callable[[str], Any], sources: Sequence[str], failed: Callable[[str, str], Any], address: str
) -> Iterator[Any]:
    """The same on a Ray cluster, whose machines must see the files under the same names."""
    ray, ours = ray_cluster.connect(address)
    remote = ray.remote(max_retries=0)(_all_tried)
    processes = max(1, int(ray.cluster_resources().get("CPU", 1)))
    running: dict[Any, Sequence[str]] = {}
    suspects: list[str] = []

    def finished() -> Iterator[Any]:
        done, _ = ray.wait(list(running))
        for reference in done:
            portion = running.pop(reference)
            try:
                yield from ray.get(reference)
            except ray.exceptions.RayError as error:  # its process died: which source did that?
                if len(portion) == 1:
                    yield failed(portion[0], f"{type(error).__name__}: {KILLED}")
                else:
                    suspects.extend(portion)

    try:
        for portion in _portions(sources, processes):
            running[remote.remote(task, portion, failed)] = portion
            if len(running) >= IN_FLIGHT * processes:
                yield from finished()
        while running:
            yield from finished()
        for source in suspects:
            running[remote.remote(task, [source], failed)] = [source]
            yield from finished()
    finally:
        if ours:
            ray.shutdown()
