"""Bars on stderr with what is done and the time left; lines where there is no terminal (floor 5)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from lorarank.cli.voice import quiet

if TYPE_CHECKING:
    from lorarank.probe.progress import Progress

PATIENCE = 1.0
"""Seconds without a bar: most audits are over before that."""

LINE_EVERY = 30.0
"""Seconds between lines where there is no terminal."""


@contextmanager
def counted(what: str) -> Iterator[Callable[[int, int], None]]:
    """A function to call with the number done and the number in all.

    On a terminal a bar appears after a second; elsewhere a line every half minute, for logs; nothing with --quiet.
    """
    if quiet():
        yield lambda done, total: None
    elif sys.stderr.isatty():
        with _bar(what) as report:
            yield report
    else:
        yield _lines(what)


def _lines(what: str) -> Callable[[int, int], None]:
    start = last = time.monotonic()
    before: int | None = None

    def report(done: int, total: int) -> None:
        nonlocal last, before
        before = done if before is None else before
        now = time.monotonic()
        if now - last < LINE_EVERY:
            return
        last = now
        rate = (done - before) / (now - start)
        left = f", {(total - done) / rate:,.0f} s left" if rate > 0 else ""
        click.echo(f"{done:,}/{total:,} {what}, {rate:,.1f} a second{left}", err=True)

    return report


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Rich is imported when the bar appears."""
    start = time.monotonic()
    shown: list[tuple[object, object]] = []

    def report(done: int, total: int) -> None:
        if not shown:
            if time.monotonic() - start < PATIENCE:
                return
            shown.append(_started(what))
        bar, task = shown[0]
        bar.update(task, completed=done, total=total)  # type: ignore[attr-defined]

    try:
        yield report
    finally:
        for bar, _ in shown:
            bar.stop()  # type: ignore[attr-defined]


def _started(what: str) -> tuple[object, object]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        """How many a second."""

        def render(self, task: Task) -> Text:
            """Of the last moments."""
            return Text(f"{task.speed:,.1f} a second" if task.speed else "")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    bar.start()
    return bar, bar.add_task(what, total=None)


@contextmanager
def staged() -> Iterator[Callable[[Progress], None]]:
    """One bar per stage, with its newest loss and the time left; plain lines where there is no terminal."""
    if quiet():
        yield lambda progress: None
        return
    if not sys.stderr.isatty():
        yield _tenths
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description:<26}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]:>10}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        tasks: dict[str, Any] = {}

        def report(progress: Progress) -> None:
            if progress.stage not in tasks:
                tasks[progress.stage] = bar.add_task(progress.stage, total=progress.total, loss="")
            loss = "" if progress.loss is None else f"loss {progress.loss:.3f}"
            bar.update(tasks[progress.stage], completed=progress.done, total=progress.total, loss=loss)

        yield report


def _tenths(progress: Progress) -> None:
    """A line for every tenth of a stage."""
    before, now = (10 * done // progress.total for done in (max(0, progress.done - 1), progress.done))
    if progress.done == progress.total or before != now:
        loss = "" if progress.loss is None else f"  loss {progress.loss:.3f}"
        click.echo(f"{progress.stage}  {progress.done}/{progress.total}{loss}", err=True)
