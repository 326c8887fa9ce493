"""What is written, loaded by PEFT, is the dense truncation of what PEFT made of the input, for every kind of module."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import nn

from lorarank import adapters
from lorarank.errors import AdapterError
from lorarank.resize import ConvertOptions, ResizeOptions, convert, resize

pytestmark = pytest.mark.filterwarnings(
    "ignore:Setting `save_embedding_layers`:UserWarning",
    "ignore:Could not identify embedding:UserWarning",
    "ignore:The following .*_pattern keys did not match:RuntimeWarning",  # PEFT does not count parameters as targeted
    "ignore:LoRA adapter added to ConvNd layer with groups:UserWarning",
    "ignore:Adapter .default.. . LoRA tensor",  # PEFT takes a bias for a stub of ZeRO-3
)

Saved = Callable[..., Path]
Deltas = Callable[[str, Path], dict[str, np.ndarray]]
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("llama", {"r": 6, "lora_alpha": 9, "target_modules": LINEAR}),
    "rank-stabilised": ("llama", {"r": 6, "lora_alpha": 9, "target_modules": LINEAR, "use_rslora": True}),
    "patterns": (
        "llama",
        {
            "r": 6,
            "lora_alpha": 9,
            "target_modules": LINEAR,
            "rank_pattern": {r"layers\.(0|2)\..*[qk]_proj": 5, "up_proj": 8},
            "alpha_pattern": {r"mlp\..+": 3, r"layers\.\d\.self_attn\.q_proj": 7},
        },
    ),
    "DoRA": ("llama", {"r": 6, "lora_alpha": 9, "target_modules": ["q_proj", "down_proj"], "use_dora": True}),
    "larger than the matrix": ("llama", {"r": 20, "lora_alpha": 20, "target_modules": ["q_proj", "k_proj"]}),
    "embedding": ("llama", {"r": 6, "lora_alpha": 9, "target_modules": ["embed_tokens", "q_proj"]}),
    "Conv1D": ("gpt2", {"r": 6, "target_modules": ["c_attn", "mlp.c_proj"], "fan_in_fan_out": True}),
    "convolutions": ("convolutions", {"r": 5, "lora_alpha": 3, "target_modules": ["one", "two", "point", "three"]}),
    "both projections": ("attention", {"r": 5, "lora_alpha": 3, "target_modules": ["attn"]}),
    "experts": (
        "mixtral",
        {
            "r": 5,
            "lora_alpha": 3,
            "target_modules": ["q_proj"],
            "target_parameters": ["mlp.experts.down_proj", "mlp.experts.gate_up_proj"],
            "rank_pattern": {"experts.down_proj": 6},
        },
    ),
}


def dense(delta: np.ndarray, k: int) -> np.ndarray:
    """The best approximation of rank k, by a dense SVD; of a stack, of each of its experts."""
    flat = delta if delta.ndim == 3 and delta.shape[0] == 3 else delta.reshape(1, len(delta), -1)
    U, s, Vt = np.linalg.svd(flat, full_matrices=False)
    return ((U[..., :k] * s[:, None, :k]) @ Vt[:, :k]).reshape(delta.shape)


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], rounding: float = 2e-6) -> None:
    assert found.keys() == expected.keys()
    for name, delta in expected.items():
        np.testing.assert_allclose(found[name], delta, rtol=0, atol=rounding * np.abs(delta).max(), err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_a_cut_is_the_dense_truncation(case: str, saved: Saved, deltas_of: Deltas, tmp_path: Path) -> None:
    model, config = CASES[case]
    before = saved(model, **config)
    done = resize(before, tmp_path / "out", ResizeOptions(rank=3))
    assert done.r == (3,)
    same(deltas_of(model, tmp_path / "out"), {k: dense(d, 3) for k, d in deltas_of(model, before).items()})


@pytest.mark.parametrize("bake", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_without_a_cut_the_update_is_the_same(
    case: str, bake: bool, saved: Saved, deltas_of: Deltas, tmp_path: Path
) -> None:
    model, config = CASES[case]
    before = saved(model, **config)
    convert(before, tmp_path / "out", ConvertOptions(bake_alpha=bake))
    after, expected = deltas_of(model, tmp_path / "out"), deltas_of(model, before)
    same(after, expected, rounding=4e-7 if bake else 0)
    if bake:
        assert {module.scaling for module in adapters.open(tmp_path / "out").modules} == {1.0}


@pytest.mark.parametrize("case", CASES)
def test_a_rank_for_each_module(case: str, saved: Saved, deltas_of: Deltas, tmp_path: Path) -> None:
    model, config = CASES[case]
    before = saved(model, **config)
    done = resize(before, tmp_path / "out", ResizeOptions(energy=0.97, per_module=True))
    old, new = adapters.open(before), adapters.open(tmp_path / "out")
    ranks = {module.name: module.r for module in done.modules}
    assert {module.name: module.r for module in new.modules} == ranks
    for one, two in zip(old.modules, new.modules, strict=True):
        assert abs(two.scaling - one.scaling) <= (np.spacing(one.scaling) if config.get("use_rslora") else 0)
    after, expected = deltas_of(model, tmp_path / "out"), deltas_of(model, before)
    assert after.keys() == expected.keys()
    for name, delta in expected.items():
        lost = np.sum((after[name] - delta) ** 2) / np.sum(delta**2)
        assert lost <= 0.03 + 1e-6, name


def test_experts_that_are_modules_keep_one_rank(model_of: Callable[[str], nn.Module], tmp_path: Path) -> None:
    """PEFT stacks them as it loads them, which takes one rank, that of the configuration."""
    sizes = {"w1": (12, 16), "w2": (16, 12), "w3": (12, 16)}
    shapes = {f"block_sparse_moe.experts.{e}.{name}": shape for e in range(3) for name, shape in sizes.items()}
    shapes |= {"self_attn.q_proj": (16, 16), "self_attn.v_proj": (8, 16)}
    generator, tensors = torch.Generator().manual_seed(0), {}
    for layer in range(2):
        for place, (name, (out, inner)) in enumerate(shapes.items()):
            falling = (0.9 if name.endswith("q_proj") else 0.3 + 0.1 * (place % 4)) ** torch.arange(5)
            key = f"base_model.model.model.layers.{layer}.{name}.lora_{{}}.weight"
            tensors[key.format("A")] = torch.randn(5, inner, generator=generator) * falling[:, None]
            tensors[key.format("B")] = torch.randn(out, 5, generator=generator)
    (tmp_path / "in").mkdir()
    save_file(tensors, tmp_path / "in" / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 5, "lora_alpha": 10, "target_modules": [*sizes, "q_proj", "v_proj"]}
    (tmp_path / "in" / "adapter_config.json").write_text(json.dumps(config))
    done = resize(tmp_path / "in", tmp_path / "out", ResizeOptions(energy=0.9, per_module=True))
    ranks = {name: {module.r for module in done.modules if name in module.name} for name in ("experts", "attn")}
    assert len(ranks["experts"]) == 1
    assert ranks["attn"] - ranks["experts"]
    assert any("Experts that are modules of their own keep one rank" in note for note in done.notes)
    after, before = (PeftModel.from_pretrained(model_of("mixtral"), tmp_path / folder) for folder in ("out", "in"))
    wrapped = dict(before.named_modules())
    for name, module in after.named_modules():
        if hasattr(module, "get_delta_weight"):
            cut, whole = (one.get_delta_weight("default").detach() for one in (module, wrapped[name]))
            assert ((cut - whole) ** 2).sum() <= 0.15 * (whole**2).sum(), name


@pytest.mark.parametrize("case", ["linear", "patterns"])
def test_modules_left_out_have_no_adapter(case: str, saved: Saved, deltas_of: Deltas, tmp_path: Path) -> None:
    model, config = CASES[case]
    before = saved(model, **config)
    done = resize(before, tmp_path / "out", ResizeOptions(threshold_global=0.9))
    out = {module.name for module in done.modules if module.r == 0}
    assert out
    assert {module.name for module in adapters.open(tmp_path / "out").modules}.isdisjoint(out)
    after, expected = deltas_of(model, tmp_path / "out"), deltas_of(model, before)
    assert len(after) < len(expected)


@pytest.mark.parametrize("case", ["experts", "DoRA"])
def test_modules_that_have_to_stay_keep_a_rank_of_one(
    case: str, saved: Saved, deltas_of: Deltas, tmp_path: Path
) -> None:
    model, config = CASES[case]
    before = saved(model, **config)
    done = resize(before, tmp_path / "out", ResizeOptions(threshold_global=0.9))
    kept = [module for module in done.modules if ".experts." in module.name or case == "DoRA"]
    assert {module.r for module in kept} == {1}
    deltas_of(model, tmp_path / "out")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_stored_dtype_is_kept(dtype: str, saved: Saved, tmp_path: Path) -> None:
    before = saved("llama", r=6, lora_alpha=9, target_modules=LINEAR, dtype=getattr(torch, dtype))
    resize(before, tmp_path / "out", ResizeOptions(rank=2))
    assert {module.dtype for module in adapters.open(tmp_path / "out").modules} == {dtype}
    eps = {"float32": 2**-23, "float16": 2**-10, "bfloat16": 2**-7}[dtype]
    old, new = adapters.open(before).modules, adapters.open(tmp_path / "out").modules
    for one, two in zip(old, new, strict=True):
        (A, B), (A_2, B_2) = one.factors(), two.factors()
        expected = dense(one.scaling * B @ A, 2)
        np.testing.assert_allclose(two.scaling * B_2 @ A_2, expected, rtol=0, atol=3 * eps * np.abs(expected).max())


def test_rounding_is_that_of_torch(saved: Saved, tmp_path: Path) -> None:
    before = saved("llama", r=6, target_modules=LINEAR)
    for dtype in ("float16", "bfloat16"):
        convert(before, tmp_path / dtype, ConvertOptions(dtype=dtype))
        tensors = load_file(before / "adapter_model.safetensors")
        for key, tensor in load_file(tmp_path / dtype / "adapter_model.safetensors").items():
            assert torch.equal(tensor, tensors[key].to(getattr(torch, dtype))), key


def test_what_is_no_factor_is_carried_to_the_byte(saved: Saved, tmp_path: Path) -> None:
    before = saved("llama", r=6, target_modules=["q_proj"], bias="all", modules_to_save=["lm_head"], use_dora=True)
    done = resize(before, tmp_path / "out", ResizeOptions(rank=2, dtype="float16"))
    old, new = (load_file(folder / "adapter_model.safetensors") for folder in (before, tmp_path / "out"))
    carried = adapters.open(before).carried
    assert len(carried) == done.carried == 3
    for key in carried:
        assert old[key].dtype == new[key].dtype == torch.float32
        assert old[key].numpy().tobytes() == new[key].numpy().tobytes()
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["modules_to_save"], config["use_dora"], config["bias"]) == (["lm_head"], True, "all")


def test_a_bias_of_the_factors_stays_with_them(saved: Saved, deltas_of: Deltas, tmp_path: Path) -> None:
    before = saved("gpt2", r=6, target_modules=["c_attn"], fan_in_fan_out=True, lora_bias=True)
    done = resize(before, tmp_path / "out", ResizeOptions(threshold_global=0.9))
    assert done.carried == 2
    assert min(module.r for module in done.modules) >= 1
    old, new = (load_file(folder / "adapter_model.safetensors") for folder in (before, tmp_path / "out"))
    assert all(torch.equal(old[key], new[key]) for key in old if key.endswith("bias"))
    deltas_of("gpt2", tmp_path / "out")


def test_a_bias_of_the_factors_keeps_its_scaling(
    saved: Saved, loaded: Callable[[str, Path], Any], tmp_path: Path
) -> None:
    """PEFT adds scaling·(lora_B·lora_A·x + bias), so that a bias copied to another scaling would be another."""
    before = saved("gpt2", r=4, lora_alpha=6, target_modules=["c_attn"], fan_in_fan_out=True, lora_bias=True)
    with pytest.raises(AdapterError, match=r"lora_B\.bias: a bias, which PEFT multiplies by the scaling"):
        convert(before, tmp_path / "baked", ConvertOptions(bake_alpha=True))
    resize(before, tmp_path / "out", ResizeOptions(rank=6, pad=True))
    tokens = torch.arange(12).reshape(2, 6)
    with torch.no_grad():
        first, second = (loaded("gpt2", folder)(tokens).logits for folder in (before, tmp_path / "out"))
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", ["sharded", "bin"])
def test_what_is_carried_from_other_files(form: str, saved: Saved, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    before = saved("llama", r=6, target_modules=["q_proj"], modules_to_save=["lm_head"])
    whole = before / "adapter_model.safetensors"
    tensors = load_file(whole)
    whole.unlink()
    if form == "bin":
        torch.save(tensors, before / "adapter_model.bin")
    else:
        homes = {key: f"adapter_model-0000{1 + i % 2}-of-00002.safetensors" for i, key in enumerate(tensors)}
        for shard in set(homes.values()):
            save_file({key: tensors[key] for key in tensors if homes[key] == shard}, before / shard)
        index = {"metadata": {}, "weight_map": homes}
        (before / "adapter_model.safetensors.index.json").write_text(json.dumps(index))
    resize(before, tmp_path / "out", ResizeOptions(rank=2))
    key = "base_model.model.lm_head.weight"
    assert torch.equal(load_file(tmp_path / "out" / "adapter_model.safetensors")[key], tensors[key])


def test_padding_adds_nothing(saved: Saved, deltas_of: Deltas, tmp_path: Path) -> None:
    before = saved("llama", r=3, lora_alpha=7, target_modules=LINEAR, rank_pattern={"q_proj": 2})
    done = resize(before, tmp_path / "out", ResizeOptions(rank=5, pad=True))
    assert (done.r_before, done.r, done.dropped) == ((2, 3), (5,), 0)
    same(deltas_of("llama", tmp_path / "out"), deltas_of("llama", before), rounding=1e-6)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["r"], config["rank_pattern"]) == (5, {})


def test_a_forward_pass_is_the_same(saved: Saved, loaded: Callable[[str, Path], Any], tmp_path: Path) -> None:
    before = saved("llama", r=6, target_modules=LINEAR, use_dora=True)
    convert(before, tmp_path / "out", ConvertOptions(bake_alpha=True))
    tokens = torch.arange(12).reshape(2, 6)
    with torch.no_grad():
        first, second = (loaded("llama", folder)(tokens).logits for folder in (before, tmp_path / "out"))
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5)
