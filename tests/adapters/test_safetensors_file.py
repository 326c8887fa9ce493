"""Damaged and hostile safetensors files: one line that names the tensor, before anything is allocated."""

from __future__ import annotations

import json
import math
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open

from lorarank import adapters
from lorarank.adapters.safetensors_file import SafetensorsFile
from lorarank.errors import AdapterError, LorarankError

Make = Callable[..., Path]


def safetensors_bytes(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with any header, true or not."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


WEIGHTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the file is empty. Download it again"),
    "seven bytes": (b"\x01" * 7, "no complete safetensors file"),
    "garbage": (b"not a safetensors file at all, but text", "no complete safetensors file"),
    "a pointer of Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "with: git lfs pull"),
    "a web page": (b"<!DOCTYPE html><html></html>", "a web page, no safetensors file. Download the file itself"),
    "a header length of 2**63": (
        safetensors_bytes({}, length=2**63),
        "announces a header of 9,223,372,036,854,775,808",
    ),
    "a header one byte too long": (safetensors_bytes({}, length=3), "no complete safetensors file"),
    "a header length of zero": (safetensors_bytes({}, length=0), "no JSON object where its header should be"),
    "a header cut off": (safetensors_bytes({"a": entry()}, b"1234", length=20), "header: no valid JSON"),
    "a header that is a list": (safetensors_bytes([]), "no JSON object where its header should be"),
    "a header that is no UTF-8": (safetensors_bytes(b'{"\xff": 1}'), "not UTF-8 text"),
    "a header nested deeply": (safetensors_bytes(b'{"a":' + b"[" * 100_000), "nested too deeply"),
    "a header of brackets": (safetensors_bytes(b'{"a":[' + b"[]," * 1_000_001), "too many brackets"),
    "a header of keys": (safetensors_bytes(b"{" + b'"a":1,' * 1_500_001 + b"}"), "too many brackets and commas"),
    "a key twice": (
        safetensors_bytes(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{}}', b"1234"),
        "the key a appears twice",
    ),
    "an entry that is a number": (safetensors_bytes({"a": 1}), "a: its header entry lacks"),
    "an entry without offsets": (safetensors_bytes({"a": {"dtype": "F32", "shape": []}}), "a: its header entry lacks"),
    "an unknown dtype": (safetensors_bytes({"a": entry("F12")}, b"1234"), 'a: the dtype "F12" is unknown'),
    "a dtype that is a list": (safetensors_bytes({"a": entry(["F32"])}, b"1234"), "a: the dtype .* is unknown"),
    "a negative shape": (safetensors_bytes({"a": entry(shape=[-1])}, b"1234"), r"a: \[-1\] is no shape"),
    "a shape of fractions": (safetensors_bytes({"a": entry(shape=[1.0])}, b"1234"), r"a: \[1.0\] is no shape"),
    "a shape of truths": (safetensors_bytes({"a": entry(shape=[True])}, b"1234"), r"a: \[true\] is no shape"),
    "a shape of 40 dimensions": (safetensors_bytes({"a": entry(shape=[1] * 40)}, b"1234"), "is no shape"),
    "a shape of 10**18": (
        safetensors_bytes({"a": entry(shape=[10**9, 10**9])}, b"1234"),
        r"a: 4 bytes of data for the shape \(1000000000, 1000000000\)",
    ),
    "a number of 5,000 digits": (
        safetensors_bytes(b'{"a":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,4]}}', b"1234"),
        "has 5000 digits",
    ),
    "offsets backwards": (
        safetensors_bytes({"a": entry(offsets=[4, 0])}, b"1234"),
        r"a: \[4, 0\] is no pair of offsets",
    ),
    "three offsets": (safetensors_bytes({"a": entry(offsets=[0, 2, 4])}, b"1234"), "is no pair of offsets"),
    "offsets beyond the end": (
        safetensors_bytes({"a": entry(offsets=[8, 12])}, b"1234"),
        "begin at byte 8 where 0 is due",
    ),
    "overlapping tensors": (
        safetensors_bytes({"a": entry(), "b": entry(offsets=[2, 6])}, b"123456"),
        "b: its data begin at byte 2 where 4 is due; tensors overlap or leave a hole",
    ),
    "the same bytes twice": (
        safetensors_bytes({"a": entry(), "b": entry()}, b"1234"),
        "begin at byte 0 where 4 is due",
    ),
    "a hole": (
        safetensors_bytes({"a": entry(), "b": entry(offsets=[8, 12])}, b"1" * 12),
        "begin at byte 8 where 4 is due",
    ),
    "cut short": (safetensors_bytes({"a": entry(shape=[2], offsets=[0, 8])}, b"1234"), "it is cut short"),
    "something appended": (safetensors_bytes({"a": entry()}, b"12345"), "something is appended"),
    "metadata of numbers": (
        safetensors_bytes({"__metadata__": {"a": 1}}),
        "__metadata__: not a JSON object of strings",
    ),
    "a name of 2,000 characters": (
        safetensors_bytes({"a" * 2000: entry()}, b"1234"),
        "a tensor's name of 2,000 characters",
    ),
    "a name that moves the cursor": (
        safetensors_bytes({"\x1b[2J\n<b>": entry("F12")}, b"1234"),
        r"\\x1b\[2J\\n<b>: the dtype",
    ),
    "a name of half a character": (safetensors_bytes(b'{"\\ud800": {}}'), "lacks dtype"),
    "no tensors": (safetensors_bytes({}), r"holds no lora_A and lora_B among its 0 tensors \(none\)"),
    "other tensors": (safetensors_bytes({"a": entry()}, b"1234"), r"among its 1 tensors \(a\)"),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_damaged_safetensors(case: str, make_folder: Make) -> None:
    content, message = WEIGHTS[case]
    folder = make_folder(content)
    with pytest.raises(AdapterError, match=message) as caught:
        adapters.open(folder)
    assert str(caught.value).startswith(str(folder / "adapter_model.safetensors"))
    assert str(caught.value).isprintable()
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(("code", "name"), [("F8_E8M0", "float8_e8m0fnu"), ("I8", "int8")])
def test_what_needs_scales_is_declined(code: str, name: str, make_folder: Make) -> None:
    header = {
        "q.lora_A.weight": entry(code, [4, 6], [0, 24]),
        "q.lora_B.weight": entry(code, [6, 4], [24, 48]),
    }
    with pytest.raises(AdapterError, match=rf"q\.lora_A\.weight: stored as {name}; only floats of 8 bits or more"):
        adapters.open(make_folder(safetensors_bytes(header, bytes(48))))


def test_experts_without_end(make_folder: Make) -> None:
    rows = 4_000_000
    header = {
        "e.lora_A.weight": entry("F16", [rows, 1], [0, 2 * rows]),
        "e.lora_B.weight": entry("F16", [1, rows], [2 * rows, 4 * rows]),
    }
    folder = make_folder(safetensors_bytes(header), {"r": 1, "target_modules": None, "target_parameters": ["e.w"]})
    os.truncate(folder / "adapter_model.safetensors", 8 + len(json.dumps(header)) + 4 * rows)
    with pytest.raises(AdapterError, match="4,000,000 experts are more than any model has"):
        adapters.open(folder)


def test_memory_is_that_of_one_module(make_folder: Make) -> None:
    names, out, into, r = [f"h.{i}.q" for i in range(40)], 4096, 4096, 64
    header: dict[str, Any] = {}
    at = 0
    for name in names:
        for side, shape in (("A", [r, into]), ("B", [out, r])):
            header[f"{name}.lora_{side}.weight"] = entry("BF16", shape, [at, at + 2 * shape[0] * shape[1]])
            at += 2 * shape[0] * shape[1]
    folder = make_folder(safetensors_bytes(header), {"r": r})
    os.truncate(folder / "adapter_model.safetensors", 8 + len(json.dumps(header)) + at)  # zeros that take no room
    module_bytes = 8 * r * (out + into)
    assert at > 9 * module_bytes
    tracemalloc.start()
    for module in adapters.open(folder).modules:
        module.factors()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * module_bytes


@st.composite
def nearly_right(draw: st.DrawFn) -> bytes:
    """A well-formed file of up to four tensors, in which one number of the header may be off."""
    bits = {"F64": 64, "F32": 32, "BF16": 16, "F8_E4M3": 8, "F8_E8M0": 8, "F6_E2M3": 6, "F4": 4, "BOOL": 8, "C64": 64}
    header: dict[str, Any] = {}
    at = 0
    for name in draw(st.lists(st.sampled_from("abcd"), max_size=4, unique=True)):
        dtype = draw(st.sampled_from(sorted(bits)))
        shape = draw(st.lists(st.integers(0, 3), max_size=3))
        size = math.prod(shape) * bits[dtype] // 8
        header[name] = entry(dtype, shape, [at, at + size])
        at += size
    if header and draw(st.booleans()):
        numbers = header[draw(st.sampled_from(sorted(header)))][draw(st.sampled_from(["shape", "data_offsets"]))]
        if numbers:
            index = draw(st.integers(0, len(numbers) - 1))
            numbers[index] = draw(st.sampled_from([numbers[index] + 1, numbers[index] - 1, 0, 2**32, 2**63, 2**64]))
    return safetensors_bytes(header, bytes(at + draw(st.sampled_from([0, 0, 0, 1]))))


@settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=nearly_right())
@example(content=safetensors_bytes({"a": entry("BF16", [2**64, 0], [0, 0])}))
@example(content=safetensors_bytes({"a": entry("BF16", [2**63, 3, 0], [0, 0])}))
@example(content=safetensors_bytes({"a": entry("BF16", [0, 2**63, 3], [0, 0])}))
def test_accepts_what_the_reference_accepts(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    try:
        ours = set(SafetensorsFile.open(path).tensors)
    except LorarankError:
        ours = None
    try:
        with safe_open(path, framework="numpy") as reference:
            theirs = set(reference.keys())
    except SafetensorError:
        theirs = None
    assert ours == theirs
