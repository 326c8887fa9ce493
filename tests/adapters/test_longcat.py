"""LongCat-Video's layout: layers in parts against the product that its code computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from lorarank import adapters
from lorarank.errors import AdapterError
from lorarank.resize import ConvertOptions, convert

Make = Callable[..., Path]
DOT = "___lorahyphen___"
STEM = f"lora{DOT}blocks{DOT}0{DOT}attn{DOT}"


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


WHOLE = {f"{STEM}proj.lora_down.weight": normal(2, 6), f"{STEM}proj.lora_up.weight": normal(8, 2)}
PARTS = {f"{STEM}qkv.lora_down.weight": normal(6, 5)} | {
    f"{STEM}qkv.lora_up.blocks.{i}.weight": normal(4, 2, seed=i) for i in range(3)
}


def test_a_layer_in_parts(make_file: Make) -> None:
    adapter = adapters.open(make_file(PARTS | {f"{STEM}qkv.alpha_scale": np.array(0.5, np.float32)}))
    assert [(module.name, module.scaling) for module in adapter.modules] == [
        (f"blocks.0.attn.qkv.{i}", 0.5) for i in range(3)
    ]
    assert (adapter.format, adapter.carried, adapter.parameters) == ("longcat", (), 6 * 5 + 3 * 4 * 2)
    x = normal(5, seed=9).astype(np.float64)
    downs = np.split(PARTS[f"{STEM}qkv.lora_down.weight"] @ x, 3)
    for i, module in enumerate(adapter.modules):
        lora_A, lora_B = module.factors()
        np.testing.assert_allclose(lora_B @ lora_A @ x, PARTS[f"{STEM}qkv.lora_up.blocks.{i}.weight"] @ downs[i])


def test_a_layer_as_a_whole_has_its_path_in_the_model(make_file: Make, tmp_path: Path) -> None:
    path = make_file(WHOLE | {f"{STEM}proj.alpha_scale": np.array(0.5, np.float32)})
    (module,) = adapters.open(path).modules
    assert (module.name, module.r, module.scaling) == ("blocks.0.attn.proj", 2, 0.5)
    convert(path, tmp_path / "out", ConvertOptions(to="peft"))
    assert "base_model.model.blocks.0.attn.proj.lora_A.weight" in load_file(tmp_path / "out/adapter_model.safetensors")


def test_parts_are_not_written_for_others(make_file: Make, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="layers of it are in parts with factors of their own"):
        convert(make_file(PARTS), tmp_path / "out", ConvertOptions(to="peft"))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({key: x for key, x in PARTS.items() if "blocks.1" not in key}, "part 0 of 2"),
        (PARTS | {f"{STEM}qkv.lora_up.blocks.1.weight": normal(4, 3)}, r"does not fit the shape \(4, 3\)"),
        ({key: x for key, x in PARTS.items() if "blocks.0." not in key}, "a factor without its partner"),
        ({f"{STEM}qkv.lora_up.blocks.1.weight": normal(4, 2)}, "a factor without its partner"),
        (PARTS | {f"{STEM}qkv.lora_up.weight": normal(4, 2)}, "is stored as"),
        (WHOLE | {f"{STEM}proj.alpha_scale": np.array(np.nan)}, "nan is no usable alpha"),
    ],
)
def test_what_is_refused(tensors: dict[str, np.ndarray], message: str, make_file: Make) -> None:
    with pytest.raises(AdapterError, match=message):
        adapters.open(make_file(tensors))
