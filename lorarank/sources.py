"""Where a model or an adapter lies: a folder, a file, or a repository on the Hugging Face hub (floor 1)."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from lorarank.errors import SourceError, first_line, printable

logger = logging.getLogger(__name__)

HUB_ID = re.compile(r"(?P<id>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>[\w][\w./-]*))?", re.ASCII)
"""``owner/name``, optionally with ``@`` and a branch, tag or commit."""

LONGEST_HUB_ID = 96
"""The limit that the hub sets."""

FILE_SUFFIXES = (".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt", ".lora", ".npz")
"""What has such a name, in a folder that exists, is a path and no hub id."""

PLAIN_SUFFIXES = (".safetensors", ".gguf", ".npz")
"""Files of tensors that hold nothing else, as pickles do."""

RETRY_AFTER = 1.0
"""Seconds until a hub that could not be reached is asked once more: among thousands of downloads some fail so."""

CHECKPOINT = re.compile(r"checkpoint-\d+")
"""How transformers names the folders that its trainers leave (``PREFIX_CHECKPOINT_DIR``)."""

FORMS = "a folder, a file, or a hub id like owner/name or owner/name@revision"

Source = str | Path
"""What has one of these forms; a ``Path`` is no hub id."""

Patterns = Sequence[str] | Callable[[], Sequence[str]]
"""Shell patterns of file names, or what gives them when they are asked for."""


def as_list(sources: Source | Sequence[Source]) -> list[Source]:
    """One source or several, as a list.

    >>> as_list("run"), as_list(("a", "b"))
    (['run'], ['a', 'b'])
    """
    return [sources] if isinstance(sources, str | Path) else list(sources)


def folder_at(path: Path) -> Path:
    """``path``, or the folder that the file lies in: one file of a model or an adapter stands for all of it."""
    return path if path.is_dir() else path.parent


def _listed(patterns: Patterns) -> Sequence[str]:
    return patterns() if callable(patterns) else patterns


def locate(
    source: Source,
    *,
    allow_patterns: Patterns,
    last_resort: Patterns = (),
    bars: bool = True,
) -> Path:
    """The local path of a model or an adapter, downloaded first where it is a hub id.

    What exists on this disk wins over a hub id of the same spelling. Files already in the hub's cache are not
    downloaded again, and serve without a network too.

    Parameters
    ----------
    source : a folder, a file (``~`` is the home folder), or ``owner/name[@revision]``.
    allow_patterns : which files of a hub repository to download, as shell patterns, or what gives them then.
    last_resort : files to download as well where those hold no tensors: pickles, where there is nothing else.
    bars : whether the progress of a download is shown, on a terminal.

    Returns
    -------
    path : a folder or regular file that exists, not made absolute.

    Raises
    ------
    SourceError
        It is neither a path that exists nor a hub id, or the hub does not hand it out.

    >>> locate("~", allow_patterns=()).is_dir()
    True
    """
    path = on_disk(source)
    if path is not None:
        logger.info("%s is %s", printable(source), printable(path.resolve()))
        return path
    text = str(source)
    match = HUB_ID.fullmatch(text)
    if isinstance(source, Path) or text.startswith(("/", ".", "~")) or "\\" in text:
        raise SourceError(text, "no such file or folder")
    if Path(text).suffix in FILE_SUFFIXES and Path(text).parent.is_dir():
        raise SourceError(text, "no such file")
    if match is None or ".." in text or "--" in match["id"] or len(match["id"]) > LONGEST_HUB_ID:
        raise SourceError(text, "no such file or folder, and no hub id either", do=f"name {FORMS}")
    wanted = _listed(allow_patterns)
    folder = _download(match["id"], match["revision"], wanted, bars)
    if last_resort and not any(path.suffix in PLAIN_SUFFIXES for path in folder.glob("*")):
        folder = _download(match["id"], match["revision"], [*wanted, *_listed(last_resort)], bars)
    if not folder.is_dir() or not any(folder.iterdir()):
        raise SourceError(
            text, "on the hub, but none of its files is one that is looked for", do="check what this repository holds"
        )
    return folder


def at_home(source: str) -> str:
    """``~`` as the home folder, which a shell leaves as it is between quotes; a pattern keeps the slash behind it.

    >>> at_home("~/a/**/") == f"{Path.home()}/a/**/", at_home("a~"), at_home("~nobody-of-that-name/a")
    (True, 'a~', '~nobody-of-that-name/a')
    """
    try:
        return os.path.expanduser(source)  # noqa: PTH111 (a Path loses the slash)
    except ValueError:  # a NUL inside; opening it says so
        return source


def on_disk(source: Source) -> Path | None:
    """``source`` as the path of a folder or regular file; ``None`` where nothing of that name exists.

    Raises
    ------
    SourceError
        There is something else, or the name is none that a file can have.

    >>> on_disk("~/no-such-file") is None
    True
    """
    if not str(source).strip():
        raise SourceError("source", "nothing is named", do=f"name {FORMS}")
    try:
        path = Path(at_home(str(source)))
        if path.is_dir():
            os.stat(f"{path}/.")  # noqa: PTH116 (refused where its names may be seen, and not what they stand for)
            return path
        if path.is_file():
            return path
        exists = path.exists()
    except OSError as error:
        raise SourceError(source, f"cannot be looked at ({error.strerror or error})") from None
    except ValueError:  # a NUL inside
        raise SourceError(source, "no name that a file can have", do=f"name {FORMS}") from None
    if not exists and str(path).startswith("~"):  # a ~user without a home
        raise SourceError(source, "no name that a file can have", do=f"name {FORMS}")
    if exists:
        raise SourceError(source, "neither a folder nor a regular file")
    if path.is_symlink():
        raise SourceError(source, "a symbolic link that leads nowhere")
    return None


def _download(repo: str, revision: str | None, allow_patterns: Sequence[str], bars: bool) -> Path:
    from huggingface_hub import errors, snapshot_download

    name = repo if revision is None else f"{repo}@{revision}"

    def fetched(**how: Any) -> Path:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(allow_patterns), **how))

    try:
        folder = _asked_twice(name, partial(fetched, tqdm_class=_bar(bars)))
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, errors.HFValidationError) as error:
        what, do = _refusal(error, repo, revision)
    except Exception as error:  # a broken connection comes as an exception of whichever HTTP library is in use
        with suppress(Exception):
            return fetched(local_files_only=True)
        what, do = (
            f"downloading it failed ({_said(error)})",
            "check the path, the network and the room on the disk",
        )
    else:
        logger.info("%s from the hub is in %s", printable(name), printable(folder))
        return folder
    raise SourceError(name, f"no such folder, and {what}", do=do) from None


def _bar(shown: bool) -> type[Any]:
    """The class of the hub's progress bars, which are seen on a terminal alone."""
    from huggingface_hub.utils.tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(  # type: ignore[no-untyped-call]
                *arguments, **{**options, "disable": not (shown and sys.stderr.isatty())}
            )

    return Bar


def _asked_twice(name: str, fetched: Callable[[], Path]) -> Path:
    """What is fetched, once more where that may help."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return fetched()
    except LocalEntryNotFoundError as error:
        if not _may_pass(error.__cause__):
            raise
        logger.info("%s: %r from the hub; once more", printable(name), error.__cause__)
    time.sleep(RETRY_AFTER)
    return fetched()


def _refusal(error: Exception, repo: str, revision: str | None) -> tuple[str, str]:
    """What the hub, or its library, says against a repository, and what to do; the first kind that fits tells."""
    from huggingface_hub import errors

    log_in = "log in with: hf auth login"
    known: Sequence[tuple[type[Exception], str, str]] = (
        (
            errors.GatedRepoError,
            "on the hub access to it is gated",
            f"ask for access at huggingface.co/{repo}, then {log_in}",
        ),
        (errors.RevisionNotFoundError, f"on the hub {repo} has no revision {revision}", "choose another revision"),
        (
            errors.RepositoryNotFoundError,
            "no such repository on the hub",
            f"check the spelling; if it is private, {log_in}",
        ),
        (
            errors.LocalEntryNotFoundError,
            f"the hub {_not_reached(error.__cause__)}, nor does its cache here hold it",
            "check the path, or the network",
        ),
        (errors.HFValidationError, "no valid hub id", f"name {FORMS}"),
    )
    otherwise = f"the hub answered with {_status(error) or 'an unknown status'}", "try again later"
    return next(((what, do) for kind, what, do in known if isinstance(error, kind)), otherwise)


def _may_pass(cause: BaseException | None) -> bool:
    """Whether asking once more may help: a connection that was not made, and no answer."""
    return cause is not None and _status(cause) is None and not _offline(cause)


def _status(cause: BaseException | None) -> int | None:
    """Of an answer that was an error."""
    return getattr(getattr(cause, "response", None), "status_code", None)


def _offline(cause: BaseException) -> bool:
    return type(cause).__name__ == "OfflineModeIsEnabled"


def _not_reached(cause: BaseException | None) -> str:
    """What came of asking the hub: why it did not answer, or with which status it did."""
    status = _status(cause)
    if status is not None:
        return f"answered with {status}"
    if cause is None:
        return "cannot be reached"
    if _offline(cause):
        return "is not asked in offline mode (HF_HUB_OFFLINE)"
    return f"cannot be reached ({_said(cause)})"


def _said(error: BaseException) -> str:
    """The kind of an error and the first line of its message."""
    kind, line = type(error).__name__, first_line(error, 1000)
    return kind if line == kind else f"{kind}: {line}"
