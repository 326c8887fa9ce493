"""DoRA of LyCORIS and torchtune in PEFT's layout: the weights that PEFT makes of it are those it was trained to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

from lorarank.errors import AdapterError
from lorarank.resize import ConvertOptions, convert

LAYERS = ("mid_block.attentions.0.to_q", "mid_block.resnets.0.conv1", "mid_block.resnets.0.proj_in")
"""A linear layer, a convolution and one of a single pixel."""


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(list(shape)).standard_normal(shape).astype(np.float32)


def trained(weight: np.ndarray, delta: np.ndarray, magnitude: np.ndarray) -> np.ndarray:
    """Rows of W + ΔW brought to a norm each (arXiv 2402.09353, eq. 5)."""
    rows = weight.reshape(len(weight), -1).astype(float) + delta
    return (magnitude.reshape(-1, 1) * rows / np.linalg.norm(rows, axis=1, keepdims=True)).reshape(weight.shape)


def merged(model: nn.Module, path: str) -> np.ndarray:
    return model.get_submodule(path).weight.detach().numpy()


def test_lycoris_dora_is_peft_dora(
    model_of: Callable[[str], nn.Module], loaded: Callable[[str, Path], nn.Module], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    base, tensors, expected = model_of("unet"), {}, {}
    for path in LAYERS:
        weight = merged(base, path)
        down, up = normal(2, *weight.shape[1:]), normal(len(weight), 2, *(1,) * (weight.ndim - 2))
        magnitude = np.abs(normal(len(weight), *(1,) * (weight.ndim - 1))) + 1
        stem = f"lora_unet_{path.replace('.', '_')}"
        tensors |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up, f"{stem}.dora_scale": magnitude}
        tensors[f"{stem}.alpha"] = np.array(3.0, np.float32)
        delta = 1.5 * up.reshape(len(up), 2).astype(float) @ down.reshape(2, -1)
        expected[path] = trained(weight, delta, magnitude)
    save_file(tensors, tmp_path / "lora.safetensors")
    convert(tmp_path / "lora.safetensors", tmp_path / "out", ConvertOptions(to="peft"))
    torch.manual_seed(0)  # for the same weights again
    found = loaded("unet", tmp_path / "out").merge_and_unload()
    for path, weight in expected.items():
        np.testing.assert_allclose(merged(found, path), weight, atol=1e-5, err_msg=path)


def test_torchtune_dora_has_its_rows_in_order(
    model_of: Callable[[str], nn.Module], loaded: Callable[[str, Path], nn.Module], tmp_path: Path
) -> None:
    """Of Llama torchtune turns the rows of queries, and their magnitudes with them."""
    heads, path = 4, "model.layers.0.self_attn.q_proj"
    weight, down, up, magnitude = merged(model_of("llama"), path), normal(4, 16), normal(16, 4), np.arange(1.0, 17)
    turned = np.arange(16).reshape(heads, 2, -1).swapaxes(1, 2).reshape(-1)
    stem, folder = "layers.0.attn.q_proj", tmp_path / "in"
    folder.mkdir()
    tensors = {"lora_a.weight": down, "lora_b.weight": up[turned], "magnitude": magnitude[turned]}
    save_file({f"{stem}.{key}": x.astype(np.float32) for key, x in tensors.items()}, folder / "a.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 6}))
    (tmp_path / "base").mkdir()
    config = {"model_type": "llama", "num_attention_heads": heads, "num_key_value_heads": 2}
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    convert(folder, tmp_path / "out", ConvertOptions(to="peft", base=str(tmp_path / "base")))
    found = loaded("llama", tmp_path / "out").merge_and_unload()
    expected = trained(weight, 1.5 * up.astype(float) @ down, magnitude)
    np.testing.assert_allclose(merged(found, path), expected, atol=1e-5)


def test_a_fused_layer_of_flux_is_cut_with_its_magnitudes(tmp_path: Path) -> None:
    stem, magnitude = "lora_unet_double_blocks_0_img_attn_qkv", np.arange(1.0, 25, dtype=np.float32)[:, None]
    factors = {f"{stem}.lora_down.weight": normal(2, 8), f"{stem}.lora_up.weight": normal(24, 2)}
    save_file(factors | {f"{stem}.dora_scale": magnitude}, tmp_path / "lora.safetensors")
    convert(tmp_path / "lora.safetensors", tmp_path / "out", ConvertOptions(to="peft"))
    found = load_file(tmp_path / "out" / "adapter_model.safetensors")
    stem = "base_model.model.transformer_blocks.0.attn"
    parts = [found[f"{stem}.{one}.lora_magnitude_vector"] for one in ("to_q", "to_k", "to_v")]
    np.testing.assert_array_equal(parts, np.arange(1.0, 25).reshape(3, 8))


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((1, 8), r"DoRA with a magnitude for each column, \(1, 8\); PEFT has one for each row\. Leave --to out"),
        ((5, 1), r"its shape \(5, 1\) is not that of one magnitude for each row"),
    ],
)
def test_other_magnitudes_are_refused(shape: tuple[int, int], words: str, tmp_path: Path) -> None:
    stem = "lora_unet_mid_block_attentions_0_to_q"
    tensors = {"lora_down.weight": normal(2, 8), "lora_up.weight": normal(6, 2), "dora_scale": normal(*shape)}
    save_file({f"{stem}.{key}": x for key, x in tensors.items()}, tmp_path / "lora.safetensors")
    with pytest.raises(AdapterError, match=words):
        convert(tmp_path / "lora.safetensors", tmp_path / "out", ConvertOptions(to="peft"))


@pytest.mark.parametrize(("to", "wrapper"), [("peft", ""), ("diffusers", ""), ("diffusers", "_orig_mod.")])
def test_magnitudes_go_with_old_names_and_with_wrapped_ones(to: str, wrapper: str, tmp_path: Path) -> None:
    path, magnitude = "mid_block.attentions.0.to_q", np.arange(1, 9, dtype=np.float32)
    if wrapper:
        stem = f"base_model.model.{wrapper}{path}"
        factors = {f"{stem}.lora_A.weight": normal(2, 8), f"{stem}.lora_B.weight": normal(8, 2)}
        config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["to_q"], "use_dora": True}
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        name = "adapter_model.safetensors"
    else:
        stem = f"unet.{path}"
        factors = {f"{stem}.lora.down.weight": normal(2, 8), f"{stem}.lora.up.weight": normal(8, 2)}
        name = "pytorch_lora_weights.safetensors"
    save_file({**factors, f"{stem}.lora_magnitude_vector": magnitude}, tmp_path / name)
    convert(tmp_path, tmp_path / "out", ConvertOptions(to=to))
    (weights,) = (tmp_path / "out").glob("*.safetensors")
    written = {key: value for key, value in load_file(weights).items() if "magnitude" in key}
    assert [key.partition("mid_block")[2].partition(".lora")[0] for key in written] == [".attentions.0.to_q"]
    np.testing.assert_array_equal(next(iter(written.values())), magnitude)
