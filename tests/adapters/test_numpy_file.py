"""Archives of numpy arrays: their numbers, bfloat16 of MLX's, and what is damaged or no plain number."""

from __future__ import annotations

import warnings
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib import format as npy

from lorarank import adapters
from lorarank.adapters.numpy_file import NumpyFile
from lorarank.adapters.tensors import StoredTensor
from lorarank.errors import AdapterError

A = np.arange(24, dtype=np.float32).reshape(4, 6)


def archive(path: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return path


def array(descr: Any, shape: Any, data: bytes, fortran: bool = False) -> bytes:
    out = BytesIO()
    npy.write_array_header_1_0(out, {"descr": descr, "fortran_order": fortran, "shape": shape})
    return out.getvalue() + data


def test_numbers_of_either_order_and_bfloat16(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", rows=A, columns=np.asfortranarray(A), half=A.astype(np.float16))
    file = NumpyFile.open(tmp_path / "a.npz")
    assert file.tensors["columns"] == StoredTensor("float32", (4, 6))
    assert all(np.array_equal(file.read(key), A) for key in ("rows", "columns", "half"))
    brain = archive(tmp_path / "b.npz", {"x.npy": array("<V2", (2,), b"\x80\x3f\x00\xc0")})
    assert NumpyFile.open(brain).tensors["x"].dtype == "bfloat16"
    assert NumpyFile.open(brain).read("x", "f8").tolist() == [1.0, -2.0]


def test_arrays_that_are_stored_twice_or_lie_on_each_other(tmp_path: Path) -> None:
    content = array("<f4", (8,), bytes(32))
    with zipfile.ZipFile(tmp_path / "twice.npz", "w") as file:
        file.writestr("x.npy", content)
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("x.npy", content)
    with pytest.raises(AdapterError, match="x: this array is stored twice"):
        NumpyFile.open(tmp_path / "twice.npz")
    # the second entry of the directory is sent to where the first one lies
    data = archive(tmp_path / "a.npz", {"x.npy": content, "y.npy": content}).read_bytes()
    entry = data.rindex(b"PK\x01\x02")
    (tmp_path / "b.npz").write_bytes(data[: entry + 42] + bytes(4) + data[entry + 46 :])
    with pytest.raises(AdapterError, match=r"[xy]: its data overlap another array's"):
        NumpyFile.open(tmp_path / "b.npz")


def test_a_header_of_python_2_is_refused_and_numpy_does_not_warn(tmp_path: Path) -> None:
    old = array("<f4", (4,), bytes(16)).replace(b"(4,), ", b"(4L,),")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises(AdapterError, match="x: no array of numpy"):
            NumpyFile.open(archive(tmp_path / "a.npz", {"x.npy": old}))
    assert not said


DAMAGED: dict[str, tuple[dict[str, bytes], str]] = {
    "objects": ({"x.npy": array("|O", (2,), b"\x80\x04.")}, "x: an array of object, not of plain numbers"),
    "another order of bytes": ({"x.npy": array(">f4", (1,), bytes(4))}, "x: an array of >f4"),
    "more than there is": ({"x.npy": array("<f4", (2**40,), bytes(8))}, "x: the shape .* is larger than what"),
    "no array": ({"x.npy": b"hello"}, "x: no array of numpy"),
    "a negative side": ({"x.npy": array("<f4", (-4, 2), bytes(8))}, r"x: \(-4, 2\) is no shape"),
    "a name that is long": ({"x" * 1001: array("<f4", (1,), bytes(4))}, "a tensor's name of 1,001 characters"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_what_is_damaged(case: str, tmp_path: Path) -> None:
    entries, message = DAMAGED[case]
    with pytest.raises(AdapterError, match=message):
        adapters.open(archive(tmp_path / "a.npz", entries))


def test_what_is_no_archive_or_compressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.npz").write_bytes(b"123")
    with pytest.raises(AdapterError, match=r"a\.npz: no archive of numpy arrays, or cut short\. Download it again"):
        adapters.open(tmp_path / "a.npz")
    np.savez_compressed(tmp_path / "b.npz", x=A)
    with pytest.raises(AdapterError, match=r"x: compressed, as MLX never writes it\. Save it with numpy\.savez"):
        adapters.open(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", x=A, y=A)
    monkeypatch.setattr("lorarank.adapters.numpy_file.MOST_ENTRIES", 1)
    with pytest.raises(AdapterError, match="2 arrays are more than any adapter has"):
        adapters.open(tmp_path / "c.npz")


def test_arrays_that_are_no_adapter(tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", inputs=A, labels=A)
    with pytest.raises(AdapterError, match=r"its 2 tensors have names of no known adapter \(inputs, labels\)"):
        adapters.open(tmp_path / "train.npz")
    with pytest.raises(AdapterError, match=r"train\.npz: an archive of numpy arrays; it may be data\. Name it"):
        adapters.open(tmp_path)
