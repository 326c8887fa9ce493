"""Adapters by the thousand: what is found, what is written, what is taken up again, and what stops nothing."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorarank.audit import AuditOptions, audit
from lorarank.audit.expand import expand
from lorarank.audit.many import audit_many
from lorarank.audit.rows import Layout, quantities
from lorarank.audit.table_file import JOURNAL, TableFile
from lorarank.audit.workers import KILLED, each
from lorarank.errors import MissingExtraError, OptionError, RunError, SourceError

Make = Callable[..., Path]


@pytest.fixture
def zoo(make_adapter: Make, tmp_path: Path) -> Path:
    """Three adapters, one of them dead, and a file that is none."""
    for seed, name in enumerate(("zoo/a", "zoo/b/checkpoint-1", "zoo/b/checkpoint-2")):
        make_adapter(name, {"q": (16, 12, (2.0, 1.0))}, r=4, seed=seed)
    make_adapter("zoo/dead", {"q": (16, 12, (0.0,))}, r=4)
    (tmp_path / "zoo" / "c.safetensors").write_bytes(b"{")
    (tmp_path / "zoo" / "b" / "optimizer.pt").write_bytes(b"x")
    (tmp_path / "zoo" / "b" / "model-00001-of-00002.safetensors").write_bytes(b"x")
    (tmp_path / "zoo" / "README.md").write_text("x")
    return tmp_path / "zoo"


NAMES = ["a", "b/checkpoint-1", "b/checkpoint-2", "c.safetensors", "dead"]


def names(sources: list[str], zoo: Path) -> list[str]:
    return sorted(str(Path(source).relative_to(zoo)) for source in sources)


def test_a_folder_stands_for_the_adapters_in_it(zoo: Path) -> None:
    assert names(expand([str(zoo)]), zoo) == NAMES


@pytest.mark.parametrize("pattern", ["**", "*"])
def test_a_pattern_stands_for_what_it_matches(zoo: Path, pattern: str) -> None:
    assert names(expand([str(zoo / pattern)]), zoo) == NAMES


def test_what_a_shell_makes_of_a_pattern_is_the_same(zoo: Path) -> None:
    assert names(expand([str(path) for path in zoo.rglob("*")]), zoo) == NAMES


def test_the_order_given_is_kept(zoo: Path) -> None:
    given = [str(zoo / "b" / "checkpoint-2"), str(zoo / "a"), str(zoo / "b" / "checkpoint-1")]
    assert expand(given) == given


def test_checkpoints_come_in_the_order_of_their_numbers(make_adapter: Make, tmp_path: Path) -> None:
    folders = [make_adapter(f"run/checkpoint-{step}") for step in (9, 10, 200)]
    for source in (str(tmp_path / "run" / "checkpoint-*"), str(tmp_path / "run")):
        assert expand([source]) == [str(folder) for folder in folders]
    assert expand(sorted(map(str, folders))) == [str(folder) for folder in folders]  # as a shell hands them over


def test_hub_ids_and_names_of_nothing_are_left_alone(tmp_path: Path) -> None:
    assert expand(["owner/name", "owner/name@v1"]) == ["owner/name", "owner/name@v1"]
    assert expand([str(tmp_path)]) == [str(tmp_path)]
    assert expand([""]) == [""]  # no name for the folder one is in
    with pytest.raises(SourceError, match="matches no adapter"):
        expand([str(tmp_path / "*.safetensors")])


def test_a_run_folder_stands_for_its_adapters(make_run: Make) -> None:
    folder = make_run(replicates=(0, 1))
    assert expand([str(folder)]) == [str(folder / "adapter"), str(folder / "adapter-1")]


def test_an_index_stands_for_its_shards(tmp_path: Path) -> None:
    index = "lora.safetensors.index.json"
    shards = [f"lora-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for name in (*shards, index, "model-00001-of-00002.safetensors", "model.safetensors.index.json"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).touch()
    found = [str(tmp_path / "in" / index)]
    assert expand([str(tmp_path / "in")]) == expand([str(tmp_path / "in" / "*")]) == found
    assert expand([str(path) for path in (tmp_path / "in").iterdir()]) == found
    (tmp_path / "in" / index).unlink()
    (tmp_path / "in" / "model.safetensors.index.json").unlink()
    assert expand([str(tmp_path / "in")]) == [str(tmp_path / "in" / name) for name in shards]


@pytest.mark.parametrize("pattern", ["", "**", "**/", "**/**"])
def test_a_circle_of_links_is_not_walked(zoo: Path, pattern: str) -> None:
    for place in (zoo, zoo / "b", zoo / "a"):
        (place / "again").symlink_to(zoo)
    assert names(expand([str(zoo / pattern)]), zoo) == NAMES


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("**/*.safetensors", NAMES),
        ("**/checkpoint-*", NAMES[1:3]),
        ("**/b/**/adapter_config.json", []),
        ("**/b/**/*.safetensors", NAMES[1:3]),
        ("b/**/checkpoint-1", NAMES[1:2]),
        ("b/check**", NAMES[1:3]),
    ],
)
def test_any_depth_within_a_pattern(zoo: Path, pattern: str, found: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (zoo, zoo / "b", zoo / "a"):
        (place / "again").symlink_to(zoo)
    monkeypatch.chdir(zoo)
    for start in (f"{zoo}/", ""):
        if found:
            assert names([str(Path(one).absolute()) for one in expand([start + pattern])], zoo) == found
        else:
            with pytest.raises(SourceError, match="matches no adapter"):
                expand([start + pattern])


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    parquet = pytest.importorskip("pyarrow.parquet")
    with path.open("rb") as file:
        return list(parquet.read_table(file).to_pylist())


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.parquet", os.fsdecode(b"caf\xe9.parquet")])
def test_every_source_is_a_row_and_is_done_once(zoo: Path, tmp_path: Path, name: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    sources, output = expand([str(zoo)]), tmp_path / name
    first = audit_many(sources[:3], output, AuditOptions(fail_if="dead"))
    assert (first.sources, first.earlier, first.failed) == (3, 0, 0)
    second = audit_many(sources, output, AuditOptions(fail_if="dead"))
    assert (second.sources, second.earlier, second.unreadable, second.failed) == (5, 3, 1, 1)
    assert (second.codes["LR000"], second.codes["LR002"]) == (1, 1)
    rows = read(output)
    assert sorted(row["source"] for row in rows) == sorted(sources)
    assert [row["status"] for row in rows].count("ok") == 4
    assert audit_many(sources, output).earlier == 5
    for condition in ("keep < 1000", "not keep > 1000"):  # the one that cannot be read has no keep rank
        assert audit_many(sources, output, AuditOptions(fail_if=condition)).failed == 4
    assert read(output) == rows
    assert not output.with_name(name + JOURNAL).exists()


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_half_a_line_is_done_again(zoo: Path, tmp_path: Path, name: str) -> None:
    sources, output = expand([str(zoo)]), tmp_path / name
    audit_many(sources, output)
    content = output.read_bytes()
    output.write_bytes(content[: content.rindex(b"\n", 0, -1) + 30])
    summary = audit_many(sources, output)
    assert (summary.sources, summary.earlier) == (5, 4)
    assert len(read(output)) == 5


def test_a_stopped_parquet_goes_on_from_its_journal(zoo: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    sources, output = expand([str(zoo)]), tmp_path / "rows.parquet"
    audit_many(sources[:2], tmp_path / "rows.jsonl")
    (tmp_path / "rows.jsonl").rename(output.with_name(output.name + JOURNAL))  # what a kill -9 leaves
    assert audit_many(sources, output).earlier == 2
    assert len(read(output)) == 5


def test_a_table_of_other_columns_is_not_touched(zoo: Path, tmp_path: Path) -> None:
    output = tmp_path / "rows.csv"
    audit_many(expand([str(zoo)]), output)
    before = output.read_bytes()
    with pytest.raises(RunError, match=r"^[^:]*: it has other columns than this audit"):
        audit_many([str(zoo / "a")], output, AuditOptions(energy=(0.5,)))
    assert output.read_bytes() == before


def test_shares_that_are_almost_all_have_columns_of_their_own(zoo: Path, tmp_path: Path) -> None:
    options = AuditOptions(energy=(0.9999999, 1.0))
    for earlier in (0, 1):
        assert audit_many([str(zoo / "a")], tmp_path / "rows.csv", options).earlier == earlier
    (row,) = read(tmp_path / "rows.csv")
    assert {"energy_rank_0.9999999", "energy_rank_1"} < row.keys()


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
@pytest.mark.parametrize(
    "content", [b"\xff\n", b"{\n", b"[]\n", b"null\n", b'{"a": 1}\n', b"notes", b"my notes\nand mor"]
)
def test_a_file_that_is_no_table_is_not_touched(tmp_path: Path, name: str, content: bytes) -> None:
    output = tmp_path / name
    output.write_bytes(content)
    with pytest.raises(RunError):
        audit_many([], output)
    assert output.read_bytes() == content


def test_a_name_without_a_format(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="format"):
        audit_many([], tmp_path / "rows.txt")


def test_a_table_is_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "device.jsonl").symlink_to("/dev/zero")
    (tmp_path / "folder.parquet").mkdir()
    for name in ("pipe.csv", "device.jsonl", "folder.parquet"):
        with pytest.raises(OptionError, match="no regular file"):
            audit_many([], tmp_path / name)


def test_a_row_knows_what_the_audit_knows(mixed: Path) -> None:
    found = audit(mixed)
    row = Layout((0.9, 0.95, 0.99)).row(found, 0.1, "1")
    assert tuple(row) == Layout((0.9, 0.95, 0.99)).columns
    assert quantities(row) == found.quantities


def test_names_in_a_row_are_no_formulas(make_adapter: Make, tmp_path: Path) -> None:
    folder = make_adapter(config={"base_model_name_or_path": "=1+1\x1b[31m"})
    audit_many([str(folder)], tmp_path / "rows.csv")
    (row,) = read(tmp_path / "rows.csv")
    assert row["base_model"] == "'=1+1\\x1b[31m"


def test_processes_give_the_same_rows(zoo: Path, tmp_path: Path) -> None:
    sources = expand([str(zoo)])
    audit_many(sources, tmp_path / "one.jsonl")
    audit_many(sources, tmp_path / "two.jsonl", jobs=2)
    one, two = (
        sorted(({**row, "seconds": 0} for row in read(tmp_path / name)), key=lambda row: row["source"])
        for name in ("one.jsonl", "two.jsonl")
    )
    assert one == two


def dies(source: str) -> str:
    """A task that one source kills, as the kernel does to a process that takes too much memory."""
    if source == "bad":
        os.kill(os.getpid(), signal.SIGKILL)
    return f"read {source}"


def said(source: str, message: str) -> str:
    return f"{source}: {message}"


def test_a_source_that_kills_its_process_stops_nothing() -> None:
    sources = [*map(str, range(40)), "bad", *map(str, range(40, 80))]
    found = list(each(dies, sources, said, jobs=2))
    assert sorted(found) == sorted([f"bad: {KILLED}", *(f"read {source}" for source in sources if source != "bad")])


OWNER = """
import os, sys, time
from lorarank.audit.workers import each
def task(source):
    os.write(1, f"{os.getpid()}\\n".encode())  # one write: two processes print into the same pipe
    return source
if __name__ == "__main__":
    for _ in each(task, ["a", "b"], max, jobs=2):
        time.sleep(600)
"""


def runs(process: Path) -> bool:
    """Whether a process of /proc does; one that ended and was not waited for has no command line."""
    try:
        return bool((process / "cmdline").read_bytes())
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
def test_processes_end_with_the_one_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "owner.py").write_text(OWNER)
    with subprocess.Popen([sys.executable, tmp_path / "owner.py"], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        workers = {Path("/proc") / owner.stdout.readline().strip() for _ in range(2)}
        owner.kill()
    deadline = time.monotonic() + 30
    while any(map(runs, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = [worker for worker in workers if runs(worker)]
    for worker in left:
        os.kill(int(worker.name), signal.SIGKILL)
    assert not left


def test_ray_gives_the_same_rows(zoo: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    sources = expand([str(zoo)])
    audit_many(sources, tmp_path / "ray.jsonl", ray="")
    assert sorted(row["source"] for row in read(tmp_path / "ray.jsonl")) == sorted(sources)
    found = list(each(dies, ["a", "bad", "b"], said, ray=""))
    assert len(found) == 3
    assert {"read a", "read b"} < set(found)


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"lorarank\[ray\]"):
        list(each(str, ["a"], said, ray=""))


def test_no_process() -> None:
    with pytest.raises(OptionError, match="--jobs 0"):
        list(each(str, ["a"], said, jobs=0))
    assert sorted(each(int, ["1", "2"], said, jobs=10**20)) == [1, 2]  # no more processes than sources
    assert list(each(int, [], said, jobs=2)) == []


def test_progress_counts_to_the_end(zoo: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    audit_many(expand([str(zoo)]), tmp_path / "rows.jsonl", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(index, 5) for index in range(6)]
    assert np.diff([done for done, _ in seen]).min() == 1


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.parquet"])
def test_a_table_that_another_audit_is_writing_is_left_alone(zoo: Path, tmp_path: Path, name: str) -> None:
    output = tmp_path / name
    sources = expand([str(zoo)])
    with TableFile(output, Layout(AuditOptions().energy), lambda row: None):
        before = {path: path.read_bytes() for path in tmp_path.glob("rows*")}
        with pytest.raises(RunError, match="another audit is writing it"):
            audit_many(sources, output)
        assert {path: path.read_bytes() for path in tmp_path.glob("rows*")} == before
    assert audit_many(sources, output).sources == len(sources)  # it is free again, and nothing is in it twice
