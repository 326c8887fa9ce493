"""Whatever the bytes of a file are, nothing but this package's own errors comes out."""

from __future__ import annotations

import io
import json
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
    escaped = None
    try:
        for module in adapters.open(tmp_path).modules:
            module.factors()
    except LorarankError as error:
        escaped = str(error)
    assert escaped is None or escaped.isprintable()
    if escaped is None and which.endswith(".safetensors"):
        with safe_open(tmp_path / which, framework="numpy") as reference:
            assert set(reference.keys()) == set(open_store(tmp_path / which).tensors)
