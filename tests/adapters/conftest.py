"""Adapter folders and safetensors files made by hand, byte for byte where that is the point."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q", "v"], "base_model_name_or_path": "base"}


def plain_tensors(r: int = 4, names: tuple[str, ...] = ("q", "v")) -> dict[str, np.ndarray]:
    """Factors of square 6×6 modules in PEFT's names."""
    random = np.random.default_rng(0)
    tensors = {}
    for name in names:
        tensors[f"base_model.model.{name}.lora_A.weight"] = random.standard_normal((r, 6)).astype(np.float32)
        tensors[f"base_model.model.{name}.lora_B.weight"] = random.standard_normal((6, r)).astype(np.float32)
    return tensors


@pytest.fixture
def make_file(tmp_path: Path) -> Callable[..., Path]:
    """``make_file(tensors, metadata, name="lora.safetensors")``: a safetensors file alone in a folder of its own."""

    def make(
        tensors: Mapping[str, np.ndarray],
        metadata: Mapping[str, str] | None = None,
        *,
        name: str = "lora.safetensors",
        folder: str = "alone",
    ) -> Path:
        (tmp_path / folder).mkdir(exist_ok=True)
        save_file({key: np.asarray(x, order="C") for key, x in tensors.items()}, tmp_path / folder / name, metadata)
        return tmp_path / folder / name

    return make


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """``make_folder(tensors, config={...}, without=[...], name="adapter")``: a PEFT folder of exactly these tensors."""

    def make(
        tensors: Mapping[str, np.ndarray] | bytes | None = None,
        config: Mapping[str, Any] | bytes | str | None = None,
        *,
        without: tuple[str, ...] = (),
        name: str = "adapter",
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        weights = folder / "adapter_model.safetensors"
        if isinstance(tensors, bytes):
            weights.write_bytes(tensors)
        else:
            save_file(dict(plain_tensors() if tensors is None else tensors), weights)
        if isinstance(config, bytes):
            (folder / "adapter_config.json").write_bytes(config)
        elif isinstance(config, str):
            (folder / "adapter_config.json").write_text(config, encoding="utf-8")
        else:
            whole = {key: value for key, value in (CONFIG | dict(config or {})).items() if key not in without}
            (folder / "adapter_config.json").write_text(json.dumps(whole), encoding="utf-8")
        return folder

    return make


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def value(given: Any) -> bytes:
    """A value of GGUF's metadata with its kind: text, whole number, fraction, truth, a list of texts or fractions."""
    if isinstance(given, bytes):
        return given
    if isinstance(given, str):
        return struct.pack("<I", 8) + string(given)
    if isinstance(given, bool):
        return struct.pack("<I?", 7, given)
    if isinstance(given, int):
        return struct.pack("<II", 4, given)
    if isinstance(given, float):
        return struct.pack("<If", 6, given)
    if isinstance(given[0], str):
        return struct.pack("<IIQ", 9, 8, len(given)) + b"".join(map(string, given))
    return struct.pack(f"<IIQ{len(given)}f", 9, 6, len(given), *given)


def gguf(
    tensors: Mapping[str, np.ndarray],
    values: Mapping[str, Any] | None = None,
    *,
    version: int = 3,
    alignment: int = 32,
    kinds: Mapping[str, int] | None = None,
    offsets: Sequence[int] | None = None,
) -> bytes:
    """A GGUF file of an adapter; ``kinds`` and ``offsets`` of the tensors override what is right."""
    values = {"general.type": "adapter", "adapter.type": "lora", **(values or {})}
    known = {"float32": 0, "float16": 1, "float64": 28}
    header = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(values))
    header += b"".join(string(key) + value(given) for key, given in values.items())
    data = b""
    for place, (name, x) in enumerate(tensors.items()):
        data += bytes(-len(data) % alignment)
        header += string(name) + struct.pack(f"<I{x.ndim}Q", x.ndim, *x.shape[::-1])
        header += struct.pack("<I", (kinds or {}).get(name, known.get(x.dtype.name, 0)))
        header += struct.pack("<Q", len(data) if offsets is None else offsets[place])
        data += x.tobytes()
    return header + bytes(-len(header) % alignment) + data


@pytest.fixture(scope="session")
def gguf_bytes() -> Callable[..., bytes]:
    """:func:`gguf`, for tests to make files with."""
    return gguf
