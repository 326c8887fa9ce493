"""Rows out of data files and hub datasets, each with the place it came from (floor 1).

JSON and CSV are read with the standard library, because its errors can name the line; Parquet and the hub need
pyarrow and datasets, which are imported when they are wanted.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from lorarank.errors import CorpusError, needing
from lorarank.sources import at_home

FIELD_LIMIT = 1 << 30
"""Longest CSV field in characters; the csv module's own limit of 131,072 is shorter than many documents."""

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")

OTHER_FILES = (".txt", ".md", ".tsv", ".xlsx", ".arrow", ".gz", ".bz2", ".xz", ".zst", ".zip")
"""Suffixes that mean a file although none is read: a mistyped path must not send anyone to the network."""


@dataclass(frozen=True)
class Table:
    """Rows still to be read: ``name`` and ``unit`` ("line", "item", "row") for messages, ``rows`` numbered from 1."""

    name: str
    unit: str
    rows: Iterator[tuple[int, Any]]

    def place(self, number: int) -> str:
        """Where a row is, for a message.

        >>> Table("train.jsonl", "line", iter(())).place(7)
        'train.jsonl, line 7'
        """
        return f"{self.name}, {self.unit} {number}"


def open_table(source: str | Path, split: str) -> Table:
    """The rows of a data file, of the one data file in a folder, or of a hub dataset ``owner/name[@revision]``.

    A path that exists, ``~`` being the home folder, is never taken for a hub id. A folder is read where it holds
    ``{split}.jsonl`` (or another known suffix) or only one data file.

    Raises
    ------
    CorpusError : nothing there, an unknown suffix, an empty file, or content that cannot be parsed (naming the line).
    MissingExtraError : Parquet or a hub id without pyarrow or datasets.
    """
    path = Path(at_home(str(source)))
    try:
        if path.is_dir():
            path = _file_in(path, split)
        if path.is_file():
            return _open_file(path)
    except OSError as error:
        raise CorpusError(path, f"cannot be read ({error.strerror or error})") from error
    named = str(source)
    if HUB_ID.fullmatch(named) and path.suffix.lower() not in (*READERS, *OTHER_FILES):
        return Table(named, "row", _hub_rows(named, split))
    raise CorpusError(
        source, "there is no such file", do="give a JSONL, JSON, CSV or Parquet file, or a hub dataset as owner/name"
    )


def _file_in(folder: Path, split: str) -> Path:
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in READERS and f.is_file())
    chosen = [f for f in files if f.stem == split] or files
    if len(chosen) == 1:
        return chosen[0]
    found = ", ".join(f.name for f in files[:8]) or "none"
    raise CorpusError(folder, f"this folder does not hold one data file for {split} (found: {found})", do="name a file")


def _open_file(path: Path) -> Table:
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise CorpusError(
            path,
            f"the suffix {path.suffix!r} is not one of {', '.join(READERS)}",
            do="unpack or convert the file, or rename it if it is one of these",
        )
    if path.stat().st_size == 0:
        raise CorpusError(path, "the file is empty")
    return reader(path)


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise CorpusError(path, f"cannot be read ({error.strerror or error})") from error


def _lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file with their ends; a byte-order mark is left out."""
    with _opened(path) as file:
        for number, line in enumerate(file, start=1):
            if number == 1:
                if line.startswith((b"\xff\xfe", b"\xfe\xff")):
                    raise CorpusError(path, "the file is UTF-16, not UTF-8", do="save it as UTF-8")
                line = line.removeprefix(b"\xef\xbb\xbf")
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError as error:
                what = f"byte {error.start + 1} of the line is not UTF-8"
                raise CorpusError(f"{path}, line {number}", what, do="save the file as UTF-8") from error


def _parsed(text: str, place: str, first_line: int = 0) -> Any:
    """``text`` as JSON; with ``first_line`` the error adds the parser's own line, counted from there."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if first_line:
            place = f"{place}, line {first_line - 1 + error.lineno}"
        why = f"not valid JSON ({error.msg} at column {error.colno})"
    except RecursionError:
        why = "JSON nested too deeply"
    except ValueError as error:  # integers of thousands of digits
        why = f"not valid JSON ({error})"
    raise CorpusError(place, why, do="write one JSON object a line, or one array of objects")


def _open_json(path: Path) -> Table:
    """Objects one a line, or one array of them, whatever the suffix says: both are found under both."""
    lines = _lines(path)
    skipped = 0
    for first in lines:
        if first.strip():
            break
        skipped += 1
    else:
        raise CorpusError(path, "the file holds nothing but blank lines")
    if first.lstrip().startswith("["):
        items = _parsed(first + "".join(lines), str(path), first_line=skipped + 1)
        return Table(str(path), "item", iter(enumerate(items, start=1)))

    def objects() -> Iterator[tuple[int, Any]]:
        number = skipped + 1
        yield number, _parsed(first, f"{path}, line {number}")
        for line in lines:
            number += 1
            if line.strip():
                yield number, _parsed(line, f"{path}, line {number}")

    return Table(str(path), "line", objects())


def _open_csv(path: Path) -> Table:
    return Table(str(path), "line", _csv_rows(path))


def _csv_rows(path: Path) -> Iterator[tuple[int, Any]]:
    reader = csv.reader(_lines(path), strict=True)
    header: list[str] = []
    while True:
        number = reader.line_num + 1
        try:
            fields = _next_record(reader)
        except csv.Error as error:
            raise CorpusError(
                f"{path}, line {number}", f"not valid CSV ({error})", do="quote the field, doubling quotes inside it"
            ) from error
        if fields is None:
            return
        if any("\0" in field for field in fields):
            raise CorpusError(f"{path}, line {number}", "a field holds a null byte", do="save the table again as text")
        if not fields:
            continue
        if not header:
            header = [name.strip() for name in fields]
            twice = sorted({name for name in header if header.count(name) > 1})
            if twice:
                raise CorpusError(f"{path}, line {number}", f"the header names {twice[0]!r} twice")
        elif len(fields) != len(header):
            raise CorpusError(
                f"{path}, line {number}",
                f"{len(fields)} fields where the header has {len(header)}",
                do="quote fields that hold commas or line breaks",
            )
        else:
            yield number, dict(zip(header, fields, strict=True))


def _next_record(reader: Iterator[list[str]]) -> list[str] | None:
    """The next record under our field limit; the csv module's limit is global, so it is put back each time."""
    before = csv.field_size_limit(FIELD_LIMIT)
    try:
        return next(reader, None)
    finally:
        csv.field_size_limit(before)


WANTED = ("text", "prompt", "completion", "messages", "conversations", "tools", "chat_template_kwargs")


def _open_parquet(path: Path) -> Table:
    with needing("reading Parquet", "pyarrow", extra="parquet"):
        import pyarrow.parquet as parquet

    def rows() -> Iterator[tuple[int, Any]]:
        number = 0
        try:
            with parquet.ParquetFile(path) as file:
                names = file.schema_arrow.names
                # the other columns may be large; with none of ours they are read after all, so the error can list them
                wanted = [name for name in names if name in WANTED] or None
                for batch in file.iter_batches(batch_size=1024, columns=wanted):
                    for row in batch.to_pylist():
                        number += 1
                        yield number, row
        except (OSError, ValueError) as error:  # pyarrow's own errors are one or the other
            if isinstance(error, CorpusError):
                raise
            raise CorpusError(path, f"not a readable Parquet file ({error})") from error

    return Table(str(path), "row", rows())


def _hub_rows(name: str, split: str) -> Iterator[tuple[int, Any]]:
    with needing("reading a hub dataset", "datasets", extra="probe"):
        import datasets
    identifier, _, revision = name.partition("@")
    try:
        data = datasets.load_dataset(identifier, revision=revision or None, split=split)
    except Exception as error:  # the hub client, its cache, a parser: whatever it is, the dataset did not come
        raise CorpusError(
            name,
            f"there is no such file, and as a hub dataset it does not load ({type(error).__name__}: {error})",
            do=f"check the name, the split {split!r} and the network, or download it and give the file",
        ) from error
    yield from enumerate(data, start=1)


READERS: dict[str, Callable[[Path], Table]] = {
    ".jsonl": _open_json,
    ".ndjson": _open_json,
    ".json": _open_json,
    ".csv": _open_csv,
    ".parquet": _open_parquet,
}
"""What each suffix is read with."""
