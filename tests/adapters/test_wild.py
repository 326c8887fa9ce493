"""Layouts as tools in the wild write them: read as what they are, or declined by name, never measured as another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lorarank import adapters
from lorarank.adapters.adapter import LoraModule
from lorarank.adapters.names import flux
from lorarank.adapters.tensors import raw_dtype
from lorarank.errors import AdapterError, NumericsError

DOWN = np.random.default_rng(0).standard_normal((4, 32)).astype(np.float32)
UP = np.random.default_rng(1).standard_normal((24, 4)).astype(np.float32)
SQUARE = np.random.default_rng(2).standard_normal((32, 4)).astype(np.float32)
PEFT = "base_model.model.layers.0.q_proj"


def saved(path: Path, tensors: Mapping[str, np.ndarray], config: Mapping[str, object] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, path)
    if config is not None:
        (path.parent / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, **config}))
    return path


@pytest.mark.parametrize("name", ["llama.layers.0.q_proj.lora_A", "transformer.blocks.0.attn.to_q.lora_A"])
@pytest.mark.parametrize("up", [UP, SQUARE], ids=["narrow", "square"])
def test_bare_factors_the_other_way_round(tmp_path: Path, name: str, up: np.ndarray) -> None:
    path = saved(tmp_path / "x.safetensors", {name: DOWN.T, f"{name[:-1]}B": up.T})
    (module,) = adapters.open(path).modules
    lora_A, lora_B = module.factors()
    assert (module.r, module.out_features, module.in_features) == (4, len(up), 32)
    np.testing.assert_array_equal(lora_B @ lora_A, up.astype(float) @ DOWN.astype(float))


def test_bare_factors_the_usual_way_round_are_left_so(tmp_path: Path) -> None:
    name = "llama.layers.0.q_proj.lora_A"
    (module,) = adapters.open(saved(tmp_path / "x.safetensors", {name: DOWN, f"{name[:-1]}B": SQUARE})).modules
    assert (module.r, module.transposed) == (4, "")


def test_bare_lower_case_factors_as_others_than_mlx_keep_them(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.safetensors", {"layers.0.q.lora_a": DOWN, "layers.0.q.lora_b": SQUARE})
    (module,) = adapters.open(path).modules
    assert (module.r, module.out_features, module.in_features) == (4, 32, 32)


def test_queries_keys_and_values_apart_in_megatron(tmp_path: Path) -> None:
    stem = "decoder.layers.0.self_attention.linear_qkv.adapter"
    tensors = {f"{stem}.adapter_{part}.linear_{side}.weight": value for part in "qkv" for side, value in
               (("in", DOWN), ("out", SQUARE))}  # fmt: skip
    assert [module.r for module in adapters.open(saved(tmp_path / "x.safetensors", tensors)).modules] == [4, 4, 4]


@pytest.mark.parametrize(
    ("extra", "what"),
    [
        ("lora_mixer.weight", "MoSLoRA"),
        ("lora_AB.weight", "MoSLoRA"),
        ("lora_diag", "KaSA"),
        ("lora_A2", "ABBA"),
        ("lora_G", "a part of the update that PEFT's LoRA does not have"),
        ("loranew_A.weight", "a part of the update that PEFT's LoRA does not have"),
    ],
)
def test_forks_of_peft_are_declined(tmp_path: Path, extra: str, what: str) -> None:
    tensors = {
        f"{PEFT}.lora_A.weight": DOWN,
        f"{PEFT}.lora_B.weight": UP,
        f"{PEFT}.{extra}": np.ones((4, 4), np.float32),
    }
    path = saved(tmp_path / "adapter_model.safetensors", tensors, {"target_modules": ["q_proj"]})
    with pytest.raises(AdapterError, match=what):
        adapters.open(path.parent)


@pytest.mark.parametrize(("field", "what"), [("use_mora", "MoRA"), ("lora_use_mixer", "MoSLoRA")])
def test_fields_of_forks_are_declined(tmp_path: Path, field: str, what: str) -> None:
    tensors = {f"{PEFT}.lora_A.weight": np.eye(16, dtype=np.float32), f"{PEFT}.lora_B.weight": np.eye(16, dtype="f4")}
    path = saved(tmp_path / "adapter_model.safetensors", tensors, {"target_modules": ["q_proj"], field: True})
    with pytest.raises(AdapterError, match=what):
        adapters.open(path.parent)


@pytest.mark.parametrize(("name", "what"), [("hira", "HiRA"), ("delora", "DeLoRA"), ("lily", "Lily")])
def test_other_methods_without_their_configuration(tmp_path: Path, name: str, what: str) -> None:
    path = saved(tmp_path / "x.safetensors", {f"{PEFT}.{name}_A": DOWN, f"{PEFT}.{name}_B": UP})
    with pytest.raises(AdapterError, match=what):
        adapters.open(path)


@pytest.mark.parametrize("layer", ["qkv_proj", "attn.to_qkv", "attn.to_add_out", "img_mlp.net.0.proj"])
def test_tiles_of_a_gpu_are_no_matrices(layer: str, tmp_path: Path) -> None:
    stem = f"transformer_blocks.0.{layer}"
    path = saved(tmp_path / "x.safetensors", {f"{stem}.lora_down": DOWN.T, f"{stem}.lora_up": SQUARE})
    with pytest.raises(AdapterError, match="nunchaku"):
        adapters.open(path)


def test_a_bottleneck_is_no_lora(tmp_path: Path) -> None:
    stem = "encoder.0.adapter"
    tensors = {f"{stem}_down_proj.weight": DOWN, f"{stem}_up_proj.weight": SQUARE}
    assert adapters.open(saved(tmp_path / "lora.safetensors", tensors)).modules[0].r == 4
    tensors[f"{stem}_down_proj.bias"] = np.ones(4, np.float32)
    with pytest.raises(AdapterError, match="bottleneck"):
        adapters.open(saved(tmp_path / "houlsby.safetensors", tensors))


def test_a_configuration_is_not_that_of_another_tools_file_beside_it(tmp_path: Path) -> None:
    weights = {f"{PEFT}.lora_A.weight": DOWN, f"{PEFT}.lora_B.weight": UP}
    saved(tmp_path / "adapter_model.safetensors", weights, {"lora_alpha": 8, "target_modules": ["q_proj"]})
    stem = "diffusion_model.blocks.0.q"
    other = saved(tmp_path / "comfy.safetensors", {f"{stem}.lora_A.weight": DOWN, f"{stem}.lora_B.weight": UP})
    renamed = saved(tmp_path / "mine.safetensors", weights)
    assert [adapters.open(path).modules[0].scaling for path in (tmp_path, renamed, other)] == [2.0, 2.0, 1.0]


@pytest.mark.parametrize(("index", "known"), [(18, True), (19, False)])
def test_a_block_that_flux_does_not_have_is_none_of_its(index: int, known: bool) -> None:
    name = f"double_blocks.{index}.img_attn.qkv"
    module = LoraModule(
        name, "linear", 4, 3072, 9216, 1.0, "float32", 0, ("a", "b"), read=lambda: (np.ones((4, 1)), np.ones((1, 4)))
    )
    assert (flux.pieces(module, name) is not None) is known


def test_tasks_of_an_o_lora_one_after_another(tmp_path: Path) -> None:
    tensors = {f"{PEFT}.lora_A.weight": np.concatenate([DOWN, DOWN]), f"{PEFT}.lora_B.weight": np.hstack([UP, UP])}
    path = saved(tmp_path / "adapter_model.safetensors", tensors, {"target_modules": ["q_proj"], "r_sum": 8})
    with pytest.raises(
        AdapterError, match=r"an O-LoRA, whose 8 rows \(r_sum\) are those of all tasks so far, r = 4 each"
    ):
        adapters.open(path.parent)
    first = {f"{PEFT}.lora_A.weight": DOWN, f"{PEFT}.lora_B.weight": UP}
    path = saved(tmp_path / "1" / "adapter_model.safetensors", first, {"target_modules": ["q_proj"], "r_sum": 4})
    assert adapters.open(path.parent).modules[0].r == 4


def test_a_controlnet_lllite_is_no_lora(tmp_path: Path) -> None:
    stem = "lllite_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
    names = {f"{stem}.down.0.weight": DOWN, f"{stem}.mid.0.weight": DOWN, f"{stem}.up.0.weight": UP}
    with pytest.raises(AdapterError, match="a ControlNet-LLLite"):
        adapters.open(saved(tmp_path / "x.safetensors", names))


def test_a_control_lora_is_a_whole_controlnet(tmp_path: Path) -> None:
    stem = "input_blocks.4.1.proj_in"
    tensors = {f"{stem}.down": DOWN, f"{stem}.up": UP, "zero_convs.0.0.weight": np.ones((4, 4, 1, 1))}
    path = saved(tmp_path / "x.safetensors", tensors | {"lora_controlnet": np.ones(0, np.float32)})
    with pytest.raises(AdapterError, match=r"a Control-LoRA; it is a whole ControlNet, of which some layers are"):
        adapters.open(path)


def test_differences_of_whole_weights_are_counted(tmp_path: Path) -> None:
    stem = "diffusion_model.blocks.0"
    whole = {
        f"{stem}.norm3.diff": np.ones(32),
        f"{stem}.ffn.0.diff_b": np.ones(24),
        f"{stem}.diff_m": np.ones((1, 6, 8)),
    }
    factors = {f"{stem}.ffn.0.lora_down.weight": DOWN, f"{stem}.ffn.0.lora_up.weight": UP}
    adapter = adapters.open(saved(tmp_path / "x.safetensors", factors | whole))
    assert any(note.startswith("3 tensors are differences of a whole weight") for note in adapter.notes)
    with pytest.raises(AdapterError, match=r"differences of whole weights alone \(3\)"):
        adapters.open(saved(tmp_path / "whole.safetensors", whole))


def test_a_signalling_nan_of_bfloat16_is_named_and_warned_of_no_further(tmp_path: Path) -> None:
    numbers = {f"{PEFT}.lora_A.weight": DOWN, f"{PEFT}.lora_B.weight": UP}
    stored = {key: value.astype(raw_dtype("bfloat16")) for key, value in numbers.items()}
    stored[f"{PEFT}.lora_A.weight"].view("<u2")[1, 2] = 0x7F81
    saved(tmp_path / "adapter_model.safetensors", stored, {"lora_alpha": 4, "target_modules": ["q_proj"]})
    (module,) = adapters.open(tmp_path).modules
    with pytest.raises(NumericsError, match=r"1 of its 128 numbers is NaN"):
        module.factors()


@pytest.mark.parametrize("name", ["bone_block", "road_alpha", "poly_lora", "deft_P"])
def test_a_module_may_be_called_as_a_method_is(name: str, tmp_path: Path) -> None:
    keys = {f"net.{name}.lora_A.weight": DOWN, f"net.{name}.lora_B.weight": UP}
    (module,) = adapters.open(saved(tmp_path / "x.safetensors", keys)).modules
    assert module.r == 4


@pytest.mark.parametrize(
    ("down", "up"),
    [
        ("unet.a.to_q.lora.down.weight", "unet.a.to_q.lora.up.weight"),
        ("transformer.a.to_q.lora_A.weight", "transformer.a.to_q.lora_B.weight"),
        ("llama.layers.0.q_proj.lora_A", "llama.layers.0.q_proj.lora_B"),
    ],
)
def test_a_file_of_paddle_has_its_factors_the_other_way_round(down: str, up: str, tmp_path: Path) -> None:
    """Also where the layer is as wide as long, and the shapes would fit as torch has them."""
    save_file(
        {
            down: np.ascontiguousarray(DOWN.T),
            up: np.ascontiguousarray(SQUARE.T),
            f"{down.partition('.lora')[0]}.alpha": np.array(2.0, np.float32),
        },
        tmp_path / "paddle_lora_weights.safetensors",
        {"format": "pd"},
    )
    (module,) = adapters.open(tmp_path).modules
    assert (module.r, module.in_features, module.out_features, module.scaling) == (4, 32, 32, 0.5)
    lora_A, lora_B = module.factors()
    np.testing.assert_array_equal(lora_B @ lora_A, SQUARE.astype(float) @ DOWN.astype(float))


def test_a_bare_alpha_is_divided_by_r_the_other_way_round(tmp_path: Path) -> None:
    stem = "transformer.blocks.0.attn.to_q"
    tensors = {f"{stem}.lora_A": DOWN.T, f"{stem}.lora_B": UP.T, f"{stem}.alpha": np.array(2.0, np.float32)}
    (module,) = adapters.open(saved(tmp_path / "x.safetensors", tensors)).modules
    assert (module.r, module.scaling) == (4, 0.5)
