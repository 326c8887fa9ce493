"""Small files from strangers: regular, bounded in size, strict JSON, plain YAML (floor 1).

Nothing a file claims is believed before it is checked, and nothing it holds is executed. Symbolic links are followed:
the hub's cache is made of them.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections import Counter
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorarank.errors import AdapterError, SourceError

MOST_JSON_BYTES = 32_000_000
"""Far above any real header or configuration: about 10 MB describe a mixture of 15,000 experts."""

MOST_JSON_SIGNS = 1_500_000
"""Commas and opening brackets: what is behind each costs memory many times its few bytes of text. A tensor in a header
takes eight of them."""

MOST_YAML_BYTES = 64_000
"""Of a trainer's settings, which have some 10,000; PyYAML takes half a second for so many."""

NUMBER = re.compile(r"-?[0-9]{1,12}(?P<part>\.[0-9]{0,12})?")
"""A number in YAML that a setting can be."""

LONGEST_INTEGER = 20
"""Digits of 2**64; Python takes quadratic time for long ones."""

STAND_INS = {
    b"version ": ("a pointer of Git LFS", "fetch the file itself with: git lfs pull"),
    b"<!DOCTYP": ("a web page", "download the file itself, not the page about it"),
    b"<!doctyp": ("a web page", "download the file itself, not the page about it"),
}
"""First bytes of what people have in the place of the file → what it is, and what to do."""

STAND_IN_BYTES = 8
"""Length of each of these."""


def open_regular(path: Path) -> FileIO:
    """Open a regular file for reading, unbuffered; a pipe or device would hang or never end.

    Raises
    ------
    SourceError
        It is missing, may not be read, or is no regular file.

    >>> open_regular(Path("/dev/null"))
    Traceback (most recent call last):
        ...
    lorarank.errors.SourceError: /dev/null: no regular file. Check the path.
    """
    try:
        if stat.S_ISREG(path.stat().st_mode):
            return FileIO(path, "rb")
    except FileNotFoundError:
        raise SourceError(path, "no such file") from None
    except (OSError, ValueError) as error:
        raise SourceError(path, f"cannot be read ({getattr(error, 'strerror', None) or error})") from None
    raise SourceError(path, "no regular file")


def fill(file: FileIO, raw: NDArray[np.generic]) -> bool:
    """Fill an array with the bytes that come next; whether there were enough."""
    rest = raw.reshape(-1).view(np.uint8).data
    while rest.nbytes:
        count = file.readinto(rest)
        if not count:
            return False
        rest = rest[count:]
    return True


def refuse_stand_in(path: Path, start: bytes, kind: str) -> None:
    """Refuse what people have in the place of a file.

    Parameters
    ----------
    start : its first :data:`STAND_IN_BYTES`.
    kind : what it should be.

    Raises
    ------
    AdapterError
        It begins as one of :data:`STAND_INS` does.

    >>> refuse_stand_in(Path("a.gguf"), b"version ", "GGUF file")
    Traceback (most recent call last):
        ...
    lorarank.errors.AdapterError: a.gguf: a pointer of Git LFS, no GGUF file. Fetch the file itself with: git lfs pull.
    """
    if start in STAND_INS:
        what, do = STAND_INS[start]
        raise AdapterError(path, f"{what}, no {kind}", do=do)


def _small(path: Path, most: int, what: str) -> bytes:
    """All of a file that has at most so many bytes."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise AdapterError(path, f"{size:,} bytes are too many for {what}")
        return file.read(size)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a small file.

    Raises
    ------
    SourceError
        The file cannot be read.
    AdapterError
        It is too large, something else in its place, or :func:`parse_object` refuses it.
    """
    data = _small(path, MOST_JSON_BYTES, "a JSON file of an adapter")
    refuse_stand_in(path, data[:STAND_IN_BYTES], "JSON file")
    return parse_object(data, path)


def read_yaml(path: Path) -> dict[str, Any]:
    """Settings in YAML: mappings in one another, plain numbers as such, everything else as text.

    Raises
    ------
    SourceError
        The file cannot be read.
    AdapterError
        It is too large, no such YAML, or has anchors, which a few bytes of can make a large thing.
    """
    data = _small(path, MOST_YAML_BYTES, "settings of a trainer")
    if b"&" in data:
        raise AdapterError(path, "no plain YAML (it may have anchors)")
    import yaml  # few adapters have such a file beside them

    try:
        return _with_numbers(yaml.load(data, Loader=yaml.BaseLoader), path)  # noqa: S506 (it makes nothing but text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise AdapterError(path, f"no valid YAML ({type(error).__name__})") from None


def _with_numbers(settings: Any, where: object) -> dict[str, Any]:
    if not isinstance(settings, dict):
        raise AdapterError(where, "no settings by name")
    found: dict[str, Any] = {}
    for name, value in settings.items():
        match = NUMBER.fullmatch(value) if isinstance(value, str) else None
        number = match and (float(value) if match["part"] else int(value))
        found[name] = _with_numbers(value, where) if isinstance(value, dict) else value if number is None else number
    return found


def parse_object(data: bytes, where: object) -> dict[str, Any]:
    """A JSON object from at most :data:`MOST_JSON_BYTES` bytes of UTF-8.

    Raises
    ------
    AdapterError
        It is no JSON object, names a key twice, is nested too deeply, or holds absurd numbers.

    >>> parse_object(b'{"r": 8, "r": 16}', "adapter_config.json")
    Traceback (most recent call last):
        ...
    lorarank.errors.AdapterError: adapter_config.json: no valid JSON (the key r appears twice). Take ...
    """
    if not data.strip():
        raise AdapterError(where, "empty", do="download it again")
    if data.count(b"{") + data.count(b"[") + data.count(b",") > MOST_JSON_SIGNS:
        raise AdapterError(where, "no valid JSON of an adapter (too many brackets and commas)")
    try:
        value = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_without_duplicates, parse_int=_integer)
    except UnicodeDecodeError:
        raise AdapterError(where, "no valid JSON (not UTF-8 text)", do="download it again") from None
    except RecursionError:
        raise AdapterError(where, "no valid JSON of an adapter (nested too deeply)") from None
    except ValueError as error:
        raise AdapterError(where, f"no valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise AdapterError(where, f"a JSON {type(value).__name__} where an object is needed")
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the key {name} appears twice")
    return found


def _integer(text: str) -> int:
    if len(text) > LONGEST_INTEGER:
        raise ValueError(f"the number {text[:10]}… has {len(text)} digits")
    return int(text)
