"""Files of ours: what is in them is checked as it is read, and writing them leaves nothing half done."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import lorarank.sweep as sweeping
from lorarank import runs
from lorarank.errors import ResourceError, RunError
from lorarank.files import replaced, write, write_bytes
from lorarank.json_files import read_json, write_json
from lorarank.locks import sole_writer
from lorarank.sweep import SWEEP, Sweep
from lorarank.sweep.outcome import Trained, outcome

Make = Callable[..., Path]


@dataclass(frozen=True)
class Sample:
    """A field of every kind that is checked."""

    size: float = 0.0
    count: int = 0
    pair: tuple[int, float] = (1, 2.0)
    all: tuple[float, ...] = ()


@pytest.mark.parametrize(
    "content",
    [
        {"size": 10**400},
        {"size": -1e301},
        {"size": float("inf")},
        {"count": 10**30},
        {"count": True},
        {"pair": [1]},
        {"pair": [1, 2.0, 3.0]},
        {"pair": [1.5, 2.0]},
        {"all": [1.0, 10**400]},
    ],
    ids=str,
)
def test_what_does_not_fit_its_field_is_a_line(content: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "sample.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match="expected"):
        read_json(tmp_path / "sample.json", Sample)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    sample = Sample(1.5, 2, (3, 4.0), (5.0, 6.0))
    write_json(tmp_path / "sample.json", sample)
    assert read_json(tmp_path / "sample.json", Sample) == sample


def test_two_writers_of_one_path_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with replaced(path) as one:
        one.write_text("one")
        with replaced(path) as two:
            two.write_text("two")
        assert path.read_text() == "two"
    assert path.read_text() == "one"
    with pytest.raises(ResourceError), replaced(path):
        raise OSError
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_a_disk_that_is_read_only_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It refuses to remove, too, what was never there."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    for name in ("open", "unlink"):
        monkeypatch.setattr(Path, name, refuse)
    for writer in (write, write_bytes):
        with pytest.raises(ResourceError, match=r"cannot be written \(Read-only file system\)"):
            writer(tmp_path / "a", b"")


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EOPNOTSUPP, errno.EIO])
def test_a_file_system_without_fsync_takes_files(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has it and fails does not."""

    def refuse(_: int) -> None:
        raise OSError(code, "refused")

    monkeypatch.setattr(os, "fsync", refuse)
    if code == errno.EIO:
        with pytest.raises(ResourceError, match="refused"):
            write_bytes(tmp_path / "a", b"whole")
        assert not list(tmp_path.iterdir())
    else:
        write_bytes(tmp_path / "a", b"whole")
        assert (tmp_path / "a").read_bytes() == b"whole"


def test_a_name_that_is_no_utf_8_comes_back(tmp_path: Path) -> None:
    name = os.fsdecode("café".encode("latin-1"))
    write_json(tmp_path / "a.json", {"name": name, "other": "σ"})
    content = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "σ" in content
    assert json.loads(content) == {"name": name, "other": "σ"}


def test_what_a_killed_writer_left_goes_when_the_next_one_works_there(tmp_path: Path) -> None:
    """Nothing of anybody else does, nor what a probe in a folder below is writing."""
    ours = (".sweep.json.0123abcd.lorarank-tmp", "points/.r001-0.json.0123abcd.lorarank-tmp")
    others = (".backup.20241130.tmp", "points/.a.tmp", "run/.moments.safetensors.0123abcd.lorarank-tmp")
    for folder in ("points", "run"):
        (tmp_path / folder).mkdir()
    for name in (*ours, *others):
        (tmp_path / name).write_text("{")
    with sole_writer(tmp_path, "sweep", "points"):
        left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
        assert left == set(others)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "points").symlink_to(tmp_path / "run")
    with sole_writer(tmp_path / "linked", "sweep", "points"):
        assert (tmp_path / others[-1]).is_file()


@pytest.mark.parametrize(("key", "value"), [("rank", -1), ("loss", {"mean": None, "se": None})])
def test_a_sweep_without_a_rank_is_none(key: str, value: Any, tmp_path: Path) -> None:
    points = [Trained(rank, 1e-3, 0, (1.0 / rank, 1.1), 1.0, 9.0) for rank in (1, 2)]
    found = outcome((2.0, 2.1), (1, 1), points, 100)
    swept = Sweep(
        1, "0.1.0", {}, (), "2026-01-01T00:00:00Z", "base", "data", 2, 2, 64, 8, 8, 32, 1, 2, 64, 9.0, None, found
    )
    write_json(tmp_path / SWEEP, swept)
    assert sweeping.read(tmp_path) == swept
    plain = json.loads((tmp_path / SWEEP).read_text())
    for one in plain["outcome"]["ranks"]:
        one[key] = value
    (tmp_path / SWEEP).write_text(json.dumps(plain))
    with pytest.raises(RunError, match="no ranks from 1 up with a loss"):
        sweeping.read(tmp_path)


@pytest.mark.parametrize(
    ("name", "keys", "least"),
    [
        (runs.MANIFEST, ("training", "alpha"), 1),
        (runs.MANIFEST, ("training", "rank"), 1),
        (runs.MANIFEST, ("training", "steps"), 0),
        (runs.MANIFEST, ("training", "replicates"), 1),
        (runs.TRUNCATION, ("rank",), 1),
        (runs.TRUNCATION, ("points", 0, "k"), 1),
        (runs.COMPANION, ("rank",), 1),
    ],
)
def test_a_run_is_no_run_where_a_number_is_too_small(
    name: str, keys: tuple[Any, ...], least: int, make_run: Make
) -> None:
    folder = make_run(companion=(0.05, 0.01))
    plain = json.loads((folder / name).read_text())
    part: Any = plain
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = least - 1
    (folder / name).write_text(json.dumps(plain))
    with pytest.raises(RunError, match=rf"{name}: {keys[-1]}: it is below {least}"):
        runs.read(folder)
