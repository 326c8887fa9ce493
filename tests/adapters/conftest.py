"""Adapter folders and safetensors files made by hand, byte for byte where that is the point."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
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
