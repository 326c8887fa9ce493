"""The command line (floor 5): one group, and the one place where errors become exit codes.

Commands are imported when they are called, so that asking for help costs no numpy and estimating no torch.
"""

from __future__ import annotations

import atexit
import errno
import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from lorarank import __version__
from lorarank.cli import voice
from lorarank.errors import EXIT_BAD_INPUT, EXIT_BUG, EXIT_INTERRUPTED, LorarankError, printable

COMMANDS = {
    "probe": "Fine-tune MODEL briefly at high rank on your data, and measure what the update needs.",
    "estimate": "Recommend a LoRA rank from a probe run, or describe adapters.",
    "sweep": "Train MODEL at every rank with a tuned learning rate, and say which rank suffices.",
    "audit": "Say which rank each module of an adapter really uses, and what is wrong with it.",
    "extract": "Write the LoRA of a chosen rank that is nearest to a full fine-tune.",
    "resize": "Cut an adapter to a smaller rank, and say what that drops.",
    "convert": "Write an adapter in another format, dtype or scaling; its update stays what it is.",
    "compare": "Say what two adapters have in common, and whether they can be merged.",
    "export": "Write a recommendation, or an adapter's own configuration, for the tool that trains or serves it.",
    "inspect": "List what LoRA can be put on in a model, and what each rank costs there.",
    "report": "Write a report that explains itself: one HTML file with charts, or Markdown.",
    "plot": "Draw what a run, a sweep or adapters show, as PNG, SVG or PDF.",
    "diagnose": "Say whether the rank of a training run was too low or too high, by its curves.",
    "heuristics": "Show the reference table of ranks, and a first guess for a model and data.",
    "schema": "Print the JSON Schema of what a command prints with --format json.",
    "completion": "Print the script that makes SHELL complete commands, options and files.",
    "demo": "Probe and estimate on a tiny embedded model and task: about a minute, no download.",
    "help": "Explain a topic, or list the topics.",
}
"""Every command with the first sentence of its help."""

GOES_ON = {
    "probe": "The same command with --resume goes on.",
    "sweep": "The same command goes on.",
    "audit": "With -o, the same command goes on.",
}
"""What to do after Ctrl-C, where something was kept."""

ONE_THREAD = frozenset(
    {
        "audit",
        "compare",
        "convert",
        "diagnose",
        "estimate",
        "export",
        "heuristics",
        "inspect",
        "plot",
        "report",
        "resize",
    }
)
"""Commands whose matrices are so small that threads cost more than they bring. A probe wants them all."""

THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""What the numerical libraries read when they are loaded."""

TRIM_THRESHOLD, MMAP_THRESHOLD, KEPT_BYTES = -1, -3, 32 * 2**20
"""glibc's names for two options of its allocator (malloc.h), and the most that the second takes."""

REFUSALS = frozenset(
    {
        errno.EACCES,
        errno.EDQUOT,
        errno.EIO,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOSPC,
        errno.ENOTCONN,
        errno.EPERM,
        errno.EROFS,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)
"""What the system says of files and disks that no program can help; stdout is one too, and has no name."""

TRACEBACK = "LORARANK_TRACEBACK"
"""Environment variable that shows the traceback of an unexpected error."""


class Door(click.Group):
    """A group that loads its commands when they are called and turns errors into one line and an exit code."""

    def main(self, args: Sequence[str] | None = None, *others: Any, **more: Any) -> Any:
        """As click does, with streams that are open and take every sign; what the system refuses is a line."""
        if args is None and os.name == "nt":
            args = _matched(sys.argv[1:])
        voice.open_streams()
        voice.take_every_sign()
        try:
            return super().main(args, *others, **more)
        except OSError as error:
            if os.environ.get(TRACEBACK) or error.errno not in REFUSALS:
                raise
            where = "the output" if error.filename is None else printable(error.filename)
            click.echo(f"Error: {where}: {error.strerror}. Check the path, its permissions and its disk.", err=True)
            sys.exit(EXIT_BAD_INPUT)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of their use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; numerical libraries are told to use one thread before they are loaded."""
        if cmd_name not in COMMANDS:
            return None
        if cmd_name in ONE_THREAD:
            for name in THREADS:
                os.environ.setdefault(name, "1")
            _keep_memory()
        if cmd_name == "audit":  # looking for cycles takes 3 % of its time and finds none that matter
            gc.disable()
            ctx.call_on_close(gc.enable)
        command: click.Command = importlib.import_module(f"lorarank.cli.{cmd_name}").command
        if not any(one.name == "quiet" for one in command.params):
            command.params += [*_as_json(command), *voice.options()]
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; of a name that is no command the nearest are named."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            raise click.exceptions.NoSuchCommand(error.command_name, possibilities=COMMANDS, ctx=ctx) from None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names of commands without importing any; options as click does."""
        named = [CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)]
        return named + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; whatever it raises leaves as a line on stderr and an exit code."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except LorarankError as error:
            if os.environ.get(TRACEBACK):
                raise
            click.echo(f"Error: {error}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo(f"Interrupted. {GOES_ON.get(ctx.invoked_subcommand or '', '')}".rstrip(), err=True)
            ctx.exit(EXIT_INTERRUPTED)
        except MemoryError:
            click.echo("Error: out of memory. Close other programs, or use a larger machine.", err=True)
            ctx.exit(EXIT_BAD_INPUT)
        except Exception as error:
            if os.environ.get(TRACEBACK) or (isinstance(error, OSError) and error.errno in {errno.EPIPE, *REFUSALS}):
                raise
            is_write = isinstance(error, OSError) and error.errno == errno.EINVAL and error.filename is None
            if sys.platform == "win32" and is_write:
                raise BrokenPipeError(errno.EPIPE, "the reader has gone") from None  # whose pipe is "invalid" there
            click.echo(
                f"Error: {type(error).__name__}: {printable(error)}. This is a bug in lorarank {__version__}: please "
                f"report it with the traceback, which {TRACEBACK}=1 in the environment shows.",
                err=True,
            )
            ctx.exit(EXIT_BUG)


def _matched(words: Sequence[str]) -> list[str]:
    """Words of a command line with the names that match in the place of patterns, which shells of Windows leave.

    click would take the name ``style [v2].safetensors`` for a pattern too, and open ``style v.safetensors``. What
    ``**`` stands for is found by those commands that take it.

    >>> _matched(["audit", "no such file [v2]", "a/**"])
    ['audit', 'no such file [v2]', 'a/**']
    """
    import glob

    def matches(word: str) -> list[str]:
        word = os.path.expanduser(word)  # noqa: PTH111 (a Path loses the slash at the end)
        is_pattern = glob.has_magic(word) and "**" not in word and not os.path.lexists(word)
        return sorted(glob.glob(word)) if is_pattern else []  # noqa: PTH207 (Path.glob takes no absolute pattern)

    return [one for word in words for one in matches(word) or [word]]


def _as_json(command: click.Command) -> list[click.Option]:
    """``--json`` for a command that has ``--format json``."""
    return [
        click.Option(["--json", str(one.name)], flag_value="json", help="The same as --format json.")
        for one in command.params
        if "--format" in one.opts and "json" in getattr(one.type, "choices", ())
    ]


def _keep_memory() -> None:
    """Let the allocator keep what a module leaves for the next one, instead of returning it to the system each time.

    Page faults are a tenth of the time of an audit otherwise. Other C libraries than glibc are left as they are.
    """
    if sys.platform != "linux":
        return
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(TRIM_THRESHOLD, KEPT_BYTES)
    mallopt(MMAP_THRESHOLD, KEPT_BYTES)


@click.group(
    cls=Door,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: lorarank probe MODEL --data train.jsonl -o run && lorarank estimate run",
)
@click.version_option(__version__, prog_name="lorarank", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Which LoRA rank do I need?

    Fine-tune briefly at a high rank on your model and data (probe), and read the rank from the spectrum of the result
    (estimate).
    """
    ctx.color = voice.coloured(sys.stdout)  # for all commands below


main.params += voice.options()

_ended_with: list[int] = []
"""The exit code, once a command line has been carried out."""


def run() -> None:
    """The command as it is installed: :func:`main`, after which the process ends at once.

    Python would look for cycles among all there is, and take every module apart: 25 ms of an audit, for nothing.
    """
    try:
        main(prog_name="lorarank")
    except SystemExit as end:
        _ended_with.append(end.code if isinstance(end.code, int) else 0)
        raise


def _leave() -> None:
    """End the process without that, when all that was registered meanwhile is done and what was written is out."""
    if not _ended_with:
        return
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):  # a profiler takes them away from a closed pipe
            stream.flush()
    except (OSError, ValueError):  # Python has its own words and exit code for it
        return
    os._exit(_ended_with[0])


atexit.register(_leave)  # before anything imported later registers its own: the last one comes first
