"""Modules of diffusion transformers in the names of their own code, against what diffusers' loaders make of a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.loaders import lora_conversion_utils as theirs
from safetensors.torch import load_file, save_file

from lorarank.errors import AdapterError
from lorarank.resize import ConvertOptions, ResizeOptions, convert, resize

WAN = [
    *(f"blocks.{i}.{attn}.{one}" for i in (0, 1) for attn in ("self_attn", "cross_attn") for one in "qkvo"),
    *(f"blocks.{i}.{name}" for i in (0, 1) for name in ("cross_attn.k_img", "cross_attn.v_img", "ffn.0", "ffn.2")),
]
WAN_OUTSIDE = [
    "head.head",
    "time_projection.1",
    "text_embedding.0",
    "text_embedding.2",
    "time_embedding.0",
    "time_embedding.2",
    "img_emb.proj.1",
    "img_emb.proj.3",
]
ATTN = ["to_q", "to_k", "to_v", "to_out.0"]
QWEN = [
    *(f"transformer_blocks.11.attn.{one}" for one in (*ATTN, "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")),
    *(f"transformer_blocks.0.{one}" for one in ("img_mlp.net.0.proj", "img_mlp.net.2", "txt_mlp.net.2")),
    *(f"transformer_blocks.0.{one}" for one in ("img_mod.1", "txt_mod.1")),
]
LTX = [f"transformer_blocks.3.{one}" for one in (*(f"attn2.{a}" for a in ATTN), "ff.net.0.proj", "ff.net.2")]
Z_IMAGE = [
    *(f"layers.4.attention.{one}" for one in ATTN),
    *(f"noise_refiner.1.feed_forward.{one}" for one in ("w1", "w2", "w3")),
    "context_refiner.0.attention.to_k",
]


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def saved(path: Path, names: list[str], form: str) -> dict[str, torch.Tensor]:
    """An adapter of these modules, each with another ΔW, with PEFT's or kohya's names of factors; of both where kohya's
    name of a module is before PEFT's of a factor."""
    tensors = {}
    for seed, name in enumerate(names):
        down, up = normal(4, 12, seed=seed), normal(10, 4, seed=seed + 1000)
        if form in ("comfy", "bare", "both"):
            stem = {"comfy": f"diffusion_model.{name}", "both": f"lora_unet_{name.replace('.', '_')}"}.get(form, name)
            tensors |= {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}
        else:
            stem = f"lora_unet_{name.replace('.', '_')}" if form == "kohya" else f"diffusion_model.{name}"
            tensors |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}
            tensors[f"{stem}.alpha"] = torch.tensor(2.0)
    save_file(tensors, path)
    return tensors


def deltas(tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {
        key.removesuffix(".lora_A.weight"): (tensors[key.replace("lora_A", "lora_B")] @ down).double().numpy()
        for key, down in tensors.items()
        if key.endswith("lora_A.weight")
    }


@pytest.mark.parametrize(
    ("names", "form", "loader"),
    [
        (WAN + WAN_OUTSIDE, "comfy", "_convert_non_diffusers_wan_lora_to_diffusers"),
        (WAN, "bare", "_convert_non_diffusers_wan_lora_to_diffusers"),
        (WAN, "kohya", "_convert_musubi_wan_lora_to_diffusers"),
        (QWEN, "dotted", "_convert_non_diffusers_qwen_lora_to_diffusers"),
        (QWEN, "kohya", "_convert_non_diffusers_qwen_lora_to_diffusers"),
        (LTX, "comfy", "_convert_non_diffusers_ltxv_lora_to_diffusers"),
        (Z_IMAGE, "comfy", "_convert_non_diffusers_z_image_lora_to_diffusers"),
        (Z_IMAGE, "kohya", "_convert_non_diffusers_z_image_lora_to_diffusers"),
    ],
)
def test_diffusers_own_loader_gives_the_same_update(names: list[str], form: str, loader: str, tmp_path: Path) -> None:
    tensors = saved(tmp_path / "lora.safetensors", names, form)
    convert(tmp_path / "lora.safetensors", tmp_path / "out", ConvertOptions(to="diffusers"))
    found = deltas(load_file(tmp_path / "out" / "pytorch_lora_weights.safetensors"))
    start = "diffusion_model." if form == "bare" else ""
    loaded = getattr(theirs, loader)({start + key: tensor.clone() for key, tensor in tensors.items()})
    expected = deltas({key if key.startswith("transformer.") else f"transformer.{key}": x for key, x in loaded.items()})
    assert len(expected) == len(names)
    assert found.keys() == expected.keys()
    for key, delta in expected.items():
        np.testing.assert_allclose(found[key], delta, atol=1e-5)


def test_two_underscores_of_wan_fun_are_one(tmp_path: Path) -> None:
    tensors = saved(tmp_path / "one.safetensors", WAN, "kohya")
    save_file({key.replace("lora_unet_", "lora_unet__"): x for key, x in tensors.items()}, tmp_path / "two.safetensors")
    for name in ("one", "two"):
        convert(tmp_path / f"{name}.safetensors", tmp_path / name, ConvertOptions(to="diffusers"))
    one, two = (load_file(tmp_path / name / "pytorch_lora_weights.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_names_of_kohya_before_those_of_peft(tmp_path: Path) -> None:
    for form in ("both", "bare"):
        saved(tmp_path / f"{form}.safetensors", WAN, form)
        convert(tmp_path / f"{form}.safetensors", tmp_path / form, ConvertOptions(to="diffusers"))
    both, bare = (load_file(tmp_path / form / "pytorch_lora_weights.safetensors") for form in ("both", "bare"))
    assert both.keys() == bare.keys()
    assert all(torch.equal(both[key], bare[key]) for key in both)


DOWN_UP = {"down": (2, 8), "up": (24, 2)}
"""Shapes of the factors of queries, keys and values in one layer."""


def attention(path: Path, stem: str, architecture: str = "") -> Path:
    factors = {f"{stem}.lora_{side}.weight": normal(*shape, seed=0) for side, shape in DOWN_UP.items()}
    save_file(factors, path, {"ss_base_model_version": architecture} if architecture else None)
    return path


@pytest.mark.parametrize(
    ("stem", "architecture", "doubtful"),
    [
        ("lora_unet_double_blocks_3_img_attn_qkv", "", True),
        ("lora_unet_double_blocks_3_img_attn_qkv", "flux1", False),
        ("lora_unet_double_blocks_18_img_attn_qkv", "", False),
        ("diffusion_model.double_blocks.3.img_attn.qkv", "", True),
    ],
)
def test_what_may_be_hunyuan_videos_is_said_to_be(stem: str, architecture: str, doubtful: bool, tmp_path: Path) -> None:
    path = attention(tmp_path / "a.safetensors", stem, architecture)
    done = convert(path, tmp_path / "out", ConvertOptions(to="diffusers"))
    assert any("HunyuanVideo" in note for note in done.notes) is doubtful


@pytest.mark.parametrize(
    ("stem", "architecture"),
    [
        ("lora_unet_double_blocks_3_img_attn_qkv", "hunyuan_video"),
        ("diffusion_model.double_blocks.3.img_attn_qkv", ""),
        ("diffusion_model.double_blocks.3.img_attn.qkv", "hunyuan-video/lora"),
    ],
)
def test_what_is_hunyuan_videos_is_not_taken_for_flux(stem: str, architecture: str, tmp_path: Path) -> None:
    path = attention(tmp_path / "a.safetensors", stem, architecture)
    with pytest.raises(AdapterError, match=r"not named by its path in diffusers' model|where the dots were"):
        convert(path, tmp_path / "out", ConvertOptions(to="diffusers"))


def test_a_cut_for_peft_has_the_paths_of_the_transformer_alone(tmp_path: Path) -> None:
    saved(tmp_path / "lora.safetensors", WAN, "comfy")
    resize(tmp_path / "lora.safetensors", tmp_path / "out", ResizeOptions(rank=2, to="peft"))
    keys = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert "base_model.model.blocks.1.attn2.to_out.0.lora_B.weight" in keys
    assert len(keys) == 2 * len(WAN)


def test_bare_names_are_paths_in_the_models_own_code_too(tmp_path: Path) -> None:
    saved(tmp_path / "lora.safetensors", WAN, "bare")
    convert(tmp_path / "lora.safetensors", tmp_path / "out", ConvertOptions(to="peft"))
    keys = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert "base_model.model.blocks.1.cross_attn.o.lora_B.weight" in keys


@pytest.mark.parametrize("name", ["layers.0.attention.qkv", "layers.0.attention.out", "joint_blocks.0.x_block.mlp.fc1"])
def test_layers_that_are_others_in_diffusers_are_left_alone(name: str, tmp_path: Path) -> None:
    for form in ("comfy", "kohya"):
        saved(tmp_path / f"{form}.safetensors", [name], form)
        with pytest.raises(AdapterError, match=r"not named by its path in diffusers' model|where the dots were"):
            convert(tmp_path / f"{form}.safetensors", tmp_path / form, ConvertOptions(to="diffusers"))


@pytest.mark.parametrize("to", ["diffusers", "kohya"])
@pytest.mark.parametrize(
    ("stem", "sides", "carried"),
    [
        ("diffusion_model.blocks.0.self_attn.q", ("lora_down", "lora_up"), "diffusion_model.blocks.0.norm3.diff"),
        ("double_blocks.0.img_attn.qkv", ("lora_A", "lora_B"), "double_blocks.0.img_attn.qkv.lora_B.bias"),
        ("img_in", ("lora_A", "lora_B"), "single_blocks.0.norm.key_norm.scale"),
    ],
)
def test_the_way_out_is_not_one_that_is_closed(
    stem: str, sides: tuple[str, str], carried: str, to: str, tmp_path: Path
) -> None:
    """Of lightx2v's files for Wan, and of Black Forest Labs' own for Flux.1: neither PEFT nor kohya holds all of it."""
    factors = dict(zip(sides, (normal(2, 8, seed=0), normal(24, 2, seed=1)), strict=True))
    tensors = {f"{stem}.{side}.weight": factor for side, factor in factors.items()} | {carried: normal(24, seed=2)}
    save_file(tensors, tmp_path / "lora.safetensors")
    with pytest.raises(AdapterError, match="Leave --to out, or load it with diffusers, which knows more names"):
        convert(tmp_path / "lora.safetensors", tmp_path / "out", ConvertOptions(to=to))
    with pytest.raises(AdapterError, match="Leave --to out, or merge it into its model with the tool that it is from"):
        convert(tmp_path / "lora.safetensors", tmp_path / "out", ConvertOptions(to="peft"))


@pytest.mark.parametrize("stem", ["lycoris_{flat}", "lora_transformer_{flat}", "transformer.{path}"])
def test_names_of_diffusers_own_modules(stem: str, tmp_path: Path) -> None:
    """As SimpleTuner writes them with LyCORIS, and OneTrainer in its older files and in its backups."""
    paths = [
        *(f"transformer_blocks.2.{name}" for name in ("attn.to_out.0", "attn.add_q_proj", "ff_context.net.0.proj")),
        *(f"single_transformer_blocks.11.{name}" for name in ("proj_mlp", "norm.linear")),
    ]
    tensors = {}
    for seed, path in enumerate(paths):
        name = stem.format(flat=path.replace(".", "_"), path=path)
        down, up = normal(4, 12, seed=seed), normal(10, 4, seed=seed + 1000)
        tensors |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
        tensors[f"{name}.alpha"] = torch.tensor(2.0)
    save_file(tensors, tmp_path / "lora.safetensors")
    convert(tmp_path / "lora.safetensors", tmp_path / "out", ConvertOptions(to="diffusers"))
    found = deltas(load_file(tmp_path / "out" / "pytorch_lora_weights.safetensors"))
    assert found.keys() == {f"transformer.{path}" for path in paths}
    for seed, path in enumerate(paths):
        expected = 0.5 * normal(10, 4, seed=seed + 1000).double() @ normal(4, 12, seed=seed).double()
        np.testing.assert_allclose(found[f"transformer.{path}"], expected, atol=1e-5)
