"""cloneofsimo's layouts: counted modules, in safetensors and in a bare list."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorarank import adapters
from lorarank.errors import AdapterError

Make = Callable[..., Path]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_counted_modules(make_file: Make) -> None:
    tensors = {
        f"{part}:{i}:{side}": normal(*shape, seed=i)
        for part in ("unet", "text_encoder")
        for i in range(11)
        for side, shape in (("up", (8, 4)), ("down", (4, 6)))
    }
    metadata = {"unet": json.dumps(["CrossAttention"]), "unet:0:rank": "4", "<s1>": "<embed>"}
    adapter = adapters.open(make_file(tensors | {"<s1>": normal(6)}, metadata))
    assert (adapter.format, adapter.carried, len(adapter.modules)) == ("cloneofsimo", ("<s1>",), 22)
    assert [m.name for m in adapter.modules[-2:]] == ["unet.9", "unet.10"]
    assert "place in the model" in adapter.notes[0]
    for module in adapter.modules:
        part, place = module.name.split(".")
        lora_A, lora_B = module.factors()
        dense = tensors[f"{part}:{place}:up"].astype(np.float64) @ tensors[f"{part}:{place}:down"]
        np.testing.assert_allclose(module.scaling * lora_B @ lora_A, dense, rtol=1e-14)


def test_a_convolution(make_file: Make) -> None:
    up, down = normal(7, 4, 1, 1), normal(4, 5, 3, 3, seed=1)
    (module,) = adapters.open(make_file({"unet:0:up": up, "unet:0:down": down})).modules
    lora_A, lora_B = module.factors()
    dense = np.einsum("orxy,rikl->oikl", up.astype(np.float64), down).reshape(7, -1)
    assert module.kind == "conv2d"
    np.testing.assert_allclose(lora_B @ lora_A, dense, rtol=1e-12, atol=1e-14)


def test_half_a_module_is_refused(make_file: Make) -> None:
    with pytest.raises(AdapterError, match="unet:1:up: a factor without its partner"):
        adapters.open(make_file({"unet:0:up": normal(8, 4), "unet:0:down": normal(4, 6), "unet:1:up": normal(8, 4)}))


def test_a_list_of_up_and_down(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    ups, downs = [normal(8, 4, seed=i) for i in range(12)], [normal(4, 6, seed=i + 50) for i in range(12)]
    torch.save([torch.from_numpy(x).half() for two in zip(ups, downs, strict=True) for x in two], tmp_path / "lora.pt")
    adapter = adapters.open(tmp_path / "lora.pt")
    assert [m.name for m in adapter.modules] == [f"unet.{i}" for i in range(12)]
    assert adapter.notes[1].endswith("by the name of the file these are modules of the unet.")
    for module, up, down in zip(adapter.modules, ups, downs, strict=True):
        lora_A, lora_B = module.factors()
        assert (module.dtype, module.scaling) == ("float16", 1.0)
        np.testing.assert_array_equal(lora_A, down.astype(np.float16).astype(np.float64))
        np.testing.assert_array_equal(lora_B, up.astype(np.float16).astype(np.float64))


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_list_that_would_run_code_is_not_unpacked(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save([torch.ones(8, 4), torch.ones(4, 6), Bomb(tmp_path / "executed")], tmp_path / "lora.pt")
    with pytest.raises(AdapterError, match=r"asks to call \w+\.mkdir; no code from a file is ever run"):
        adapters.open(tmp_path / "lora.pt")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([(8, 4), (4, 6), (8, 4)], "a list of 3 tensors, which are no pairs"),
        ([(4, 6), (8, 5)], r"1: its shape \(8, 5\) does not fit the shape \(4, 6\) of 0"),
        ([(8, 4), (4,)], "is that of no factor"),
        ([], "holds no tensors"),
    ],
)
def test_other_lists(content: list[tuple[int, ...]], message: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save([torch.ones(shape) for shape in content], tmp_path / "lora.pt")
    with pytest.raises(AdapterError, match=message):
        adapters.open(tmp_path)


def test_a_list_with_the_first_factor_first(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    lora_A, lora_B = torch.randn(4, 64), torch.randn(64, 4)
    torch.save([lora_A, lora_B, lora_A, torch.randn(32, 4)], tmp_path / "lora_params.pt")
    adapter = adapters.open(tmp_path)
    assert [(m.r, m.in_features, m.out_features) for m in adapter.modules] == [(4, 64, 64), (4, 64, 32)]
    np.testing.assert_array_equal(adapter.modules[0].factors()[1], lora_B.double().numpy())
    assert "the first of each two is lora_A" in adapter.notes[-1]


def test_a_list_of_other_things(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save([torch.ones(8, 4), 3], tmp_path / "lora.pt")
    with pytest.raises(AdapterError, match="1: a int where a tensor is needed"):
        adapters.open(tmp_path)
