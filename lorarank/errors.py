"""The one error family of the package (floor 0).

Every message is one line that says where (file, key, option), what is wrong, why it matters where that is not
obvious, and what to do. The command line catches :class:`LorarankError` in one place and turns it into
:data:`EXIT_BAD_INPUT`; nothing else in the package exits, prints or swallows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

EXIT_OK = 0
EXIT_BUG = 1
"""An error that is ours: please report it."""
EXIT_BAD_INPUT = 2
"""Bad input, a missing extra, no memory, no disk: the message says what to do."""
EXIT_REFUSED = 3
"""The evidence does not carry a recommendation; the reasons are printed."""
EXIT_CHECK_FAILED = 4
"""What ``--fail-if`` asks for was found; the report is printed."""
EXIT_INTERRUPTED = 130
"""Ctrl-C; a probe can go on with ``--resume``."""


def printable(text: object, limit: int = 200) -> str:
    """``text`` as one printable line: control and format characters escaped, cut at ``limit`` characters.

    Names come from strangers' files; none of them may move a terminal's cursor or forge a second line.

    >>> printable("a\\x1b[31mb\\nc")
    'a\\\\x1b[31mb\\\\nc'
    """
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))
    return line if len(line) <= limit else line[: limit - 1] + "…"


def first_line(error: BaseException, limit: int = 160) -> str:
    """The first line of what an error of another library says, printable; its kind where it says nothing.

    >>> first_line(ValueError("no such device\\nat line 5")), first_line(AssertionError())
    ('no such device', 'AssertionError')
    """
    return printable(str(error).strip().partition("\n")[0].rstrip() or type(error).__name__, limit)


class LorarankError(Exception):
    """Base of the family: ``where: what; why. do``, as one printable line.

    Parameters
    ----------
    where : the file, tensor key, option or row concerned.
    what : what is wrong with it.
    why : why that matters; left out where it is obvious.
    do : what to do about it, as an imperative sentence without its full stop; left out, the class's ``advice``.

    >>> str(LorarankError("adapter.safetensors", "the file is empty", do="download it again"))
    'adapter.safetensors: the file is empty. Download it again.'
    """

    exit_code = EXIT_BAD_INPUT
    advice = ""

    def __init__(self, where: object, what: str, *, why: str = "", do: str = "") -> None:
        self.where, self.what, self.why, self.do = printable(where), what, why, do
        sentence = f"{self.where}: {what}" + (f"; {why}" if why else "") + "."
        if do := do or self.advice:
            sentence += f" {do[0].upper()}{do[1:]}."
        super().__init__(printable(sentence, limit=2000))

    def __reduce__(self) -> tuple[Any, ...]:
        """As it is, so that it arrives whole from another process."""
        return _again, (type(self), dict(vars(self)), self.args)


def _again(kind: type[LorarankError], fields: dict[str, Any], args: tuple[Any, ...]) -> LorarankError:
    """An error of another process."""
    error = kind.__new__(kind)
    error.args = args
    vars(error).update(fields)
    return error


class SourceError(LorarankError, OSError):
    """A path or hub id that leads nowhere, or cannot be read."""

    advice = "check the path"


class AdapterError(LorarankError, ValueError):
    """An adapter file or configuration that cannot be trusted or understood."""

    advice = "take the adapter as it was saved, or download it again"


class NumericsError(LorarankError, ArithmeticError):
    """NaN or infinity where a number is needed."""


class CorpusError(LorarankError, ValueError):
    """Data that cannot be used for a probe."""

    advice = "mend or replace the data"


class ModelError(LorarankError, ValueError):
    """A base model that cannot be probed as asked."""


class OptionError(LorarankError, ValueError):
    """An option, or a combination of options, that cannot work."""


class RunError(LorarankError, ValueError):
    """A run folder that is unfinished, damaged or in the way."""


class RefusedError(LorarankError, ValueError):
    """The evidence does not carry what was asked for."""

    exit_code = EXIT_REFUSED


class CurveError(LorarankError, ValueError):
    """A training log without the losses that a diagnosis needs."""


class ResourceError(LorarankError, RuntimeError):
    """Out of memory or out of disk."""


class MissingExtraError(LorarankError, ImportError):
    """A command needs packages that the base install leaves out."""

    def __init__(self, command: str, package: str, extra: str, *, wrong: str = "is not installed") -> None:
        super().__init__(
            command,
            f"needs the package {package}, which {wrong}",
            do=f"install the extra with: pip install 'lorarank[{extra}]'",
        )


@contextmanager
def needing(command: str, *packages: str, extra: str) -> Iterator[None]:
    """Import within it what the base install leaves out.

    Parameters
    ----------
    command : what needs it.
    packages : that it is about, first the one to name where an error names none.
    extra : what brings them.

    Raises
    ------
    MissingExtraError
        One of them is not installed, or is and cannot be imported: the wrong version, a library of its own missing.

    >>> with needing("the plot", "not_there", extra="plot"):
    ...     import not_there.figure
    Traceback (most recent call last):
    ...
    lorarank.errors.MissingExtraError: the plot: needs the package not_there, which is not installed. ...
    """
    try:
        yield
    except (ImportError, OSError) as error:  # OSError: torch without a library that it loads by itself
        package = (getattr(error, "name", None) or "").partition(".")[0]
        if isinstance(error, LorarankError) or package == __package__:
            raise
        if isinstance(error, ModuleNotFoundError) and package:  # one of them, or what one of them needs
            raise MissingExtraError(command, package, extra) from None
        wrong = f"cannot be imported: {first_line(error).rstrip('.')}"
        raise MissingExtraError(command, package or packages[0], extra, wrong=wrong) from None
