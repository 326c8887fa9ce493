"""llama.cpp's adapters: the file format byte for byte, and what its pairs mean."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorarank import adapters
from lorarank.adapters import Adapter
from lorarank.adapters.peft_config import NOTES
from lorarank.adapters.replacement import stored_dtypes
from lorarank.errors import AdapterError, NumericsError
from lorarank.resize.stage import WIDER

Bytes = Callable[..., bytes]
Q = "blk.0.attn_q.weight"


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


A, B = normal(4, 6), normal(8, 4, seed=1)
PLAIN = {f"{Q}.lora_a": A, f"{Q}.lora_b": B}
ALPHA = "adapter.lora.alpha"


@pytest.fixture
def opened(tmp_path: Path, gguf_bytes: Bytes) -> Callable[..., Adapter]:
    def open_(*arguments: Any, **options: Any) -> Adapter:
        data = arguments[0] if isinstance(arguments[0], bytes) else gguf_bytes(*arguments, **options)
        (tmp_path / "lora.gguf").write_bytes(data)
        return adapters.open(tmp_path)

    return open_


Open = Callable[..., Adapter]


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_a_linear_layer(dtype: Any, version: int, opened: Open) -> None:
    tensors = {key: x.astype(dtype) for key, x in PLAIN.items()}
    values = {ALPHA: 6.0, "general.base_model.0.repo_url": "https://huggingface.co/owner/base", "n": 3, "t": True}
    adapter = opened(tensors, values, version=version)
    (module,) = adapter.modules
    assert (adapter.format, adapter.base_model, module.name) == ("gguf", "owner/base", "blk.0.attn_q")
    assert (module.r, module.in_features, module.out_features, module.scaling) == (4, 6, 8, 1.5)
    assert (module.dtype, module.keys) == (np.dtype(dtype).name, tuple(PLAIN))
    assert (adapter.config["n"], adapter.config["t"]) == (3, True)
    lora_A, lora_B = module.factors()
    np.testing.assert_array_equal(lora_A, tensors[f"{Q}.lora_a"].astype(np.float64))
    np.testing.assert_array_equal(lora_B, tensors[f"{Q}.lora_b"].astype(np.float64))
    lora_A[:] = 7  # what is handed out is no view of the file


def test_brain_floats(opened: Open) -> None:
    tensors = {key: (x.view(np.uint32) >> 16).astype(np.uint16) for key, x in PLAIN.items()}
    (module,) = opened(tensors, {ALPHA: 4.0}, kinds=dict.fromkeys(PLAIN, 30)).modules
    assert (module.dtype, module.scaling) == ("bfloat16", 1.0)
    expected = (A.view(np.uint32) & 0xFFFF0000).view(np.float32)
    np.testing.assert_array_equal(module.factors()[0], expected.astype(np.float64))


@pytest.fixture
def in_blocks(gguf_bytes: Bytes) -> Callable[..., bytes]:
    """``in_blocks(scales, numbers)``: an adapter whose ``lora_a`` (4, 64) is in blocks, as by ``--outtype q8_0``."""

    def make(scales: np.ndarray, numbers: np.ndarray) -> bytes:
        blocks = np.empty((4, 2), [("scale", "<f2"), ("numbers", "i1", 32)])
        blocks["scale"], blocks["numbers"] = scales, numbers
        data = gguf_bytes({f"{Q}.lora_a": blocks, f"{Q}.lora_b": B}, {ALPHA: 8.0}, kinds={f"{Q}.lora_a": 8})
        return data.replace(struct.pack("<QQ", 2, 4), struct.pack("<QQ", 64, 4), 1)  # numbers, not blocks

    return make


def test_blocks_of_eight_bits(in_blocks: Callable[..., bytes], opened: Open) -> None:
    scales = np.exp(normal(4, 2)).astype(np.float16)
    numbers = np.random.default_rng(0).integers(-128, 128, (4, 2, 32), np.int8)
    (module,) = opened(in_blocks(scales, numbers)).modules
    assert (module.dtype, module.r, module.in_features, module.parameters) == ("q8_0, float32", 4, 64, 4 * 72)
    lora_A, lora_B = module.factors()
    np.testing.assert_array_equal(lora_A, (scales.astype(np.float64)[..., None] * numbers).reshape(4, 64))
    np.testing.assert_array_equal(lora_B, B)
    assert np.array_equal(lora_A.astype(np.float32), lora_A)  # what it is written as holds it
    assert WIDER[stored_dtypes(module)[0]] == "float32"


def test_blocks_that_are_cut_short_or_infinite(in_blocks: Callable[..., bytes], opened: Open) -> None:
    data = in_blocks(np.full((4, 2), np.inf, np.float16), np.zeros((4, 2, 32), np.int8))
    with pytest.raises(NumericsError, match="lora_a: 256 of its 256 numbers are NaN or infinite"):
        opened(data).modules[0].factors()
    with pytest.raises(AdapterError, match=r"lora_a: needs the bytes up to [\d,]+ and the file has"):
        opened(data[: data.index(B.tobytes()) - 40])


def test_the_embedding_has_its_first_factor_turned(opened: Open) -> None:
    lora_a, lora_b = normal(40, 4), normal(8, 4, seed=1)
    adapter = opened({"token_embd.weight.lora_a": lora_a, "token_embd.weight.lora_b": lora_b}, {ALPHA: 8.0})
    (module,) = adapter.modules
    assert (module.kind, module.in_features, module.out_features, module.r) == ("embedding", 40, 8, 4)
    lora_A, lora_B = module.factors()
    # llama.cpp adds lora_b · lora_a[token] to what the embedding gives for a token
    dense = np.stack([lora_b.astype(np.float64) @ lora_a[token] for token in range(40)], axis=1)
    np.testing.assert_allclose(lora_B @ lora_A, dense, rtol=1e-13)


def test_stacked_experts(opened: Open) -> None:
    lora_a, lora_b = normal(3, 2, 6), normal(3, 8, 2, seed=1)
    stem = "blk.0.ffn_up_exps.weight"
    adapter = opened({f"{stem}.lora_a": lora_a, f"{stem}.lora_b": lora_b}, {ALPHA: 4.0})
    assert [m.name for m in adapter.modules] == [f"blk.0.{i}.ffn_up_exps" for i in range(3)]
    for i, module in enumerate(adapter.modules):
        lora_A, lora_B = module.factors()
        dense = 2.0 * lora_b[i].astype(np.float64) @ lora_a[i]
        np.testing.assert_allclose(module.scaling * lora_B @ lora_A, dense, rtol=1e-13)


@pytest.mark.parametrize("values", [{}, {ALPHA: 0.0}])
def test_no_alpha_means_scaling_one(values: dict[str, float], opened: Open) -> None:
    adapter = opened(PLAIN | {"blk.0.attn_norm.weight": normal(6)}, values)
    assert adapter.modules[0].scaling == 1.0
    assert "No alpha is stored" in adapter.notes[0]
    assert adapter.carried == ("blk.0.attn_norm.weight",)


def test_another_alignment_and_lists_in_the_metadata(opened: Open) -> None:
    values = {"general.alignment": 64, "list": ["a", "b"], "numbers": [1.0, 2.0, 3.0]}
    adapter = opened(PLAIN, values, alignment=64)
    np.testing.assert_array_equal(adapter.modules[0].factors()[1], B.astype(np.float64))
    assert adapter.config["list"] is None


def test_a_header_longer_than_the_first_bytes_read(opened: Open) -> None:
    adapter = opened(PLAIN, {"tokens": ["x" * 100] * 20_000})
    np.testing.assert_array_equal(adapter.modules[0].factors()[0], A.astype(np.float64))


OTHERS: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "a model": ((PLAIN, {"general.type": "model"}), {}, "a model of llama.cpp, not an adapter"),
    "a vector of cvector-generator": (
        (PLAIN, {"general.architecture": "controlvector"}),
        {},
        "a control vector, which adds a direction",
    ),
    "a projector": ((PLAIN, {"general.type": "mmproj"}), {}, "a file of the type mmproj of llama.cpp"),
    "a control vector": ((PLAIN, {"adapter.type": "cvec"}), {}, "an adapter of the type cvec"),
    "no pairs": (({"a.weight": A},), {}, "holds no pair of factors among its 1 tensors"),
    "half a pair": (({f"{Q}.lora_a": A},), {}, r"lora_a: a factor without its partner"),
    "quantised": ((PLAIN,), {"kinds": {f"{Q}.lora_a": 2}}, r"lora_a: stored as q4_0; only floats of 8 bits"),
    "half a block": ((PLAIN,), {"kinds": {f"{Q}.lora_a": 8}}, r"lora_a: its shape \(4, 6\) has rows that are no whole"),
    "a mixture": ((PLAIN,), {"kinds": {f"{Q}.lora_b": 12}}, r"lora_b: stored as quantised type 12"),
    "alpha NaN": ((PLAIN, {ALPHA: float("nan")}), {}, "adapter.lora.alpha: nan is no usable alpha"),
    "alpha huge": ((PLAIN, {ALPHA: 1e38}), {}, "is no usable alpha"),
    "alpha a text": ((PLAIN, {ALPHA: "16"}), {}, "'16' is no usable alpha"),
    "other ranks": (({f"{Q}.lora_a": A, f"{Q}.lora_b": normal(8, 3)},), {}, "does not fit the shape"),
    "version 1": ((PLAIN,), {"version": 1}, "GGUF of version 1, which is not read"),
    "big-endian": ((PLAIN,), {"version": 3 << 24}, "a big-endian GGUF file"),
    "overlapping": ((PLAIN,), {"offsets": [0, 64]}, r"lora_b: its data overlap another"),
    "not aligned": ((PLAIN,), {"offsets": [4, 128]}, r"lora_a: its data overlap another tensor's, or are not aligned"),
    "beyond the end": ((PLAIN,), {"offsets": [0, 1 << 40]}, r"lora_b: needs the bytes up to [\d,]+ and the file has"),
    "no alignment": ((PLAIN, {"general.alignment": 0}), {}, "general.alignment: 0 is no alignment"),
    "an odd alignment": ((PLAIN, {"general.alignment": "x"}), {}, "'x' is no alignment"),
    "an unknown kind of value": ((PLAIN, {"x": struct.pack("<I", 99)}), {}, "a value of kind 99"),
    "lists of lists": ((PLAIN, {"x": struct.pack("<IIQ", 9, 9, 1)}), {}, "a value of kind 9"),
    "a list of 10**18": ((PLAIN, {"x": struct.pack("<IIQ", 9, 6, 10**18)}), {}, "its header is damaged"),
    "10**18 texts": ((PLAIN, {"x": struct.pack("<IIQ", 9, 8, 10**18)}), {}, "more strings than any model"),
    "a text of 2**63": ((PLAIN, {"x": struct.pack("<IQ", 8, 2**63)}), {}, "its header is damaged"),
    "no UTF-8": ((PLAIN, {"x": struct.pack("<IQ", 8, 1) + b"\xff"}), {}, "its header is damaged"),
    "a long name": (({"x" * 2000: A},), {}, "a tensor's name of 2,000 characters"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_is_refused(case: str, opened: Open) -> None:
    arguments, options, message = OTHERS[case]
    with pytest.raises(AdapterError, match=message) as caught:
        opened(*arguments, **options)
    assert str(caught.value).isprintable()


def test_shapes_that_no_file_holds(opened: Open, gguf_bytes: Bytes) -> None:
    data = gguf_bytes(PLAIN)
    huge = data.replace(struct.pack("<QQ", 6, 4), struct.pack("<QQ", 10**9, 10**9), 1)
    with pytest.raises(AdapterError, match=r"lora_a: needs the bytes up to 4,000,000,000,000,000,\d+ and the file has"):
        opened(huge)
    with pytest.raises(AdapterError, match="99 dimensions, and GGUF has at most 4"):
        opened(data.replace(struct.pack("<IQQ", 2, 6, 4), struct.pack("<IQQ", 99, 6, 4), 1))


@pytest.mark.parametrize("count", [10**18, 300_000])
def test_counts_that_no_file_holds(count: int, opened: Open, gguf_bytes: Bytes) -> None:
    data = gguf_bytes(PLAIN)
    with pytest.raises(AdapterError, match=rf"its header announces {count:,} tensors"):
        opened(data[:8] + struct.pack("<Q", count) + data[16:])


def test_names_that_appear_twice(opened: Open, gguf_bytes: Bytes) -> None:
    data = gguf_bytes(PLAIN, {"one": 1, "two": 2})
    with pytest.raises(AdapterError, match="one: this key of the metadata appears twice"):
        opened(data.replace(b"two", b"one"))
    with pytest.raises(AdapterError, match=r"lora_a: this tensor is stored twice"):
        opened(data.replace(b"lora_b", b"lora_a"))


@pytest.mark.parametrize("keep", [0, 3, 4, 20, 100, -1])
def test_files_cut_short(keep: int, opened: Open, gguf_bytes: Bytes) -> None:
    with pytest.raises(AdapterError, match=r"does not begin with GGUF|its header is damaged|and the file has"):
        opened(gguf_bytes(PLAIN)[:keep])


def test_a_file_cut_short_while_it_is_open(opened: Open, tmp_path: Path) -> None:
    (module,) = opened(PLAIN).modules
    data = (tmp_path / "lora.gguf").read_bytes()
    (tmp_path / "lora.gguf").write_bytes(data[:-8])
    with pytest.raises(AdapterError, match=r"lora_b: the file was cut short while it was open"):
        module.factors()


def test_one_beside_a_peft_adapter_is_read_when_named(make_folder: Callable[..., Path], gguf_bytes: Bytes) -> None:
    folder = make_folder()
    (folder / "lora-f32.gguf").write_bytes(gguf_bytes(PLAIN))
    assert adapters.open(folder).format == "peft"
    assert adapters.open(folder / "lora-f32.gguf").format == "gguf"


def test_an_activated_lora(opened: Open) -> None:
    tokens = struct.pack("<IIQ3I", 9, 4, 3, 128006, 78191, 128007)
    assert NOTES["alora_invocation_tokens"] in opened(PLAIN, {"adapter.alora.invocation_tokens": tokens}).notes
    assert NOTES["alora_invocation_tokens"] not in opened(PLAIN).notes
