"""A task shared with copies of the process: the same results, errors that arrive, and nobody left behind."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from lorarank import forked
from lorarank.audit import audit
from lorarank.cli import main
from lorarank.errors import AdapterError, ResourceError

Make = Callable[..., Path]
linux = pytest.mark.skipif(sys.platform != "linux", reason="no copies are made elsewhere")
shared = partial(forked.shared, where="a thing")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process of one thread, which that of the tests is not where other tests have left some."""
    monkeypatch.setattr(forked, "_can_fork", lambda: sys.platform == "linux")


def nobody_left() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG) == (0, 0)
    except ChildProcessError:
        return True


@pytest.mark.parametrize("count", [0, 1, 7, forked.MOST_PORTIONS, 2 * forked.MOST_PORTIONS + 1])
@pytest.mark.parametrize("processes", [1, 2, 5])
def test_every_index_once_and_in_order(count: int, processes: int) -> None:
    progress: list[tuple[int, int]] = []
    found = shared(lambda i: i * i, count, processes=processes, progress=lambda *seen: progress.append(seen))
    assert found == [i * i for i in range(count)]
    assert [done for done, _ in progress] == sorted({done for done, _ in progress})
    assert {total for _, total in progress} <= {count}
    assert nobody_left()


@linux
def test_copies_do_their_part() -> None:
    def task(_: int) -> int:
        time.sleep(0.02)
        return os.getpid()

    assert len(set(shared(task, 20, processes=3))) == 3


@linux
@pytest.mark.parametrize("error", [AdapterError("a file", "cut short"), MemoryError("no room"), KeyError("a bug")])
def test_an_error_of_a_copy_is_raised_here_as_it_was(error: Exception) -> None:
    original = os.getpid()

    def task(_: int) -> None:
        time.sleep(0.01)
        if os.getpid() != original:
            raise error

    with pytest.raises(type(error)) as raised:
        shared(task, 20, processes=2)
    assert str(raised.value) == str(error)
    assert nobody_left()


@linux
def test_an_error_here_ends_the_copies() -> None:
    original = os.getpid()

    def task(_: int) -> None:
        if os.getpid() == original:
            raise KeyboardInterrupt
        time.sleep(60)

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        shared(task, 20, processes=3)
    assert time.monotonic() - start < 30
    assert nobody_left()


@linux
def test_a_copy_that_is_killed_is_said() -> None:
    original = os.getpid()

    def task(_: int) -> None:
        time.sleep(0.01)
        if os.getpid() != original:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ResourceError, match=r"^a thing: a process .* was killed.* Use --jobs 1\.$"):
        shared(task, 20, processes=2)
    assert nobody_left()


@linux
def test_no_room_for_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> int:
        raise BlockingIOError("no more processes")

    before = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(os, "fork", full)
    assert shared(str, 3, processes=4) == ["0", "1", "2"]
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_process_with_threads_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        assert set(shared(lambda _: os.getpid(), 9, processes=3)) == {os.getpid()}
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def large(make_adapter: Make, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Large enough for three processes, with NaN in a module."""

    def edit(tensors: dict[str, np.ndarray]) -> None:
        tensors["base_model.model.layers.2.q_proj.lora_A.weight"][0, 0] = np.nan

    modules = {f"layers.{i}.{name}": (24, 32, (3.0, 2.0, 1.0)) for i in range(20) for name in ("q_proj", "v_proj")}
    monkeypatch.setattr("lorarank.spectrum.WORTH_A_PROCESS", 1000)
    return make_adapter("large", modules, r=4, alpha=8, edit=edit)


def test_an_audit_on_several_processes_is_the_same(large: Path) -> None:
    assert audit(large, jobs=3) == audit(large)


@linux
def test_what_is_wrong_with_a_file_is_one_line(
    large: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original, read = os.getpid(), "lorarank.adapters.safetensors_file.SafetensorsFile.read"

    def slow(store: object, key: str) -> np.ndarray:
        time.sleep(0.01)
        if os.getpid() != original:
            raise AdapterError(key, "the file was cut short while it was open")
        return np.ones((4, 32) if "lora_A" in key else (24, 4))

    monkeypatch.setattr(read, slow)
    with pytest.raises(SystemExit) as stopped:
        main(["audit", str(large), "--jobs", "2"])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("Error: ")
    assert said.count("\n") == 1
    assert "the file was cut short while it was open" in said
