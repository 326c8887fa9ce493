"""How much a command says, and in what colours (floor 5): ``--quiet`` and ``--verbose``, NO_COLOR and FORCE_COLOR.

Results go to stdout whatever is asked; this is about stderr. The two options are given to the group and to every
command in one place, and count wherever they stand.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
import time
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, TextIO

import click

from lorarank import __version__

STDIN, STDOUT, STDERR = 0, 1, 2
"""Numbers of a process's streams."""

QUIET, NORMAL, VERBOSE = -1, 0, 1
KEY = "lorarank.voice"
"""Where the context of the group keeps one of these."""

PACKAGES = ("numpy", "ml_dtypes", "scipy", "safetensors", "click", "rich", "torch", "transformers", "peft")
"""Whose versions ``--verbose`` tells, where they are installed."""


def options() -> list[click.Option]:
    """The two, for a command or the group."""
    return [
        click.Option(
            ["-q", "--quiet"],
            is_flag=True,
            expose_value=False,
            callback=lambda ctx, option, given: _asked(ctx, QUIET) if given else None,
            help="No progress and no notes: nothing on stderr but errors.",
        ),
        click.Option(
            ["-v", "--verbose"],
            is_flag=True,
            expose_value=False,
            callback=lambda ctx, option, given: _asked(ctx, VERBOSE) if given else None,
            help="Say on stderr what is read and written, versions and times.",
        ),
    ]


def _asked(ctx: click.Context, voice: int) -> None:
    if ctx.resilient_parsing:  # a shell wants to know what may follow
        return
    root = ctx.find_root()
    before = root.meta.get(KEY, NORMAL)
    if before not in (NORMAL, voice):
        raise click.UsageError("--quiet and --verbose say the opposite. Leave one of them out.", ctx)
    root.meta[KEY] = voice
    if voice == VERBOSE and before == NORMAL:
        _listen(root)


def open_streams() -> None:
    """Let a stream lead nowhere that was closed when the process began (``>&-``). Its number is taken too: the next
    file that is opened would get what libraries say on it."""
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    while (number := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        pass
    os.close(number)
    sys.stdin = sys.stdin or _stream(STDIN, "r")
    sys.stdout = sys.stdout or _stream(STDOUT, "w")
    sys.stderr = sys.stderr or _stream(STDERR, "w")


def _stream(number: int, mode: str) -> TextIO:
    return typing.cast(TextIO, open(number, mode, encoding="utf-8", closefd=False))


def take_every_sign() -> None:
    """Let stdout and stderr take what no code page of Windows has: σ, ρ, sparklines.

    Files and pipes get UTF-8, as Python writes from 3.15 on (https://peps.python.org/pep-0686/). A terminal, and who
    chose an encoding in PYTHONIOENCODING, get a question mark for what is not in theirs. Names of files that are no
    UTF-8 are in no encoding, and are told with escapes.
    """
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper):
            continue
        if codecs.lookup(stream.encoding).name.startswith("utf"):
            if stream.errors == "strict":
                stream.reconfigure(errors="backslashreplace")
        elif stream.isatty() or os.environ.get("PYTHONIOENCODING"):
            stream.reconfigure(errors="replace")
        else:
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def speaks() -> bool:
    """Whether this process is to say anything beside errors: of those that a launcher started together, the first.

    A launcher tells each its LOCAL_RANK, without which accelerate takes no process for one of several.
    """
    return "LOCAL_RANK" not in os.environ or os.environ.get("RANK", "0") == "0"


def quiet() -> bool:
    """Whether nothing but errors is wanted on stderr."""
    if not speaks():
        return True
    ctx = click.get_current_context(silent=True)
    return ctx is not None and ctx.find_root().meta.get(KEY, NORMAL) == QUIET


def note(text: str) -> None:
    """Something beside the result, on stderr."""
    if not quiet():
        click.echo(text, err=True)


def coloured(stream: IO[Any]) -> bool:
    """Whether a stream takes colours: a terminal does, NO_COLOR (https://no-color.org) forbids and FORCE_COLOR asks."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (stream.isatty() and os.environ.get("TERM") != "dumb")


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep the training libraries' chatter off the terminal; what matters arrives as our own lines."""
    for name, value in {"TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    import logging
    import warnings

    for chatter in ("bitsandbytes", "huggingface_hub", "datasets"):
        logging.getLogger(chatter).setLevel(logging.CRITICAL)

    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        yield


def _listen(root: click.Context) -> None:
    """Log lines of the package on stderr until the command ends, versions before them and times after."""
    import logging
    import platform

    started, handler, logger = time.perf_counter(), logging.StreamHandler(sys.stderr), logging.getLogger("lorarank")
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    click.echo(f"lorarank {__version__} in {os.path.dirname(os.path.dirname(__file__))}", err=True)  # noqa: PTH120
    click.echo(", ".join([f"Python {platform.python_version()}", *_versions()]), err=True)

    def end() -> None:
        logger.removeHandler(handler)
        logger.setLevel(level)
        times = os.times()
        wall, cpu = time.perf_counter() - started, times.user + times.system
        click.echo(f"{wall:.2f} s, {cpu:.2f} s of this process's CPU time since it began", err=True)

    root.call_on_close(end)


def _versions() -> list[str]:
    """None of them is imported for it."""
    from importlib import metadata  # which loads the parser of e-mail: 20 ms that no other command needs to wait for
    from importlib.util import find_spec

    return [f"{name} {metadata.version(name)}" for name in PACKAGES if find_spec(name) is not None]
