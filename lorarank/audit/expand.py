"""From what was named, folders and patterns included, to the adapters that are meant (floor 3)."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from lorarank.adapters.adapter import natural_order
from lorarank.adapters.candidate import OTHER_FILES, SHARD
from lorarank.adapters.peft_config import FILE_NAME
from lorarank.adapters.store import INDEX_SUFFIX, READ, SUFFIXES
from lorarank.errors import SourceError
from lorarank.sources import CHECKPOINT, at_home

WEIGHTS = "adapter_model"
"""What the names of PEFT's weight files begin with."""

DEEP = re.compile(r"(?:^|(?<=[/\\]))(?:\*\*(?:[/\\]+|$))+")
"""What stands for any depth in a pattern."""


def expand(sources: Sequence[str]) -> list[str]:
    """Every adapter that is meant, once, in the order of the sources and by name within each, ``checkpoint-9`` before
    ``checkpoint-10``.

    A folder of PEFT's layout is one adapter, and so is any file that is named. A pattern stands for what it matches,
    ``**`` for any depth, and of its matches only what may be an adapter counts; so it is with several sources, which a
    shell may have made of a pattern, putting ``checkpoint-10`` first. Any other folder stands for the adapters below
    it; a single one that holds none stands for itself, so that opening it says what it is. Neither folders nor ``**``
    reach through links to folders. What is no path is taken for a hub id.

    Raises
    ------
    SourceError
        A pattern matches nothing that may be an adapter.
    """
    several = len(sources) > 1
    found: dict[str, None] = {}
    for source in _as_meant(sources):
        for one in _expanded(source, several):
            found.setdefault(one)
    return list(found)


def _as_meant(sources: Sequence[str]) -> Sequence[str]:
    """A trainer's checkpoints in the order of a shell, which compares letters, in the order of their steps.

    >>> _as_meant(["run/checkpoint-100", "run/checkpoint-20"]), _as_meant(["checkpoint-30", "checkpoint-20"])
    (['run/checkpoint-20', 'run/checkpoint-100'], ['checkpoint-30', 'checkpoint-20'])
    """
    sources = [at_home(source) for source in sources]
    paths = [Path(source) for source in sources]
    siblings = len({path.parent for path in paths}) == 1 and all(CHECKPOINT.fullmatch(path.name) for path in paths)
    return sorted(sources, key=natural_order) if siblings and list(sources) == sorted(sources) else sources


def matched(sources: Sequence[str]) -> list[str]:
    """What is named, and in the place of a pattern what matches it, each once; folders stand for themselves.

    Raises
    ------
    SourceError
        A pattern matches nothing.
    """
    found: dict[str, None] = {}
    for source in _as_meant(sources):
        is_pattern = glob.has_magic(source) and not os.path.lexists(source)
        matches = sorted(_matches(source), key=natural_order) if is_pattern else [source]
        if not matches:
            raise SourceError(source, "the pattern matches nothing", do="check it")
        found |= dict.fromkeys(matches)
    return list(found)


def _expanded(source: str, several: bool) -> Iterator[str]:
    try:
        is_folder, exists = bool(source) and Path(source).is_dir(), os.path.lexists(source)
    except (OSError, ValueError):  # too long, or a NUL inside; opening it says so
        is_folder = exists = False
    if is_folder:
        below = list(_below(Path(source)))
        yield from below if below or several else (source,)
    elif exists:
        # shells hand over every file that a pattern matches; one that is named alone is tried, whatever it is
        if not several or (_may_be(Path(source)) and not _is_indexed(Path(source))):
            yield _whole(Path(source)) if several else source
    elif glob.has_magic(source):
        matches = sorted(_matches(source), key=natural_order)
        inside = [one for match in matches for one in _expanded(match, several=True)]
        if not inside:
            raise SourceError(source, "the pattern matches no adapter", do="check it, or name a folder")
        yield from inside
    else:
        yield source


def _matches(pattern: str) -> set[str]:
    """Paths that match. glob itself follows links below ``**``, and where a few lead upwards it never comes back."""
    start, *rest = DEEP.split(pattern, maxsplit=1)
    if not rest:
        return set(glob.glob(pattern))  # noqa: PTH207 (Path.glob takes no absolute pattern)
    folders = set(glob.glob(start or "."))  # noqa: PTH207
    if not rest[0]:
        return folders  # a folder stands for what is below it
    found: set[str] = set()
    for folder in folders:
        for place, inner, _ in os.walk(folder):
            inner[:] = [name for name in inner if not name.startswith(".")]
            found |= _matches(os.path.join(glob.escape(place), rest[0]))  # noqa: PTH118
    return found


def _below(folder: Path) -> Iterator[str]:
    """Adapters in a folder and below it; links to folders are not followed, so that no circle is walked."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted((name for name in folders if not name.startswith(".")), key=natural_order)
        here = Path(place)
        if _is_adapter(files):
            yield str(here)
        elif not _is_run(here):  # a run's own files are no adapters; those are in folders below
            indexed = any(name.endswith(INDEX_SUFFIX) for name in files)
            names = [name for name in sorted(files, key=natural_order) if _may_be(here / name)]
            yield from (str(here / name) for name in names if not (indexed and SHARD.search(name)))


def _is_run(folder: Path) -> bool:
    from lorarank import runs  # an adapter alone does not need it

    return runs.is_run(folder)


def _may_be(path: Path) -> bool:
    """Whether a file may be an adapter, by its name.

    >>> [_may_be(Path(name)) for name in ("a.safetensors", "README.md", "optimizer.pt", "model.safetensors")]
    [True, False, False, False]
    """
    return path.name.endswith(READ) and not OTHER_FILES.fullmatch(path.name)


def _is_indexed(path: Path) -> bool:
    """Whether it is a shard with an index beside it, which stands for all of them."""
    return SHARD.search(path.name) is not None and any(path.parent.glob(f"*{INDEX_SUFFIX}"))


def _whole(path: Path) -> str:
    """The folder of a PEFT adapter, where a file is part of one."""
    return str(path.parent) if path.name.startswith(WEIGHTS) else str(path)


def _is_adapter(files: Sequence[str]) -> bool:
    """Whether a folder is one adapter, by the names of its files: a configuration or PEFT's weights.

    >>> _is_adapter(["adapter_config.json", "x"]), _is_adapter(["adapter_model.bin"]), _is_adapter(["a.safetensors"])
    (True, True, False)
    """
    return any(name == FILE_NAME or (name.startswith(WEIGHTS) and name.endswith(SUFFIXES)) for name in files)
