"""Rows of results on disk, growing as they come, and taken up again after a stop (floor 3).

CSV and JSONL grow line by line. Parquet cannot: its rows go to a JSONL journal beside it and become the Parquet file
at the end, whole or not at all.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from lorarank.audit.rows import COUNTS, TEXTS, Layout, Row, Value
from lorarank.errors import OptionError, ResourceError, RunError, SourceError, needing, printable
from lorarank.files import replaced
from lorarank.locks import lock
from lorarank.wording import no_formula

KINDS = (".csv", ".jsonl", ".parquet")
JOURNAL = ".journal.jsonl"

LIKE_OURS = 11
"""Bytes of a file that must be those of a table where it has no whole line: ``{"source": `` of a JSONL row."""


class TableFile:
    """A table that rows are added to. Use as a context manager; ``source in table`` says whether it has its row."""

    def __init__(self, path: Path, layout: Layout, known: Callable[[Row], None]) -> None:
        """Open or start a table; ``known`` is called with each row that is there already.

        Raises
        ------
        OptionError
            The name has none of the endings in :data:`KINDS`, or is that of a folder, pipe or device.
        RunError
            There is such a file and it is no table of this layout, or another process is writing it.
        MissingExtraError
            Parquet is asked for and pyarrow is not installed.
        ResourceError
            It cannot be written.
        """
        if path.suffix not in KINDS:
            raise OptionError(f"-o {path}", "its name says no format", do=f"let it end in {', '.join(KINDS)}")
        self.path, self.columns = path, layout.columns
        try:
            is_other = path.exists() and not path.is_file()
        except OSError as error:
            raise self._unwritable(error) from None
        if is_other:
            raise OptionError(f"-o {path}", "it exists and is no regular file", do="choose another name")
        if path.suffix == ".parquet":
            _pyarrow()
        self._lines = path.with_name(path.name + JOURNAL) if path.suffix == ".parquet" else path
        try:
            self._file: IO[bytes] = self._lines.open("ab")
        except OSError as error:
            raise self._unwritable(error) from None
        self._lock()
        try:
            self._sources = set()
            for row in self._earlier():
                self._sources.add(row["source"])
                known(row)
            self._file.seek(0, os.SEEK_END)
            if self._lines.suffix == ".csv" and not self._file.tell():
                self._write(_csv_line(self.columns))
        except BaseException as error:
            self._file.close()
            if self._lines != path and not self._lines.stat().st_size:
                self._lines.unlink()  # a journal that was begun just now
            if isinstance(error, OSError):
                raise self._unwritable(error) from None
            raise

    def add(self, row: Row) -> None:
        """Add a row; it is on its way to the disk when this returns."""
        values = [_stored(row[name]) for name in self.columns]
        if self._lines.suffix == ".csv":
            line = _csv_line("" if value is None else value for value in values)
        else:
            line = json.dumps(dict(zip(self.columns, values, strict=True)), allow_nan=False) + "\n"
        try:
            self._write(line)
        except OSError as error:
            raise self._unwritable(error) from None

    def __contains__(self, source: str) -> bool:
        """Whether there is a row of that source."""
        return _stored(source) in self._sources

    def __enter__(self) -> TableFile:
        """The table itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it; a Parquet file is written now, after a stop too, of the rows that are there."""
        self._file.close()
        if self.path.suffix == ".parquet":
            self._to_parquet()

    def _lock(self) -> None:
        """Keep other processes out until this one has closed the file, however it ends."""
        mine = lock(self._file.fileno())
        if not mine or not os.fstat(self._file.fileno()).st_nlink:  # a journal that the other has just done away with
            self._file.close()
            raise RunError(
                self.path,
                "another audit is writing it",
                why="rows of both would be in it",
                do="wait for it, or choose another file",
            )

    def _write(self, line: str) -> None:
        self._file.write(line.encode())
        self._file.flush()

    def _unwritable(self, error: OSError) -> ResourceError:
        return ResourceError(self.path, f"cannot be written ({error.strerror or error})", do="choose another place")

    def _earlier(self) -> Iterator[Mapping[str, Value]]:
        """Rows of an earlier run; half a line at the end, which a kill leaves, is cut off."""
        if self._lines.stat().st_size:
            content = self._lines.read_bytes()
            whole, cut = content[: content.rfind(b"\n") + 1], content[content.rfind(b"\n") + 1 :]
            yield from self._parsed(whole)
            if cut:  # the half line is cut off only after what is before it has proved to be ours
                if not whole and not self._first_line().startswith(cut[:LIKE_OURS]):
                    raise RunError(self._lines, "no table of an audit", do=_ANOTHER)
                os.truncate(self._lines, len(whole))
        elif self._lines != self.path and self.path.exists():  # a finished Parquet file, to which sources are added
            rows = _read_parquet(self.path)
            for row in rows:
                self._check(row)
            text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
            self._lines.write_bytes(text.encode())
            yield from rows

    def _first_line(self) -> bytes:
        """How a table begins: CSV's headings, or the first column of a JSONL row."""
        columns = _csv_line(self.columns) if self._lines.suffix == ".csv" else json.dumps({self.columns[0]: ""})
        return columns.encode()

    def _parsed(self, content: bytes) -> Iterator[Mapping[str, Value]]:
        try:
            text = content.decode()
            if self._lines.suffix == ".csv":
                reader = csv.DictReader(io.StringIO(text), restkey="")
                self._check(dict.fromkeys(reader.fieldnames or self.columns))
                rows: Iterable[Any] = reader
            else:
                rows = map(json.loads, text.splitlines())
            for row in rows:
                self._check(row)
                yield _typed(row)
        except RunError:
            raise
        except (ValueError, csv.Error, RecursionError) as error:
            raise RunError(self._lines, f"no table of an audit ({printable(error, 100)})", do=_ANOTHER) from None

    def _check(self, row: Any) -> None:
        if not isinstance(row, dict) or tuple(row) != self.columns:
            raise RunError(self.path, "it has other columns than this audit", do=_ANOTHER)

    def _to_parquet(self) -> None:
        pyarrow, parquet = _pyarrow()
        schema = pyarrow.schema([(name, pyarrow.type_for_alias(_arrow_type(name))) for name in self.columns])
        with (
            replaced(self.path) as temporary,
            self._lines.open("rb") as lines,
            temporary.open("wb") as file,  # pyarrow itself opens no names that are no UTF-8
            parquet.ParquetWriter(file, schema) as writer,
        ):
            while batch := [json.loads(line) for _, line in zip(range(10_000), lines, strict=False)]:
                writer.write_table(pyarrow.Table.from_pylist(batch, schema=schema))
        self._lines.unlink()


_ANOTHER = "choose another file, or ask for the same --energy"


def _stored(value: Value) -> Value:
    """A value as every format takes it: names printable and no formulas, numbers finite or absent."""
    if isinstance(value, str):
        return no_formula(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _csv_line(values: Iterable[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def _arrow_type(column: str) -> str:
    if column in TEXTS:
        return "string"
    return "int64" if column in COUNTS else "float64"


def _typed(row: Mapping[str, Any]) -> dict[str, Value]:
    """A row as it was added; CSV keeps text alone."""
    typed: dict[str, Value] = {}
    for name, value in row.items():
        if name in TEXTS or not isinstance(value, str):
            typed[name] = value
        elif value == "":
            typed[name] = None
        else:
            typed[name] = int(value) if name in COUNTS else float(value)
    return typed


def _read_parquet(path: Path) -> list[dict[str, Value]]:
    _, parquet = _pyarrow()
    try:
        with path.open("rb") as file:
            rows: list[dict[str, Value]] = parquet.read_table(file).to_pylist()
    except OSError as error:
        raise SourceError(path, f"cannot be read ({error})", do=_ANOTHER) from None
    except ValueError as error:  # pyarrow's own errors are
        raise RunError(path, f"no Parquet file ({printable(error, 100)})", do=_ANOTHER) from None
    return rows


def _pyarrow() -> tuple[Any, Any]:
    with needing("audit -o results.parquet", "pyarrow", extra="parquet"):
        import pyarrow
        import pyarrow.parquet
    return pyarrow, pyarrow.parquet
