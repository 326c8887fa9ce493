"""diffusers' layouts, old and new, and those of ai-toolkit and x-flux."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorarank import adapters
from lorarank.adapters import LoraModule
from lorarank.errors import AdapterError

Make = Callable[..., Path]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


A, B = normal(4, 6), normal(8, 4, seed=1)


def delta(module: LoraModule) -> np.ndarray:
    lora_A, lora_B = module.factors()
    return module.scaling * (lora_B @ lora_A)


def assert_is(module: LoraModule, scaling: float) -> None:
    assert (module.r, module.in_features, module.out_features, module.scaling) == (4, 6, 8, scaling)
    np.testing.assert_allclose(delta(module), scaling * B.astype(np.float64) @ A, rtol=1e-14)


FORMS = {
    "unet.down_blocks.0.attn1.to_q.lora.{}.weight": ("down", "up", "unet.down_blocks.0.attn1.to_q", "diffusers"),
    "unet.mid_block.attn1.to_q.lora_{}.weight": ("A", "B", "unet.mid_block.attn1.to_q", "diffusers"),
    "text_encoder_2.text_model.encoder.layers.0.mlp.fc1.lora_linear_layer.{}.weight": (
        "down",
        "up",
        "text_encoder_2.text_model.encoder.layers.0.mlp.fc1",
        "diffusers",
    ),
    "transformer.transformer_blocks.0.attn.to_out.0.lora_{}.default.weight": (
        "A",
        "B",
        "transformer.transformer_blocks.0.attn.to_out.0",
        "diffusers",
    ),
    "mid_block.attn1.processor.to_out_lora.{}.weight": (
        "down",
        "up",
        "mid_block.attn1.to_out.0",
        "attention-processors",
    ),
    "unet.mid_block.attn1.processor.add_k_proj_lora.{}.weight": (
        "down",
        "up",
        "unet.mid_block.attn1.add_k_proj",
        "attention-processors",
    ),
    "text_encoder.text_model.encoder.layers.3.self_attn.to_v_lora.{}.weight": (
        "down",
        "up",
        "text_encoder.text_model.encoder.layers.3.self_attn.v_proj",
        "attention-processors",
    ),
    "unet.base_model.model.mid_block.attn1.to_q.lora_{}.weight": (
        "A",
        "B",
        "unet.mid_block.attn1.to_q",
        "diffusers",
    ),
    "module.mid_block.motion_modules.0.processor.to_q_lora.{}.weight": (
        "down",
        "up",
        "mid_block.motion_modules.0.to_q",
        "attention-processors",
    ),
    "diffusion_model.blocks.0.self_attn.q.lora_{}.weight": (
        "A",
        "B",
        "diffusion_model.blocks.0.self_attn.q",
        "ai-toolkit",
    ),
    "diffusion_model._orig_mod.blocks.0.self_attn.q.lora_{}.weight": (
        "A",
        "B",
        "diffusion_model.blocks.0.self_attn.q",
        "ai-toolkit",
    ),
    "double_blocks.0.processor.qkv_lora1.{}.weight": ("down", "up", "double_blocks.0.img_attn.qkv", "xlabs"),
    "diffusion_model.double_blocks.0.processor.proj_lora2.{}.weight": (
        "down",
        "up",
        "diffusion_model.double_blocks.0.txt_attn.proj",
        "xlabs",
    ),
    "single_blocks.0.processor.proj_lora.{}.weight": ("down", "up", "single_blocks.0.linear2", "xlabs"),
}


@pytest.mark.parametrize("form", FORMS)
def test_factors_without_an_alpha(form: str, make_file: Make) -> None:
    down, up, name, layout = FORMS[form]
    adapter = adapters.open(make_file({form.format(down): A, form.format(up): B}))
    (module,) = adapter.modules
    assert (module.name, adapter.format, module.kind) == (name, layout, "linear")
    assert module.keys == (form.format(down), form.format(up))
    assert_is(module, 1.0)
    assert any("scaling 1" in note for note in adapter.notes)


@pytest.mark.parametrize(
    ("form", "alpha"),
    [
        ("unet.a.to_q.lora.{}.weight", "unet.a.to_q.alpha"),
        ("unet.a.to_q.lora.{}.weight", "unet.a.to_q.lora.alpha"),
        ("unet.a.processor.to_q_lora.{}.weight", "unet.a.processor.to_q_lora.alpha"),
        ("unet.a.processor.to_q_lora.{}.weight", "unet.a.processor.to_q_lora.down.weight.alpha"),
    ],
)
def test_network_alphas(form: str, alpha: str, make_file: Make) -> None:
    tensors = {form.format("down"): A, form.format("up"): B, alpha: np.array([6.0], np.float32)}
    adapter = adapters.open(make_file(tensors, name="pytorch_lora_weights.safetensors").parent)
    assert_is(adapter.modules[0], 1.5)
    assert (adapter.notes, adapter.carried) == ((), ())


def test_layers_of_z_image_that_are_stored_twice_count_once(make_file: Make) -> None:
    start = "diffusion_model.layers.0.attention"
    layers = ["out", "qkv", "to.q", "to_out.0"]
    both = make_file({f"{start}.{one}.lora.{side}.weight": x for one in layers for side, x in (("down", A), ("up", B))})
    adapter = adapters.open(both)
    assert [module.name for module in adapter.modules] == [f"{start}.to_out.0", f"{start}.to_q"]
    assert adapter.notes[1].startswith(f"2 modules like {start}.out are those of others once more")
    once = make_file(
        {f"{start}.{one}.lora.{side}.weight": x for one in ("out", "qkv") for side, x in (("down", A), ("up", B))}
    )
    assert [module.name for module in adapters.open(once).modules] == [f"{start}.out", f"{start}.qkv"]


def test_alphas_beside_peft_names(make_file: Make) -> None:
    stem = "diffusion_model.blocks.0.self_attn.q"
    tensors = {f"{stem}.lora_A.weight": A, f"{stem}.lora_B.weight": B, f"{stem}.alpha": np.array(2.0)}
    adapter = adapters.open(make_file(tensors))
    assert_is(adapter.modules[0], 0.5)


@pytest.mark.parametrize(("r", "scaling"), [(4, 2.0), (8, 1.0)])
def test_the_alpha_that_fastvideo_keeps_beside_the_factors(r: int, scaling: float, make_file: Make) -> None:
    """Its samples load the file with alpha/r as the adapter's weight."""
    stem = "transformer.transformer_blocks.0.attn.to_q"
    path = make_file({f"{stem}.lora_A.weight": A, f"{stem}.lora_B.weight": B}, name="pytorch_lora_weights.safetensors")
    config = {"step": 10, "lora_params": {"lora_rank": r, "lora_alpha": 8, "target_modules": ["to_q"]}}
    (path.parent / "lora_config.json").write_text(json.dumps(config))
    for opened in (path, path.parent):
        adapter = adapters.open(opened)
        assert (adapter.format, adapter.modules[0].scaling) == ("diffusers", scaling)
        assert ("lora_config.json" in adapter.notes[0]) is (r == 4)


def test_ai_toolkit_signs_its_files(make_file: Make) -> None:
    tensors = {"transformer.x.lora_A.weight": A, "transformer.x.lora_B.weight": B}
    adapter = adapters.open(make_file(tensors, {"software": '{"name": "ai-toolkit"}', "version": "1.0"}))
    assert adapter.format == "ai-toolkit"
    assert adapter.config["version"] == "1.0"


def both_components() -> dict[str, np.ndarray]:
    return {
        "unet.down.to_q.lora_A.weight": A,
        "unet.down.to_q.lora_B.weight": B,
        "unet.down.to_k.lora_A.weight": A[:2],
        "unet.down.to_k.lora_B.weight": B[:, :2],
        "text_encoder.layers.0.q_proj.lora_linear_layer.down.weight": A,
        "text_encoder.layers.0.q_proj.lora_linear_layer.up.weight": B,
    }


CONFIG: dict[str, Any] = {
    "unet.r": 4,
    "unet.lora_alpha": 8,
    "unet.rank_pattern": {"to_k": 2},
    "unet.alpha_pattern": {"down.to_k": 1},
    "text_encoder.r": 4,
    "text_encoder.lora_alpha": 6,
    "text_encoder.use_rslora": True,
}


def test_configurations_in_the_metadata(make_file: Make) -> None:
    adapter = adapters.open(make_file(both_components(), {"lora_adapter_metadata": json.dumps(CONFIG)}))
    assert {m.name: m.scaling for m in adapter.modules} == {
        "text_encoder.layers.0.q_proj": 3.0,
        "unet.down.to_k": 0.5,
        "unet.down.to_q": 2.0,
    }
    assert (adapter.format, adapter.notes, adapter.config) == ("diffusers", (), CONFIG)
    q = next(m for m in adapter.modules if m.name == "unet.down.to_q")
    assert_is(q, 2.0)


def test_alphas_beside_a_configuration_are_said_to_be_unused(make_file: Make) -> None:
    tensors = both_components() | {"unet.down.to_q.alpha": np.array(100.0)}
    adapter = adapters.open(make_file(tensors, {"lora_adapter_metadata": json.dumps(CONFIG)}))
    assert next(m.scaling for m in adapter.modules if m.name == "unet.down.to_q") == 2.0
    assert "the latter counts" in adapter.notes[0]


def test_one_configuration_without_components(make_file: Make) -> None:
    tensors = {"down.to_q.lora_A.weight": A, "down.to_q.lora_B.weight": B}
    metadata = {"lora_adapter_metadata": json.dumps({"r": 4, "lora_alpha": 8, "peft_type": "LORA"})}
    adapter = adapters.open(make_file(tensors, metadata))
    assert_is(adapter.modules[0], 2.0)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "no valid JSON"),
        ("{}", "configures no component that it belongs to"),
        (json.dumps(CONFIG | {"unet.r": 8, "unet.rank_pattern": {}}), "has 2 rows where .* r = 8"),
        (json.dumps(CONFIG | {"unet.lora_alpha": 1e308}), r"1e\+308 is no usable alpha"),
        (
            json.dumps(CONFIG | {"unet.peft_type": "LOHA"}),
            "LOHA is not LoRA; .* Name an adapter that was trained with LoRA",
        ),
        (json.dumps({f"c{i}.r": 4 for i in range(1000)}), "configures 1,000 components"),
        (
            json.dumps({k: v for k, v in CONFIG.items() if k.startswith("unet")}),
            r"text_enc.*configures no component",
        ),
    ],
)
def test_metadata_that_do_not_fit(config: str, message: str, make_file: Make) -> None:
    with pytest.raises(AdapterError, match=message):
        adapters.open(make_file(both_components(), {"lora_adapter_metadata": config}))


def test_a_configuration_beside_names_of_kohya(make_file: Make) -> None:
    """As SimpleTuner writes adapters of SDXL for ComfyUI: each module with its alpha, which that reads."""
    stem = "lora_unet_down_blocks_1_attentions_0_proj_in"
    tensors = {f"{stem}.lora_down.weight": A, f"{stem}.lora_up.weight": B, f"{stem}.alpha": np.array(6.0, np.float32)}
    metadata = {"format": "pt", "lora_adapter_metadata": json.dumps({"r": 4, "lora_alpha": 6})}
    adapter = adapters.open(make_file(tensors, metadata))
    assert adapter.format == "kohya"
    assert_is(adapter.modules[0], 1.5)


def test_modules_that_no_configuration_is_for_have_their_alphas(make_file: Make) -> None:
    stem = "diffusion_model.blocks.0.self_attn.q"
    tensors = {f"{stem}.lora_A.weight": A, f"{stem}.lora_B.weight": B, f"{stem}.alpha": np.array(6.0, np.float32)}
    config = {"transformer.r": 4, "transformer.lora_alpha": 6}
    adapter = adapters.open(make_file(tensors, {"lora_adapter_metadata": json.dumps(config)}))
    assert_is(adapter.modules[0], 1.5)
    assert adapter.notes == ()


def test_dora_is_said(make_file: Make) -> None:
    tensors = {"unet.x.lora_A.weight": A, "unet.x.lora_B.weight": B, "unet.x.lora_magnitude_vector": normal(8)}
    adapter = adapters.open(make_file(tensors))
    assert adapter.carried == ("unet.x.lora_magnitude_vector",)
    assert any("DoRA" in note for note in adapter.notes)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("unet.y.lora.down.weight", r"unet\.y\.lora\.down\.weight: a factor without its partner"),
        ("unet.x.lora_A.other.weight", "the same tensor of unet.x is stored as"),
        ("unet.x.lora_A.other.0.weight", "looks like a LoRA factor, but its name has no known form"),
        ("double_blocks.0.processor.qkv_lora.down.weight", "has no known form|without its partner"),
    ],
)
def test_factors_left_over(extra: str, message: str, make_file: Make) -> None:
    tensors = {"unet.x.lora_A.weight": A, "unet.x.lora_B.weight": B, extra: A}
    with pytest.raises(AdapterError, match=message):
        adapters.open(make_file(tensors))


def test_a_bin_file(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    form = "mid_block.attn1.processor.to_q_lora.{}.weight"
    torch.save(
        {form.format("down"): torch.from_numpy(A), form.format("up"): torch.from_numpy(B)},
        tmp_path / "pytorch_lora_weights.bin",
    )
    adapter = adapters.open(tmp_path)
    assert adapter.format == "attention-processors"
    assert_is(adapter.modules[0], 1.0)
