"""One task for many indices, shared with forked copies of this process (floor 0).

A copy has everything that was imported and opened before, for the price of a few milliseconds; starting Python and
numpy afresh takes a hundred. Indices are handed out through a pipe, a few at a time, so that whoever is free takes the
next ones. What a copy found comes back through a pipe of its own when all are done.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

from lorarank.errors import ResourceError

Result = TypeVar("Result")

MOST_PORTIONS = 1000
"""Portions of indices that are handed out: their numbers, :data:`NUMBER` bytes each, fit into the smallest pipe that
Linux makes (one page), so that writing them never waits for a reader."""

NUMBER = 4


def shared(
    task: Callable[[int], Result],
    count: int,
    *,
    processes: int,
    where: object,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Result]:
    """``[task(index) for index in range(count)]``, on this process and ``processes - 1`` copies of it.

    Copies are made where that is safe: on Linux, from a process that has a single thread. Elsewhere all is done here.

    Parameters
    ----------
    task : its results and errors must be picklable; whatever else it changes is changed in one process alone.
    count : of indices.
    processes : at least 1.
    where : for messages: what is worked on.
    progress : called in this process alone, with indices handed out and ``count``.

    Raises
    ------
    ResourceError
        A copy was killed.
    Exception
        Of ``task``, wherever it was raised. No copy is left behind then, nor after Ctrl-C.

    >>> shared(lambda index: index**2, 4, processes=2, where="squares")
    [0, 1, 4, 9]
    """

    def reported(index: int) -> Result:
        progress(index, count)
        return task(index)

    if processes < 2 or not _can_fork():
        return [reported(index) for index in range(count)]
    original, portion = os.getpid(), 1 + count // MOST_PORTIONS
    queue = _filled(range(0, count, portion))
    indices = _taken(queue, portion, count, original)
    copies: list[_Copy] = []
    try:
        with suppress(OSError):  # no room for another process: fewer do it
            for _ in range(processes - 1):
                # one at a time, so that those there are are known when the next one fails
                copies.append(_forked(lambda: {index: task(index) for index in indices}))  # noqa: PERF401
        found = {index: reported(index) for index in indices}
        for copy in copies:
            found |= _result(copy, where)
    finally:
        os.close(queue)
        for copy in copies:
            _end(copy)
    return [found[index] for index in range(count)]


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _can_fork() -> bool:
    """Whether this process has one thread alone: a copy of another one has locks that nobody will ever release."""
    return sys.platform == "linux" and sum(1 for _ in Path("/proc/self/task").glob("*")) == 1


def _filled(numbers: range) -> int:
    """The reading end of a pipe that holds these numbers, and nothing else will ever come."""
    receive, send = os.pipe()
    os.write(send, b"".join(number.to_bytes(NUMBER, "little") for number in numbers))
    os.close(send)
    return receive


def _taken(queue: int, portion: int, count: int, original: int) -> Iterator[int]:
    """Indices, portion after portion, until there are no more; for a copy, or until its original is gone."""
    while original in (os.getpid(), os.getppid()) and (number := os.read(queue, NUMBER)):
        first = int.from_bytes(number, "little")
        yield from range(first, min(first + portion, count))


class _Copy(NamedTuple):
    process: int
    receive: int


def _forked(work: Callable[[], Any]) -> _Copy:
    receive, send = os.pipe()
    try:
        process = os.fork()
    except OSError:
        os.close(receive)
        raise
    else:
        if process == 0:
            _work_and_exit(work, send)
        return _Copy(process, receive)
    finally:
        os.close(send)


def _work_and_exit(work: Callable[[], Any], send: int) -> NoReturn:
    """All that a copy does. It never returns into what its original goes on to do, nor flushes the output of that."""
    try:
        try:
            outcome: Any = work()
        except Exception as error:
            outcome = error
        with open(send, "wb") as file:
            pickle.dump(outcome, file)
        os._exit(0)
    finally:
        os._exit(1)


def _result(copy: _Copy, where: object) -> Any:
    """What a copy found; an error of its task is raised here."""
    with open(copy.receive, "rb", closefd=False) as file:
        content = file.read()
    try:
        outcome = pickle.loads(content)  # noqa: S301 (of our own copy)
    except (EOFError, pickle.UnpicklingError):
        raise ResourceError(
            where, "a process that worked on it was killed, for memory perhaps", do="use --jobs 1"
        ) from None
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _end(copy: _Copy) -> None:
    """Leave nothing of a copy, whether it is done or not."""
    os.close(copy.receive)
    with suppress(ProcessLookupError):
        os.kill(copy.process, signal.SIGKILL)
    with suppress(ChildProcessError):  # who ignores SIGCHLD has nothing to wait for
        os.waitpid(copy.process, 0)
