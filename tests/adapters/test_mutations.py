"""Whatever the bytes of a file are, nothing but this package's own errors comes out."""

from __future__ import annotations

import io
import json
import pickle
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save

from lorarank import adapters
from lorarank.adapters.store import open_store
from lorarank.errors import LorarankError

A, B = np.ones((4, 6), np.float32), np.ones((6, 4), np.float32)


@st.composite
def mutations(draw: st.DrawFn, size: int) -> list[tuple[str, int, bytes]]:
    """Edits of a file: overwrite, insert or delete at a place."""
    edits = st.tuples(st.sampled_from(["over", "in", "cut"]), st.integers(0, size), st.binary(min_size=1, max_size=6))
    return draw(st.lists(edits, min_size=1, max_size=4))


def mutated(data: bytes, edits: list[tuple[str, int, bytes]]) -> bytes:
    for kind, at, new in edits:
        data = data[:at] + (b"" if kind == "cut" else new) + data[at if kind == "in" else at + len(new) :]
    return data


def read_all(path: Path) -> str | None:
    """What stands in the way of reading every module, if it is one of this package's errors."""
    try:
        for module in adapters.open(path).modules:
            module.factors()
    except LorarankError as error:
        return str(error)
    return None


def header_of(data: bytes) -> int:
    return 8 + int.from_bytes(data[:8], "little")


def good_files() -> dict[str, bytes]:
    tensors = {"q.lora_A.weight": A, "q.lora_B.weight": B, "head.bias": np.ones(2, np.float16)}
    buffer = io.BytesIO()
    torch.save({name: torch.from_numpy(tensor) for name, tensor in tensors.items()}, buffer)
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "rank_pattern": {"v": 2}, "target_modules": ["q"]}
    return {
        "adapter_model.safetensors": save(tensors, {"format": "pt"}),
        "adapter_model.bin": buffer.getvalue(),
        "adapter_config.json": json.dumps(config).encode(),
    }


FILES = good_files()


def single_files() -> dict[str, bytes]:
    """A small file of every layout that needs no second one."""
    core = np.ones((4, 4, 3, 3), np.float32)
    down, up = A[..., None, None], B[..., None, None]
    buffer = io.BytesIO()
    torch.save([torch.from_numpy(x) for x in (B, A, B, A)], buffer)
    config = {"unet.r": 4, "unet.lora_alpha": 8, "unet.rank_pattern": {"k": 2}}
    arrays = io.BytesIO()
    np.savez(arrays, **{"q.lora_a": A.T.copy(), "q.lora_b": B.T})
    return {
        "kohya.safetensors": save(
            {
                "lora_unet_a.lora_down.weight": down,
                "lora_unet_a.lora_mid.weight": core,
                "lora_unet_a.lora_up.weight": up,
                "lora_unet_a.alpha": np.array(2.0, np.float16),
            }
        ),
        "diffusers.safetensors": save(
            {"unet.q.lora_A.weight": A, "unet.q.lora.up.weight": B}, {"lora_adapter_metadata": json.dumps(config)}
        ),
        "processors.safetensors": save({"a.processor.to_q_lora.down.weight": A, "a.processor.to_q_lora.up.weight": B}),
        "toolkit.safetensors": save({"diffusion_model.q.lora_A.weight": A, "diffusion_model.q.lora_B.weight": B}),
        "xlabs.safetensors": save(
            {f"double_blocks.0.processor.qkv_lora1.{side}.weight": x for side, x in (("down", A), ("up", B))}
        ),
        "cloneofsimo.safetensors": save({"unet:0:down": A, "unet:0:up": B, "<s1>": A[0]}, {"unet:0:rank": "4"}),
        "mlx.safetensors": save(
            {"q.lora_a": A.T.copy(), "q.lora_b": B.T.copy(), "e.lora_a": core[0], "e.lora_b": core[1]}
        ),
        "torchtune.safetensors": save({"q.lora_a.weight": A, "q.lora_b.weight": B}),
        "pairs.safetensors": save({"w_a_0": np.ones((2, 6)), "w_b_0": np.ones((6, 2))}),
        "list.pt": buffer.getvalue(),
        "adapters.npz": arrays.getvalue(),
    }


SINGLE = single_files()


@pytest.mark.parametrize("which", FILES)
@settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore")
def test_whatever_the_bytes_only_our_errors_come_out(which: str, data: st.DataObject, tmp_path: Path) -> None:
    good = FILES[which]
    size = header_of(good) if which.endswith(".safetensors") else len(good)
    content = mutated(good, data.draw(mutations(size)))
    used = [name for name in FILES if name == which or name == "adapter_config.json"]
    if which == "adapter_config.json":
        used.append("adapter_model.safetensors")
    for name in used:
        (tmp_path / name).write_bytes(content if name == which else FILES[name])
    escaped = read_all(tmp_path)
    assert escaped is None or escaped.isprintable()
    if escaped is None and which.endswith(".safetensors"):
        with safe_open(tmp_path / which, framework="numpy") as reference:
            assert set(reference.keys()) == set(open_store(tmp_path / which).tensors)


@pytest.mark.parametrize("which", [*SINGLE, "lora.gguf"])
@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore")
def test_whatever_the_bytes_of_a_single_file(
    which: str, data: st.DataObject, gguf_bytes: Callable[..., bytes], tmp_path: Path
) -> None:
    pair = {"blk.0.q.weight.lora_a": A, "blk.0.q.weight.lora_b": B}
    good = SINGLE[which] if which in SINGLE else gguf_bytes(pair, {"adapter.lora.alpha": 8.0, "tokens": ["a", "b"]})
    size = header_of(good) if which.endswith(".safetensors") else len(good)
    (tmp_path / which).write_bytes(mutated(good, data.draw(mutations(size))))
    escaped = read_all(tmp_path / which)
    assert escaped is None or escaped.isprintable()


@pytest.mark.parametrize("which", SINGLE)
def test_every_single_file_is_read_unless_it_is_touched(which: str, tmp_path: Path) -> None:
    (tmp_path / which).write_bytes(SINGLE[which])
    assert read_all(tmp_path) is None
    opened = adapters.open(tmp_path)
    again = pickle.loads(pickle.dumps(opened))
    assert again == opened
    for one, other in zip(opened.modules, again.modules, strict=True):
        np.testing.assert_array_equal(one.factors()[0], other.factors()[0])


@pytest.mark.parametrize(
    "part", ["a.", "a", "1_", ".lora_down", ".lora.down.", "a_lora.up", ".lora.alpha", ".w_a", "lora_A."]
)
def test_long_names_take_no_quadratic_time(part: str, make_file: Callable[..., Path]) -> None:
    path = make_file({f"{part * (980 // len(part))}{i}": A for i in range(2000)})
    begin = time.process_time()
    assert read_all(path) is not None
    assert time.process_time() - begin < 3  # where searching took half a minute
