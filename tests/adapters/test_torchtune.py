"""torchtune's own names, with and without a configuration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

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
    with pytest.raises(AdapterError, match=r"lora_a\.weight: has 4 rows where adapter_config\.json says r = 8"):
        adapters.open(folder)


def test_half_a_pair(make_file: Make) -> None:
    with pytest.raises(AdapterError, match=r"x\.lora_a\.weight: a factor without its partner"):
        adapters.open(make_file(PLAIN | {"x.lora_a.weight": A}))
