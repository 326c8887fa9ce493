"""Files: the input is only read, nothing is overwritten, and nothing is ever half-written."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorarank import adapters
from lorarank.adapters import layout
from lorarank.errors import NumericsError, OptionError, ResourceError
from lorarank.files import write_bytes
from lorarank.report import resized
from lorarank.resize import ConvertOptions, ResizeOptions, convert, resize

Make = Callable[..., Path]


def fingerprint(folder: Path) -> dict[str, str]:
    """Name → digest of every file in a folder."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def test_the_input_is_untouched_and_the_output_the_same_each_time(make_adapter: Make, tmp_path: Path) -> None:
    before = make_adapter()
    was = fingerprint(before)
    for name in ("one", "two"):
        resize(before, tmp_path / name / "out", ResizeOptions(energy=0.9))
    assert fingerprint(before) == was
    one, two = fingerprint(tmp_path / "one" / "out"), fingerprint(tmp_path / "two" / "out")
    assert one.keys() == two.keys() == {"adapter_model.safetensors", "adapter_config.json", "resize.json"}
    assert one["adapter_model.safetensors"] == two["adapter_model.safetensors"]


@pytest.mark.parametrize("place", ["file", "folder", "link", "itself"])
def test_nothing_is_overwritten(place: str, make_adapter: Make, tmp_path: Path) -> None:
    before = make_adapter()
    output = before if place == "itself" else tmp_path / "out"
    if place == "file":
        output.write_text("precious")
    elif place == "folder":
        output.mkdir()
        (output / "precious").touch()
    elif place == "link":
        output.symlink_to(tmp_path / "nowhere")
    was = fingerprint(tmp_path)
    with pytest.raises(OptionError, match="not an empty folder"):
        resize(before, output, ResizeOptions(rank=2))
    assert fingerprint(tmp_path) == was


@pytest.mark.parametrize("place", ["named", "current", "link", "mounted"])
def test_an_empty_folder_is_a_place(
    place: str, make_adapter: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays what it is: nobody can put another folder where one stands, where a disk is mounted, or on Windows."""
    before, folder = make_adapter(), tmp_path / "out"
    folder.mkdir()
    (folder / ".0123abcd.lorarank-tmp").touch()  # of one that was killed
    output = {"current": Path(), "link": tmp_path / "link"}.get(place, folder)
    if place == "link":
        output.symlink_to(folder)
    if place == "current":
        monkeypatch.chdir(folder)
    real = os.rename

    def rename(old: Any, new: Any) -> None:
        if Path(new).exists():
            raise OSError(16, "Device or resource busy")
        real(old, new)

    monkeypatch.setattr(os, "rename", rename)
    was = folder.stat().st_ino
    resize(before, output, ResizeOptions(rank=2))
    names = {"adapter_model.safetensors", "adapter_config.json", "resize.json", ".0123abcd.lorarank-tmp"}
    assert {path.name for path in folder.iterdir()} == names
    assert folder.stat().st_ino == was


def test_a_move_into_an_empty_folder_that_fails_leaves_nothing(
    make_adapter: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, folder, real = make_adapter(), tmp_path / "out", os.rename
    folder.mkdir()

    def rename(old: Any, new: Any) -> None:
        if Path(new).name == "adapter_model.safetensors":
            raise OSError(5, "Input/output error")
        real(old, new)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(ResourceError, match="Input/output error"):
        resize(before, folder, ResizeOptions(rank=2))
    assert not list(folder.iterdir())


def test_every_file_is_written_as_bytes(make_adapter: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text would have other ends of lines on Windows."""
    before = make_adapter()
    monkeypatch.setattr(Path, "write_text", None)
    resize(before, tmp_path / "out", ResizeOptions(rank=2))
    assert all(b"\r" not in (tmp_path / "out" / name).read_bytes() for name in ("adapter_config.json", "resize.json"))


def test_a_name_as_long_as_can_be_is_one(make_adapter: Make, tmp_path: Path) -> None:
    """In letters of three bytes and in those of one; temporary names are not longer."""
    before = make_adapter()
    for name in ("版" * 85, "a" * 255):
        resize(before, tmp_path / name, ResizeOptions(rank=2))
        write_bytes(tmp_path / name / name, b"")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("after", [0, 5])
def test_a_write_that_fails_leaves_nothing(
    error: BaseException, after: int, make_adapter: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, calls, real = make_adapter(), [], layout._exactly

    def failing(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) > after:
            raise error
        return real(*arguments)

    monkeypatch.setattr(layout, "_exactly", failing)
    with pytest.raises(ResourceError if isinstance(error, OSError) else KeyboardInterrupt):
        resize(before, tmp_path / "out", ResizeOptions(rank=2))
    assert list(tmp_path.iterdir()) == [before]


def test_an_adapter_damaged_while_it_is_cut_leaves_nothing(make_adapter: Make, tmp_path: Path) -> None:
    def poison(tensors: dict[str, np.ndarray]) -> None:
        list(tensors.values())[-1][0, 0] = np.nan

    before = make_adapter(edit=poison)
    for options in (ResizeOptions(rank=2), ConvertOptions(dtype="float16")):
        with pytest.raises(NumericsError, match="lora_B"):
            (resize if isinstance(options, ResizeOptions) else convert)(before, tmp_path / "out", options)  # type: ignore[operator]
        assert list(tmp_path.iterdir()) == [before]


def test_a_kill_leaves_no_half_output(make_adapter: Make, tmp_path: Path) -> None:
    """kill -9 in the middle of writing: the output is not there, and the same command works afterwards."""
    before = make_adapter()
    code = (
        "import sys, time; from lorarank.adapters import layout; from lorarank.resize import *\n"
        "def slow(*a): print('writing', flush=True); time.sleep(60)\n"
        "layout._exactly = slow; resize(sys.argv[1], sys.argv[2], ResizeOptions(rank=2))"
    )
    root = Path(resized.__file__).parents[2]
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(before), str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"writing\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert not (tmp_path / "out").exists()
    resize(before, tmp_path / "out", ResizeOptions(rank=2))
    assert adapters.open(tmp_path / "out").modules[0].r == 2
