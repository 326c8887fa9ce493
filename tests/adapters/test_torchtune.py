"""torchtune's own names, with and without a configuration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import lorarank
from lorarank import adapters
from lorarank.errors import AdapterError

Make = Callable[..., Path]
Q = "layers.0.attn.q_proj"


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


A, B = normal(4, 6), normal(8, 4, seed=1)
PLAIN = {f"{Q}.lora_a.weight": A, f"{Q}.lora_b.weight": B}
CONFIG = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj"], "peft_type": "LORA"}


def configured(path: Path, config: dict[str, object]) -> Path:
    (path.parent / "adapter_config.json").write_text(json.dumps(config))
    return path.parent


def test_with_a_configuration(make_file: Make) -> None:
    adapter = adapters.open(configured(make_file(PLAIN, name="adapter_model.safetensors"), CONFIG))
    (module,) = adapter.modules
    assert (adapter.format, adapter.notes, module.name, module.scaling) == ("torchtune", (), Q, 1.5)
    lora_A, lora_B = module.factors()
    np.testing.assert_allclose(module.scaling * lora_B @ lora_A, 1.5 * B.astype(np.float64) @ A, rtol=1e-14)


def test_without_one(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({key: torch.from_numpy(x) for key, x in PLAIN.items()}, tmp_path / "adapter_0.pt")
    adapter = adapters.open(tmp_path)
    assert adapter.modules[0].scaling == 1.0
    assert "scaling 1 is assumed" in adapter.notes[0]


def test_wrappers_are_taken_off(make_file: Make) -> None:
    tensors = {"_orig_mod." + key.replace("attn", "_checkpoint_wrapped_module.attn"): x for key, x in PLAIN.items()}
    assert adapters.open(make_file(tensors)).modules[0].name == Q


def test_dora_is_said(make_file: Make) -> None:
    adapter = adapters.open(make_file(PLAIN | {f"{Q}.magnitude": normal(8)}))
    assert adapter.carried == (f"{Q}.magnitude",)
    assert any("DoRA" in note for note in adapter.notes)


def test_a_configuration_of_another_rank(make_file: Make) -> None:
    folder = configured(make_file(PLAIN, name="adapter_model.safetensors"), CONFIG | {"r": 8})
    with pytest.raises(AdapterError, match=r"lora_a\.weight: has r = 4 where adapter_config\.json says r = 8"):
        adapters.open(folder)


def test_half_a_pair(make_file: Make) -> None:
    with pytest.raises(AdapterError, match=r"x\.lora_a\.weight: a factor without its partner"):
        adapters.open(make_file(PLAIN | {"x.lora_a.weight": A}))


def test_stacked_experts(make_file: Make) -> None:
    lora_a, lora_b = normal(3, 6, 4, seed=2), normal(3, 4, 5, seed=3)
    stacks = {"layers.0.mlp.experts.lora_gate_a": lora_a, "layers.0.mlp.experts.lora_gate_b": lora_b}
    adapter = adapters.open(configured(make_file(PLAIN | stacks, name="adapter_model.safetensors"), CONFIG))
    assert [module.name for module in adapter.modules] == [
        Q,
        *(f"layers.0.mlp.experts.{expert}.gate_proj" for expert in range(3)),
    ]
    for expert, module in enumerate(adapter.modules[1:]):
        lora_A, lora_B = module.factors()
        assert (module.r, module.in_features, module.out_features, module.expert) == (4, 6, 5, expert)
        update = lora_a[expert].astype(np.float64) @ lora_b[expert]
        np.testing.assert_allclose(module.scaling * lora_B @ lora_A, 1.5 * update.T, rtol=1e-14)


def test_experts_are_cut_in_their_stacks(make_file: Make, tmp_path: Path) -> None:
    stacks = {"mlp.experts.lora_up_a": normal(3, 6, 4), "mlp.experts.lora_up_b": normal(3, 4, 5)}
    lorarank.resize(make_file(stacks), tmp_path / "small.safetensors", rank=2)
    cut = load_file(tmp_path / "small.safetensors")
    for expert in range(3):
        u, s, vt = np.linalg.svd(stacks["mlp.experts.lora_up_a"][expert] @ stacks["mlp.experts.lora_up_b"][expert])
        best = (u[:, :2] * s[:2]) @ vt[:2]
        found = cut["mlp.experts.lora_up_a"][expert] @ cut["mlp.experts.lora_up_b"][expert]
        np.testing.assert_allclose(found, best, atol=1e-5)


def test_stacks_that_do_not_fit(make_file: Make) -> None:
    stacks = {"mlp.experts.lora_up_a": normal(3, 6, 4), "mlp.experts.lora_up_b": normal(3, 5, 4)}
    with pytest.raises(AdapterError, match=r"its shape \(3, 6, 4\) does not fit the shape \(3, 5, 4\)"):
        adapters.open(make_file(stacks))
