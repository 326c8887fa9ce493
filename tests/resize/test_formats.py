"""Kohya's and diffusers' layouts: keys and numbers as those tools read them, recomputed here by their own formulas."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.utils import set_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from lorarank import adapters
from lorarank.adapters import layout, write
from lorarank.adapters.names import by_path
from lorarank.adapters.replacement import Replacement
from lorarank.errors import AdapterError, OptionError
from lorarank.resize import ConvertOptions, ResizeOptions, convert, resize

Saved = Callable[..., Path]
Deltas = Callable[[str, Path], dict[str, np.ndarray]]
UNET: dict[str, Any] = {
    "r": 4,
    "lora_alpha": 6,
    "target_modules": ["to_q", "to_out", "conv1", "proj_in"],
    "rank_pattern": {"to_q": 3},
    "alpha_pattern": {"conv1": 2},
}


def kohya_deltas(path: Path) -> dict[str, np.ndarray]:
    """alpha/r · up·down for every module, as ``LoRAModule.get_weight`` of sd-scripts computes it."""
    tensors = load_file(path)
    found = {}
    for key, down in tensors.items():
        if key.endswith(".lora_down.weight"):
            name = key.removesuffix(".lora_down.weight")
            up, alpha = tensors[f"{name}.lora_up.weight"], tensors.get(f"{name}.alpha", torch.tensor(len(down)))
            scale = alpha.item() / len(down)
            if down.ndim == 2:
                weight = up @ down
            else:
                weight = nn.functional.conv2d(down.permute(1, 0, 2, 3), up).permute(1, 0, 2, 3)
            found[name] = (scale * weight).double().numpy()
    assert len(tensors) in (2 * len(found), 3 * len(found))
    return found


def test_kohya_reads_the_same_update(saved: Saved, deltas_of: Deltas, tmp_path: Path) -> None:
    before = saved("unet", **UNET)
    done = convert(before, tmp_path / "out", ConvertOptions(to="kohya"))
    assert "diffusers loses" in done.notes[-1]
    found = kohya_deltas(tmp_path / "out" / "lora.safetensors")
    for name, delta in deltas_of("unet", before).items():
        key = f"lora_unet_{name.replace('.', '_')}"
        np.testing.assert_allclose(found[key], delta, atol=1e-6, err_msg=name)
    assert len(found) == 4
    with safe_open(tmp_path / "out" / "lora.safetensors", "np") as file:
        assert (file.metadata()["ss_network_dim"], file.metadata()["ss_network_alpha"]) == ("Dynamic", "Dynamic")


def test_a_convolution_in_tucker_form_becomes_an_ordinary_one(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = {"down": (4, 5, 1, 1), "mid": (4, 4, 3, 2), "up": (7, 4, 1, 1)}
    stem = "lora_unet_down_blocks_1_resnets_0_conv1"
    parts = {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}
    tensors = {f"{stem}.lora_{name}.weight": part for name, part in parts.items()} | {
        f"{stem}.alpha": torch.tensor(2.0)
    }
    save_file(tensors, tmp_path / "in.safetensors")
    dense = 0.5 * torch.einsum("oixy,ijkl,jcxy->ockl", parts["up"], parts["mid"], parts["down"]).double()
    done = convert(tmp_path / "in.safetensors", tmp_path / "whole.safetensors", ConvertOptions(to="kohya"))
    assert (done.parameters_before, done.parameters) == (20 + 96 + 28, 4 * (30 + 7))
    np.testing.assert_allclose(kohya_deltas(tmp_path / "whole.safetensors")[stem], dense.numpy(), atol=1e-6)
    resize(tmp_path / "in.safetensors", tmp_path / "cut.safetensors", ResizeOptions(rank=2))
    u, s, v = torch.linalg.svd(dense.reshape(7, -1), full_matrices=False)
    best = (u[:, :2] * s[:2] @ v[:2]).reshape(dense.shape)
    np.testing.assert_allclose(kohya_deltas(tmp_path / "cut.safetensors")[stem], best.numpy(), atol=1e-6)


def test_a_cut_that_would_take_more_room_is_not_made(tmp_path: Path) -> None:
    stem = "lora_unet_down_blocks_1_resnets_0_conv1"
    shapes = {"down": (8, 32, 1, 1), "mid": (8, 8, 3, 3), "up": (32, 8, 1, 1)}
    generator = torch.Generator().manual_seed(0)
    tensors = {f"{stem}.lora_{name}.weight": torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    save_file(tensors, tmp_path / "in.safetensors")
    stored = sum(part.numel() for part in tensors.values())
    for options in (ResizeOptions(params=stored), ResizeOptions(energy=0.99), ResizeOptions(threshold_global=0.01)):
        out = tmp_path / f"{options.criterion}.safetensors"
        done = resize(tmp_path / "in.safetensors", out, options)
        assert (done.r, done.parameters) == ((8,), stored)
        kept = load_file(out)
        assert kept.keys() == tensors.keys()
        assert all(torch.equal(kept[key], part) for key, part in tensors.items())
    small = resize(tmp_path / "in.safetensors", tmp_path / "small.safetensors", ResizeOptions(params=stored - 1))
    assert small.parameters < stored


def test_a_cut_for_kohya_is_that_for_peft(saved: Saved, deltas_of: Deltas, tmp_path: Path) -> None:
    before = saved("unet", **UNET)
    resize(before, tmp_path / "peft", ResizeOptions(rank=2))
    resize(before, tmp_path / "one.safetensors", ResizeOptions(rank=2, to="kohya", bake_alpha=True))
    found = kohya_deltas(tmp_path / "one.safetensors")
    for name, delta in deltas_of("unet", tmp_path / "peft").items():
        np.testing.assert_allclose(found[f"lora_unet_{name.replace('.', '_')}"], delta, atol=1e-6)
    alphas = [tensor for key, tensor in load_file(tmp_path / "one.safetensors").items() if key.endswith(".alpha")]
    assert alphas == [2] * 4  # r, for tools that stop where there is none
    with pytest.raises(OptionError, match="not an empty folder"):
        resize(before, tmp_path / "one.safetensors", ResizeOptions(rank=2, to="kohya"))


@pytest.mark.parametrize("use_dora", [False, True])
@pytest.mark.parametrize("metadata", [False, True])
def test_diffusers_reads_the_same_update(
    metadata: bool,
    use_dora: bool,
    saved: Saved,
    deltas_of: Deltas,
    model_of: Callable[[str], nn.Module],
    tmp_path: Path,
) -> None:
    """``load_lora_adapter`` of diffusers: prefix off, LoraConfig of the metadata or of the shapes, then PEFT."""
    before = saved("unet", **UNET, use_dora=use_dora)
    convert(before, tmp_path / "out", ConvertOptions(to="diffusers"))
    path = tmp_path / "out" / "pytorch_lora_weights.safetensors"
    tensors = {key.removeprefix("unet."): tensor for key, tensor in load_file(path).items()}
    ranks = {key.split(".lora_B")[0]: tensor.shape[1] for key, tensor in tensors.items() if ".lora_B." in key}
    config: dict[str, Any] = {"r": 4, "lora_alpha": 4, "target_modules": list(ranks), "use_dora": use_dora}
    config |= {"rank_pattern": ranks, "alpha_pattern": ranks}  # alpha = r, as without metadata
    if metadata:
        with safe_open(path, "np") as file:
            stored = json.loads(file.metadata()["lora_adapter_metadata"])
        config = {key.removeprefix("unet."): value for key, value in stored.items()}
        assert all(key.startswith("unet.") for key in stored)
    model = get_peft_model(model_of("unet"), LoraConfig(**config))
    result = set_peft_model_state_dict(model, {f"base_model.model.{key}": value for key, value in tensors.items()})
    assert not result.unexpected_keys
    assert not [key for key in result.missing_keys if "lora_" in key]
    for name, delta in deltas_of("unet", before).items():
        found = model.base_model.model.get_submodule(name).get_delta_weight("default").detach().numpy()
        np.testing.assert_allclose(found, delta, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("to", ["kohya", "diffusers"])
@pytest.mark.parametrize(
    ("model", "config", "words"),
    [
        ("llama", {"target_modules": ["q_proj"]}, "no part of a diffusion pipeline"),
        ("gpt2", {"target_modules": ["c_attn"], "fan_in_fan_out": True}, "no part of a diffusion pipeline"),
        ("llama", {"target_modules": ["embed_tokens"]}, "no place for .* Leave --to out, or write --to peft"),
        (
            "unet",
            {"target_modules": ["to_q"], "modules_to_save": ["conv1"]},
            "no place for it. Leave --to out",
        ),
        ("unet", {"target_modules": ["to_q"], "init_lora_weights": "pissa"}, "initialised with pissa"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*save_embedding_layers.*:UserWarning", "ignore:Could not identify:UserWarning")
def test_what_they_cannot_hold_is_refused(
    model: str, config: dict[str, Any], words: str, to: str, saved: Saved, tmp_path: Path
) -> None:
    before = saved(model, r=4, **config)
    with pytest.raises(AdapterError, match=words):
        convert(before, tmp_path / "out", ConvertOptions(to=to))
    assert not (tmp_path / "out").exists()


def test_a_scaling_of_zero_is_no_alpha_of_zero(saved: Saved, tmp_path: Path) -> None:
    before = saved("unet", **UNET | {"lora_alpha": 0, "alpha_pattern": {}, "rank_pattern": {}})
    convert(before, tmp_path / "out", ConvertOptions(to="kohya"))
    assert not any(delta.any() for delta in kohya_deltas(tmp_path / "out" / "lora.safetensors").values())


def test_one_file_is_no_folder_of_peft(saved: Saved, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="needs a folder"):
        convert(saved("unet", **UNET), tmp_path / "out.safetensors", ConvertOptions())


def renamed(adapter: adapters.Adapter, form: str, name: Callable[[str], str], key: str) -> adapters.Adapter:
    """The same factors as if they had come from a file of another format."""
    modules = tuple(
        replace(module, name=name(module.name), keys=(key.format(name(module.name)), module.keys[1]))
        for module in adapter.modules
        if module.kind == "linear"
    )
    return replace(adapter, format=form, modules=modules, config={}, store=None)


def flattened(path: str) -> str:
    return f"lora_unet_{path.replace('.', '_')}"


def laid_out(adapter: adapters.Adapter, form: str) -> layout.Layout:
    pieces = [
        Replacement(module, module.r, module.scaling, ("float32", "float32"), module.factors)
        for module in adapter.modules
    ]
    return write.lay_out(adapter, pieces, form)


def test_from_diffusers_to_peft_and_kohya(saved: Saved) -> None:
    adapter = renamed(adapters.open(saved("unet", **UNET)), "diffusers", "unet.{}".format, "{}.lora_A.weight")
    stem = "mid_block.attentions.0.to_out"
    peft = laid_out(adapter, "peft")
    keys = {slot.key for block in peft.blocks for slot in block.slots}
    assert f"base_model.model.{stem}.lora_A.weight" in keys
    assert peft.config is not None
    assert stem in peft.config["target_modules"]
    keys = {slot.key for block in laid_out(adapter, "kohya").blocks for slot in block.slots}
    assert f"lora_unet_{stem.replace('.', '_')}.alpha" in keys
    two = {"mid_block.attentions.0.to_q": "text_encoder.text_model.a", "mid_block.attentions.0.to_out": f"unet.{stem}"}
    both = renamed(adapters.open(adapter.source), "diffusers", two.__getitem__, "{}.lora_A.weight")
    with pytest.raises(AdapterError, match="several models"):
        laid_out(both, "peft")


def test_from_kohya_to_all(saved: Saved) -> None:
    adapter = renamed(adapters.open(saved("unet", **UNET)), "kohya", flattened, "{}.lora_down.weight")
    stem = "mid_block.attentions.0.to_q"
    written = {"peft": f"base_model.model.{stem}.lora_A.weight", "diffusers": f"unet.{stem}.lora_A.weight"}
    for form, key in (written | {"kohya": f"lora_unet_{stem.replace('.', '_')}.lora_down.weight"}).items():
        one = adapter if form == "kohya" else by_path(adapter)
        assert key in {slot.key for block in laid_out(one, form).blocks for slot in block.slots}


def of_kohya(path: Path, stem: str, into: int = 8, out: int = 8) -> Path:
    down, up = torch.rand(2, into), torch.rand(out, 2)
    save_file(
        {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up, f"{stem}.alpha": torch.tensor(4.0)}, path
    )
    return path


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("unet.mid_block.attentions.0.proj_in", "lora_unet_mid_block_attentions_0_proj_in"),
        ("text_encoder.text_model.encoder.layers.0.mlp.fc1", "lora_te_text_model_encoder_layers_0_mlp_fc1"),
        ("lora_transformer_single_transformer_blocks_0_proj_out", "lora_unet_single_blocks_0_linear2"),
        ("diffusion_model.single_blocks.0.linear2", "lora_unet_single_blocks_0_linear2"),
        ("lora_prior_unet_x_0_y", "lora_prior_unet_x_0_y"),
    ],
)
def test_names_that_sd_scripts_does_not_find_become_its_own(stem: str, name: str, tmp_path: Path) -> None:
    before = of_kohya(tmp_path / "in.safetensors", stem, into=40 if "single" in stem else 8)
    done = convert(before, tmp_path / "out", ConvertOptions(to="kohya"))
    assert (done.format_before, done.format) == ("kohya", "kohya")
    assert load_file(tmp_path / "out" / "lora.safetensors")[f"{name}.alpha"] == 4
    resize(before, tmp_path / "kept", ResizeOptions(rank=1))  # as it was, for the tool that it is from
    assert f"{stem}.lora_up.weight" in load_file(tmp_path / "kept" / "lora.safetensors")


def test_names_that_sd_scripts_does_not_find_and_nothing_tells_are_refused(tmp_path: Path) -> None:
    before = of_kohya(tmp_path / "in.safetensors", "diffusion_model.blocks.0.self_attn.q")
    with pytest.raises(AdapterError, match="kohya joins and renames the layers of transformers"):
        convert(before, tmp_path / "out", ConvertOptions(to="kohya"))


def test_the_order_and_alignment_are_those_of_the_reference(saved: Saved, tmp_path: Path) -> None:
    """A file written by safetensors itself from the same tensors has the same bytes but for its metadata."""
    from safetensors.torch import save_file

    before = saved("unet", **UNET)
    convert(before, tmp_path / "out", ConvertOptions(dtype="bfloat16"))
    path = tmp_path / "out" / "adapter_model.safetensors"
    with safe_open(path, "np") as file:
        metadata = file.metadata()
    save_file(load_file(path), tmp_path / "reference.safetensors", metadata=metadata)
    ours, theirs = path.read_bytes(), (tmp_path / "reference.safetensors").read_bytes()
    lengths = [int.from_bytes(content[:8], "little") for content in (ours, theirs)]
    assert ours[8 + lengths[0] :] == theirs[8 + lengths[1] :]
    assert list(json.loads(ours[8 : 8 + lengths[0]])) == list(json.loads(theirs[8 : 8 + lengths[1]]))


@pytest.mark.parametrize("to", ["peft", "diffusers", "kohya"])
def test_names_that_are_no_paths_are_not_guessed_at(to: str, tmp_path: Path) -> None:
    save_file({"w_a_000": torch.ones(2, 8), "w_b_000": torch.ones(6, 2)}, tmp_path / "in.safetensors")
    with pytest.raises(AdapterError, match=r"not named by their paths.* Leave --to out, or convert it with the tool"):
        resize(tmp_path / "in.safetensors", tmp_path / "out", ResizeOptions(rank=1, to=to))
