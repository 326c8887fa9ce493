"""MLX-LM's layout: transposed factors, a scale that is not divided, stacked experts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lorarank import adapters
from lorarank.adapters import Adapter
from lorarank.errors import AdapterError
from lorarank.export import ExportOptions, export
from lorarank.resize import ConvertOptions, convert

Make = Callable[..., Path]
Q = "model.layers.0.self_attn.q_proj"


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


PLAIN = {f"{Q}.lora_a": normal(6, 4), f"{Q}.lora_b": normal(4, 8, seed=1)}
CONFIG = {
    "fine_tune_type": "lora",
    "num_layers": 16,
    "model": "mlx-community/base",
    "lora_parameters": {"rank": 4, "scale": 20.0, "dropout": 0.0},
}


@pytest.fixture
def opened(make_file: Make) -> Callable[..., Adapter]:
    def open_(tensors: dict[str, np.ndarray], config: Any = CONFIG, name: str = "adapters.safetensors") -> Adapter:
        path = make_file(tensors, name=name)
        if config is not None:
            (path.parent / "adapter_config.json").write_text(json.dumps(config))
        return adapters.open(path.parent)

    return open_


Open = Callable[..., Adapter]


def test_the_parts_of_a_fused_projection_are_modules(opened: Open) -> None:
    parts = [(normal(6, 4, seed=i), normal(4, out, seed=9 + i)) for i, out in enumerate((8, 2, 2))]
    fused = "model.layers.0.self_attn.qkv_proj"
    tensors = {f"{fused}.lora_{s}.{i}": x for i, pair in enumerate(parts) for s, x in zip("ab", pair, strict=True)}
    adapter = opened(PLAIN | tensors)
    assert [module.name for module in adapter.modules] == [Q, *(f"{fused}.{i}" for i in range(3))]
    for module, (lora_a, lora_b) in zip(adapter.modules[1:], parts, strict=True):
        lora_A, lora_B = module.read()
        np.testing.assert_allclose(module.scaling * lora_B @ lora_A, 20 * (lora_a @ lora_b).T, rtol=1e-4)


def test_parts_of_a_fused_projection_have_no_place_elsewhere(opened: Open, tmp_path: Path) -> None:
    fused = {f"{Q}.lora_{side}.{part}": x for part in (0, 1) for side, x in (("a", normal(6, 4)), ("b", normal(4, 8)))}
    folder = opened(fused).source
    with pytest.raises(AdapterError, match=r"q_proj\.0: a part of a fused projection"):
        convert(folder, tmp_path / "out", ConvertOptions(to="peft"))
    convert(folder, tmp_path / "same", ConvertOptions(dtype="float16"))
    assert [module.name for module in adapters.open(tmp_path / "same").modules] == [f"{Q}.0", f"{Q}.1"]
    assert export(folder, ExportOptions("mlx")).settings.lora["target_modules"] == ["q_proj"]


def test_a_linear_layer(opened: Open) -> None:
    adapter = opened(PLAIN)
    (module,) = adapter.modules
    assert (adapter.format, adapter.base_model, adapter.notes) == ("mlx", "mlx-community/base", ())
    assert adapter.config == CONFIG
    assert (module.name, module.r, module.in_features, module.out_features) == (Q, 4, 6, 8)
    lora_A, lora_B = module.factors()
    dense = 20.0 * (PLAIN[f"{Q}.lora_a"].astype(np.float64) @ PLAIN[f"{Q}.lora_b"]).T
    np.testing.assert_allclose(module.scaling * lora_B @ lora_A, dense, rtol=1e-13)
    assert lora_A.flags.c_contiguous
    assert lora_B.flags.c_contiguous


def test_an_embedding_is_told_by_its_name(opened: Open) -> None:
    adapter = opened({"model.embed_tokens.lora_a": normal(40, 4), "model.embed_tokens.lora_b": normal(4, 8)})
    (module,) = adapter.modules
    assert (module.kind, module.in_features, module.out_features) == ("embedding", 40, 8)


@pytest.mark.parametrize("flat", [False, True])
def test_stacked_experts(flat: bool, opened: Open) -> None:
    lora_a, lora_b = normal(3, 2, 6), normal(3, 8, 2, seed=1)
    stem = "model.layers.0.mlp.switch_mlp.gate_proj"
    adapter = opened({f"{stem}.lora_a": lora_a.reshape(6, 6) if flat else lora_a, f"{stem}.lora_b": lora_b})
    assert [m.name for m in adapter.modules] == [f"model.layers.0.mlp.switch_mlp.{i}.gate_proj" for i in range(3)]
    for i in (2, 0, 1):
        module = adapter.modules[i]
        assert (module.expert, module.r, module.in_features, module.out_features) == (i, 2, 6, 8)
        lora_A, lora_B = module.factors()
        dense = 20.0 * lora_b[i].astype(np.float64) @ lora_a[i]
        np.testing.assert_allclose(module.scaling * lora_B @ lora_A, dense, rtol=1e-13)
    assert adapter.parameters == lora_a.size + lora_b.size


def test_an_alpha_counts_for_nothing(opened: Open) -> None:
    parameters = {"rank": 4, "alpha": 16.0, "scale": 10.0, "dropout": 0.0}
    adapter = opened(PLAIN, CONFIG | {"lora_parameters": parameters})
    assert (adapter.modules[0].scaling, adapter.notes) == (10.0, ())


def test_an_alpha_that_may_have_counted_is_said(opened: Open) -> None:
    parameters = {"rank": 4, "alpha": 16.0, "scale": 10.0, "dropout": 0.0}
    adapter = opened(PLAIN, {"lora_layers": 16, "lora_parameters": parameters})
    assert adapter.modules[0].scaling == 10.0
    assert "before June 2024 multiplied by alpha/r" in adapter.notes[0]


def test_without_a_configuration(opened: Open) -> None:
    adapter = opened(PLAIN, None, name="0000100_adapters.safetensors")
    assert adapter.modules[0].scaling == 1.0
    assert "No scale is stored" in adapter.notes[0]


def test_dora_is_said(opened: Open) -> None:
    adapter = opened(PLAIN | {f"{Q}.m": normal(8)}, CONFIG | {"fine_tune_type": "dora"})
    assert adapter.carried == (f"{Q}.m",)
    assert "DoRA" in adapter.notes[0]


@pytest.mark.parametrize(
    ("tensors", "config", "message"),
    [
        (PLAIN, b"{", "lora_parameters: its scale is missing"),
        (PLAIN, {"rank": 4}, "lora_parameters: its scale is missing"),
        (PLAIN, {"scale": 1e308}, r"lora_parameters scale: 1e\+308 is no usable alpha"),
        (PLAIN, {"scale": "20"}, "lora_parameters scale: '20' is no usable alpha"),
        ({f"{Q}.lora_a": normal(6, 4), f"{Q}.lora_b": normal(8, 4)}, None, "does not fit the shape"),
        ({f"{Q}.lora_a": normal(5, 4), f"{Q}.lora_b": normal(3, 8, 2)}, None, "does not fit the shape"),
        ({f"{Q}.lora_a": normal(2, 3, 4), f"{Q}.lora_b": normal(3, 8, 2)}, None, "does not fit the shape"),
        ({f"{Q}.lora_a": normal(10001, 2), f"{Q}.lora_b": normal(10001, 1, 1)}, None, "10,001 experts are more"),
        (PLAIN | {"x.lora_a": normal(6, 4)}, None, r"x\.lora_a: a factor without its partner"),
        (PLAIN | {f"{Q}.lora_a_scales": normal(6, 4)}, None, "a quantised adapter of MLX"),
    ],
)
def test_what_is_refused(tensors: dict[str, np.ndarray], config: Any, message: str, opened: Open) -> None:
    whole = CONFIG | {"lora_parameters": [1]} if config == b"{" else CONFIG | {"lora_parameters": config}
    with pytest.raises(AdapterError, match=message):
        opened(tensors, CONFIG if config is None else whole)


def test_a_full_fine_tune_is_no_adapter(opened: Open) -> None:
    with pytest.raises(AdapterError, match="whole weights that MLX-LM has fine-tuned; they are no adapter"):
        opened({f"{Q}.weight": normal(6, 6)}, CONFIG | {"fine_tune_type": "full"})


def test_a_configuration_without_weights(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(AdapterError, match=r"no weights\. Put adapters\.safetensors there"):
        adapters.open(tmp_path)


def test_the_archives_of_mlx_examples(tmp_path: Path) -> None:
    """Without a configuration; MLX writes either order of memory, as what it has is transposed."""
    np.savez(tmp_path / "adapters.npz", **{key: np.asfortranarray(values) for key, values in PLAIN.items()})
    for path in (tmp_path, tmp_path / "adapters.npz"):
        adapter = adapters.open(path)
        (module,) = adapter.modules
        lora_A, lora_B = module.factors()
        assert np.allclose(lora_B @ lora_A, (PLAIN[f"{Q}.lora_a"] @ PLAIN[f"{Q}.lora_b"]).T)
        assert (adapter.format, module.name, module.r, module.scaling) == ("mlx", Q, 4, 1.0)
        assert "multiply by 20" in adapter.notes[0]


def test_experts_that_unfold(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorarank.adapters.stacks.MOST_MODULES", 100)
    stacks = {f"{i}.lora_{side}": np.ones((40, 1, 1), np.float16) for i in range(3) for side in "ab"}
    with pytest.raises(AdapterError, match="its experts are more than the 100 modules any model has"):
        opened(stacks)


def test_braces_in_a_name_are_no_places_to_fill(opened: Open) -> None:
    adapter = opened({"a{0}.{x!r}.lora_a": normal(1, 2, 6), "a{0}.{x!r}.lora_b": normal(1, 8, 2)})
    assert adapter.modules[0].name == "a{0}.0.{x!r}"


@pytest.mark.parametrize(("a", "b"), [("A", "B"), ("lora_a", "lora_b")])
def test_alpha_of_mlx_vlm_is_divided_by_the_configured_rank(a: str, b: str, tmp_path: Path) -> None:
    stem = "language_model.model.layers.0.self_attn.q_proj"
    random = np.random.default_rng(0)
    A, B = random.standard_normal((6, 4)).astype(np.float32), random.standard_normal((4, 8)).astype(np.float32)
    save_file({f"{stem}.{a}": A, f"{stem}.{b}": B}, tmp_path / "adapters.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"rank": 8, "alpha": 4, "dropout": 0.0}))
    adapter = adapters.open(tmp_path)
    (module,) = adapter.modules
    lora_A, lora_B = module.factors()
    assert (adapter.format, module.name, module.scaling) == ("mlx", stem, 0.5)
    np.testing.assert_allclose(lora_B @ lora_A, (A.astype(np.float64) @ B).T)
    assert "did not divide by r" in adapter.notes[0]


def test_a_rank_of_mlx_vlm_that_is_none(tmp_path: Path) -> None:
    save_file({"q.A": normal(6, 4), "q.B": normal(4, 8)}, tmp_path / "adapters.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"rank": 0, "alpha": 4}))
    with pytest.raises(AdapterError, match="rank: 0 is no rank"):
        adapters.open(tmp_path)


def test_stacks_the_other_way_round(opened: Open) -> None:
    lora_a, lora_b = normal(3, 32, 4), normal(3, 4, 24, seed=1)
    module = opened({"q.lora_a": lora_a, "q.lora_b": lora_b}).modules[2]
    lora_A, lora_B = module.factors()
    assert (module.r, module.in_features, module.out_features) == (4, 32, 24)
    np.testing.assert_allclose(lora_B @ lora_A, (lora_a[2].astype(np.float64) @ lora_b[2]).T, rtol=1e-12)
