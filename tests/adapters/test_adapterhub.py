"""AdapterHub's own layout: LoRA under ``loras``, and its other methods declined by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorarank import adapters
from lorarank.errors import AdapterError, OptionError
from lorarank.resize import ConvertOptions, ResizeOptions, convert, resize

Make = Callable[..., Path]
STEM = "bert.encoder.layer.{}.attention.self.{}.loras.sst.lora_{}"
LORA = {"architecture": "lora", "r": 4, "alpha": 6, "composition_mode": "add", "attn_matrices": ["q", "v"]}
CONFIG = {"config": LORA, "model_name": "bert-base-uncased", "model_type": "bert", "name": "sst"}


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(list(shape)).standard_normal(shape).astype(np.float32)


TENSORS = {
    STEM.format(layer, name, side): normal(*shape) + layer
    for layer in (0, 1)
    for name in ("query", "value")
    for side, shape in (("A", (4, 16)), ("B", (12, 4)))
}


@pytest.fixture
def folder(make_file: Make) -> Callable[..., Path]:
    """``folder(version=…, architecture=…)``: fields of the configuration, and of the one inside it."""

    def make(version: str = "adapters.1.2.0", **inner: Any) -> Path:
        path = make_file(TENSORS, name="adapter.safetensors").parent
        make_file({"heads.sst.1.weight": normal(2, 12)}, name="model_head.safetensors")
        config = CONFIG | {"version": version, "config": LORA | inner}
        (path / "adapter_config.json").write_text(json.dumps(config))
        return path

    return make


@pytest.mark.parametrize(("version", "scaling"), [("adapters.1.2.0", 1.5), ("adapters.1.0.1", 1.0), ("3.2.1", 1.5)])
def test_a_lora(version: str, scaling: float, folder: Callable[..., Path]) -> None:
    adapter = adapters.open(folder(version))
    assert (adapter.format, adapter.base_model, adapter.carried) == ("adapterhub", "bert-base-uncased", ())
    assert [module.scaling for module in adapter.modules] == [scaling] * 4
    assert any("before 1.1.0" in note for note in adapter.notes) is (scaling == 1.0)
    module = adapter.modules[3]
    assert (module.name, module.r) == ("bert.encoder.layer.1.attention.self.value", 4)
    lora_A, lora_B = module.factors()
    np.testing.assert_array_equal(lora_A, TENSORS[STEM.format(1, "value", "A")])
    np.testing.assert_array_equal(lora_B, TENSORS[STEM.format(1, "value", "B")])


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        ({"architecture": "prefix_tuning"}, "the method prefix_tuning of AdapterHub's library, not LoRA"),
        ({"architecture": None}, "a bottleneck adapter of AdapterHub's library, not LoRA"),
        ({"vera_d": 0.1}, "VeRA of AdapterHub's library"),
        ({"composition_mode": "scale"}, r"an \(IA\)³"),
        ({"use_gating": True}, "its updates are weighed by gates"),
        ({"alpha": None}, "config alpha: None is no usable alpha"),
    ],
)
def test_other_methods_are_declined(inner: dict[str, Any], message: str, folder: Callable[..., Path]) -> None:
    with pytest.raises(AdapterError, match=message):
        adapters.open(folder(**inner))


def test_it_is_written_for_peft(folder: Callable[..., Path], tmp_path: Path) -> None:
    source = folder()
    convert(source, tmp_path / "out", ConvertOptions(to="peft"))
    (first, *_), (again, *_) = (adapters.open(path).modules for path in (source, tmp_path / "out"))
    assert (again.name, again.scaling) == (first.name, first.scaling)
    np.testing.assert_array_equal(again.factors()[1], first.factors()[1])
    with pytest.raises(OptionError, match=r"the format adapterhub, which is not written\. Give --to peft\.$"):
        resize(source, tmp_path / "other", ResizeOptions(rank=2))


@pytest.mark.parametrize("parts", [["q", "v"], ["q"]])
def test_a_layer_that_computes_q_k_and_v(parts: list[str], make_file: Make) -> None:
    stem, n = "transformer.h.0.attn.c_attn.loras.ner.lora_{}", len(parts)
    lora_A, lora_B = normal(2 * n, 16), normal(12 * n, 2)
    path = make_file({stem.format("A"): lora_A, stem.format("B"): lora_B}, name="adapter.safetensors")
    inner = LORA | {"r": 2, "alpha": 8, "attn_matrices": parts}
    config = CONFIG | {"version": "adapters.1.2.0", "model_type": "gpt2", "config": inner}
    (path.parent / "adapter_config.json").write_text(json.dumps(config))
    (module,) = adapters.open(path.parent).modules
    assert (module.r, module.in_features, module.out_features, module.scaling) == (2 * n, 16, 36, 4.0)
    dense = np.zeros((36, 16))
    for i, part in enumerate(parts):
        start = 12 * "qkv".index(part)
        own_B, own_A = lora_B[12 * i : 12 * i + 12].astype(np.float64), lora_A[2 * i : 2 * i + 2]
        dense[start : start + 12] = 4.0 * own_B @ own_A
    found_A, found_B = module.factors()
    np.testing.assert_allclose(module.scaling * found_B @ found_A, dense, rtol=1e-12)
