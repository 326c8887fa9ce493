"""Modules of other tools' adapters found again in models of transformers, by their paths and with rows in order."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

from lorarank import adapters
from lorarank.errors import LorarankError
from lorarank.resize import ConvertOptions, ResizeOptions, convert, resize

HEADS, KEYS, WIDTH = 4, 2, 16
"""Of the Llama in the conftest."""

SHAPES = {
    "self_attn.q_proj": (16, 16),
    "self_attn.k_proj": (8, 16),
    "self_attn.v_proj": (8, 16),
    "self_attn.o_proj": (16, 16),
    "mlp.gate_proj": (24, 16),
    "mlp.up_proj": (24, 16),
    "mlp.down_proj": (16, 24),
}
TORCHTUNE = dict(zip(SHAPES, ("q_proj", "k_proj", "v_proj", "output_proj", "w1", "w3", "w2"), strict=True))
GGUF = dict(zip(SHAPES, ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"), strict=True))


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(list(shape)).standard_normal(shape).astype(np.float32)


def turned(lora_B: np.ndarray, heads: int) -> np.ndarray:
    """Rows as torchtune's ``hf_to_tune`` and llama.cpp's ``permute`` put them."""
    return lora_B.reshape(heads, 2, len(lora_B) // heads // 2, -1).swapaxes(1, 2).reshape(lora_B.shape)


def dense(delta: np.ndarray, k: int) -> np.ndarray:
    U, s, Vt = np.linalg.svd(delta, full_matrices=False)
    return (U[:, :k] * s[:k]) @ Vt[:k]


@pytest.fixture
def base(tmp_path: Path) -> Callable[..., Path]:
    """``base("llama")``: a folder with nothing but a model's configuration."""

    def make(model_type: str = "llama", **config: Any) -> Path:
        (tmp_path / "base").mkdir()
        plain = {"model_type": model_type, "num_attention_heads": HEADS, "num_key_value_heads": KEYS}
        (tmp_path / "base" / "config.json").write_text(json.dumps(plain | config))
        return tmp_path / "base"

    return make


@pytest.fixture
def of_llama(tmp_path: Path, gguf_bytes: Callable[..., bytes]) -> Callable[..., tuple[Path, dict[str, np.ndarray]]]:
    """``of_llama("torchtune", turn=True)``: an adapter of that tool at r = 4, and ΔW by the paths in transformers."""

    def make(form: str, turn: bool = True, arch: str = "llama") -> tuple[Path, dict[str, np.ndarray]]:
        tensors, deltas = {}, {}
        for layer in range(2):
            for path, (out, in_) in SHAPES.items():
                lora_A, lora_B = normal(4, in_) + layer, normal(out, 4) - layer
                deltas[f"model.layers.{layer}.{path}"] = 1.5 * lora_B.astype(float) @ lora_A
                if turn and path.endswith(("q_proj", "k_proj")):
                    lora_B = turned(lora_B, HEADS if path.endswith("q_proj") else KEYS)
                if form == "gguf":
                    stem = f"blk.{layer}.{GGUF[path]}.weight"
                    tensors |= {f"{stem}.lora_a": lora_A, f"{stem}.lora_b": lora_B}
                else:
                    stem = f"layers.{layer}.{path.split('.')[0].replace('self_', '')}.{TORCHTUNE[path]}"
                    tensors |= {f"{stem}.lora_a.weight": lora_A, f"{stem}.lora_b.weight": lora_B}
        folder = tmp_path / "in"
        folder.mkdir()
        if form == "gguf":
            values = {"adapter.lora.alpha": 6.0, "general.architecture": arch}
            (folder / "lora.gguf").write_bytes(gguf_bytes(tensors, values))
        else:
            save_file({key: np.ascontiguousarray(tensor) for key, tensor in tensors.items()}, folder / "a.safetensors")
            (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 6}))
        return folder, deltas

    return make


OfLlama = Callable[..., tuple[Path, dict[str, np.ndarray]]]
Loaded = Callable[[str, Path], dict[str, np.ndarray]]


@pytest.mark.parametrize(
    ("form", "turn", "arch", "model"),
    [
        ("torchtune", True, "", "llama"),
        ("torchtune", False, "", "qwen2"),
        ("gguf", True, "llama", "llama"),
        ("gguf", False, "qwen2", None),
    ],
)
def test_peft_loads_the_update_with_its_rows_in_order(
    form: str,
    turn: bool,
    arch: str,
    model: str | None,
    of_llama: OfLlama,
    base: Callable[..., Path],
    deltas_of: Loaded,
    tmp_path: Path,
) -> None:
    source, expected = of_llama(form, turn, arch)
    folder = None if model is None else str(base(model))
    done = resize(source, tmp_path / "out", ResizeOptions(rank=2, to="peft", base=folder))
    assert (done.format_before, done.format) == (form, "peft")
    found = deltas_of("llama", tmp_path / "out")
    assert found.keys() == expected.keys()
    for name, delta in expected.items():
        np.testing.assert_allclose(found[name], dense(delta, 2), rtol=0, atol=2e-6 * np.abs(delta).max(), err_msg=name)


@pytest.mark.parametrize(
    ("form", "arch", "model", "words"),
    [
        ("torchtune", "", None, r"do not say which architecture.* --base MODEL; its config\.json is enough"),
        ("torchtune", "", "phi3", "of the architecture phi3, whose names are not known here"),
        ("gguf", "llama", None, r"its rows are turned.* number of heads is not stored.* --base MODEL"),
        ("gguf", "rwkv7", None, "of the architecture rwkv7, whose names are not known here .*Use the PEFT adapter"),
    ],
)
def test_what_the_names_alone_do_not_tell(
    form: str, arch: str, model: str | None, words: str, of_llama: OfLlama, base: Callable[..., Path], tmp_path: Path
) -> None:
    source, _ = of_llama(form, True, arch)
    folder = None if model is None else str(base(model))
    with pytest.raises(LorarankError, match=words):
        convert(source, tmp_path / "out", ConvertOptions(to="peft", base=folder))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"num_attention_heads": 3, "num_key_value_heads": 3}, "8 rows are not those of 3 heads"),
        ({"num_attention_heads": None, "num_key_value_heads": None}, "does not say how many heads"),
        ({"num_attention_heads": "many"}, "does not say how many heads"),
    ],
)
def test_a_base_with_other_heads(
    config: dict[str, Any], words: str, of_llama: OfLlama, base: Callable[..., Path], tmp_path: Path
) -> None:
    source, _ = of_llama("gguf")
    with pytest.raises(LorarankError, match=words):
        convert(source, tmp_path / "out", ConvertOptions(to="peft", base=str(base(**config))))


def test_experts_in_a_stack_are_not_named(
    base: Callable[..., Path], gguf_bytes: Callable[..., bytes], tmp_path: Path
) -> None:
    stem = "blk.0.ffn_up_exps.weight"
    tensors = {f"{stem}.lora_a": normal(3, 4, 16), f"{stem}.lora_b": normal(3, 8, 4)}
    (tmp_path / "lora.gguf").write_bytes(gguf_bytes(tensors, {"general.architecture": "qwen3"}))
    with pytest.raises(LorarankError, match="one of the experts of a stack"):
        convert(tmp_path / "lora.gguf", tmp_path / "out", ConvertOptions(to="peft"))


def test_experts_of_mlx_are_not_written_for_peft(tmp_path: Path) -> None:
    stem = "model.layers.0.mlp.switch_mlp.up_proj"
    save_file({f"{stem}.lora_a": normal(3, 4, 16), f"{stem}.lora_b": normal(3, 8, 4)}, tmp_path / "a.safetensors")
    with pytest.raises(LorarankError, match=r"an expert of a stack.* Leave --to out"):
        convert(tmp_path / "a.safetensors", tmp_path / "out", ConvertOptions(to="peft"))


def test_peft_loads_what_mlx_has_trained(deltas_of: Loaded, tmp_path: Path) -> None:
    expected, tensors = {}, {}
    for name, (out, in_) in SHAPES.items():
        a, b = normal(in_, 4), normal(4, out)
        tensors |= {f"model.layers.1.{name}.lora_a": a, f"model.layers.1.{name}.lora_b": b}
        expected[f"model.layers.1.{name}"] = 20 * (a.astype(float) @ b).T
    (tmp_path / "in").mkdir()
    save_file(tensors, tmp_path / "in" / "adapters.safetensors")
    config = {"fine_tune_type": "lora", "lora_parameters": {"rank": 4, "scale": 20.0, "dropout": 0.0}}
    (tmp_path / "in" / "adapter_config.json").write_text(json.dumps(config))
    resize(tmp_path / "in", tmp_path / "out", ResizeOptions(rank=3, to="peft"))
    found = deltas_of("llama", tmp_path / "out")
    assert found.keys() == expected.keys()
    for name, delta in expected.items():
        np.testing.assert_allclose(found[name], dense(delta, 3), rtol=0, atol=2e-6 * np.abs(delta).max())


@pytest.mark.parametrize("weights", [False, True])
def test_underscores_of_a_language_model_by_its_base(
    weights: bool, model_of: Callable[[str], nn.Module], deltas_of: Loaded, base: Callable[..., Path], tmp_path: Path
) -> None:
    """As LyCORIS names the modules of any model; the base's headers tell the paths, or its configuration does."""
    tensors, expected = {}, {}
    for name, (out, in_) in SHAPES.items():
        stem = f"lycoris_model_layers_0_{name.replace('.', '_')}"
        A, B = normal(4, in_), normal(out, 4)
        tensors |= {
            f"{stem}.lora_down.weight": A,
            f"{stem}.lora_up.weight": B,
            f"{stem}.alpha": np.array(2, np.float32),
        }
        expected[f"model.layers.0.{name}"] = 0.5 * B.astype(float) @ A
    save_file(tensors, tmp_path / "in.safetensors")
    config = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": 40}
    folder = base("llama", **config)
    if weights:
        model_of("llama").save_pretrained(folder)
    convert(tmp_path / "in.safetensors", tmp_path / "out", ConvertOptions(to="peft", base=str(folder)))
    found = deltas_of("llama", tmp_path / "out")
    for name, delta in expected.items():
        np.testing.assert_allclose(found[name], delta, rtol=0, atol=2e-6 * np.abs(delta).max())


@pytest.mark.parametrize("based", [False, True])
def test_underscores_that_nothing_resolves(based: bool, base: Callable[..., Path], tmp_path: Path) -> None:
    stem = "lora_unet_joint_blocks_0_x_block_attn_qkv"
    tensors = {f"{stem}.lora_down.weight": normal(4, 8), f"{stem}.lora_up.weight": normal(8, 4)}
    save_file(tensors, tmp_path / "in.safetensors")
    folder = str(base("mystery")) if based else None
    with pytest.raises(
        LorarankError, match=r"where the dots were .* not known.* --base MODEL, or convert it"
    ) as caught:
        convert(tmp_path / "in.safetensors", tmp_path / "out", ConvertOptions(to="diffusers", base=folder))
    assert ("nor does" in str(caught.value)) is based


def test_a_base_is_for_another_format(base: Callable[..., Path], of_llama: OfLlama, tmp_path: Path) -> None:
    source, _ = of_llama("torchtune")
    with pytest.raises(LorarankError, match=r"the adapter keeps its format, torchtune, and names\. Leave it"):
        convert(source, tmp_path / "out", ConvertOptions(base=str(base())))


def test_names_of_comfyui_that_diffusers_has_not(tmp_path: Path) -> None:
    stem = "diffusion_model.layers.0.attention.qkv"
    save_file(
        {f"{stem}.lora_A.weight": normal(4, 8), f"{stem}.lora_B.weight": normal(8, 4)}, tmp_path / "a.safetensors"
    )
    with pytest.raises(LorarankError, match=r"not named by its path.* Leave --to out, or load it with diffusers"):
        convert(tmp_path / "a.safetensors", tmp_path / "out", ConvertOptions(to="diffusers"))


@pytest.mark.parametrize(
    ("stem", "path"),
    [
        ("base_model.model.transformer.blocks.0.attn1.to_q", "transformer.blocks.0.attn1.to_q"),
        ("base_model.model.transformer.transformer_blocks.0.attn1.to_q", "transformer.transformer_blocks.0.attn1.to_q"),
        ("transformer.blocks.0.self_attn.q", "transformer.blocks.0.attn1.to_q"),
        ("transformer.blocks.0.attn1.to_q", "transformer.blocks.0.attn1.to_q"),
        ("transformer.single_blocks.37.linear2", "transformer.single_transformer_blocks.37.proj_out"),
    ],
)
def test_names_of_a_transformer_in_diffusers(stem: str, path: str, tmp_path: Path) -> None:
    save_file(
        {f"{stem}.lora_A.weight": normal(40, 40)[:2], f"{stem}.lora_B.weight": normal(8, 2)}, tmp_path / "a.safetensors"
    )
    convert(tmp_path / "a.safetensors", tmp_path / "out", ConvertOptions(to="diffusers"))
    written = load_file(tmp_path / "out" / "pytorch_lora_weights.safetensors")
    assert written.keys() == {f"{path}.lora_A.weight", f"{path}.lora_B.weight"}


def test_bare_factors_of_peft_have_paths(saved: Callable[..., Path], deltas_of: Loaded, tmp_path: Path) -> None:
    before = saved("llama", r=4, lora_alpha=4, target_modules=["q_proj"])
    (before / "adapter_config.json").unlink()
    done = convert(before, tmp_path / "out", ConvertOptions(to="peft"))
    assert any("alpha is unknown: scaling 1 is assumed" in note for note in done.notes)
    assert len(deltas_of("llama", tmp_path / "out")) == 2


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")
def test_a_language_model_called_transformer_is_no_part_of_a_pipeline(
    saved: Callable[..., Path], deltas_of: Loaded, tmp_path: Path
) -> None:
    before = deltas_of("gpt2", saved("gpt2", r=4, lora_alpha=4, target_modules=["c_attn"], fan_in_fan_out=True))
    stored = load_file(tmp_path / "in" / "adapter_model.safetensors")
    bare = {key.removeprefix("base_model.model."): tensor for key, tensor in stored.items()}
    save_file(bare, tmp_path / "lora.safetensors")
    assert adapters.open(tmp_path / "lora.safetensors").format == "pairs"
    convert(tmp_path / "lora.safetensors", tmp_path / "out", ConvertOptions(to="peft"))
    after = deltas_of("gpt2", tmp_path / "out")
    assert after.keys() == before.keys()
    for name, delta in before.items():
        np.testing.assert_allclose(after[name], delta, atol=1e-6)
    with pytest.raises(LorarankError, match="a module of no part of a diffusion pipeline"):
        convert(tmp_path / "lora.safetensors", tmp_path / "other", ConvertOptions(to="diffusers"))


def of_mlx(folder: Path, modules: dict[str, tuple[int, int]]) -> dict[str, np.ndarray]:
    """An adapter of MLX-LM's at scale 2: name of each module → (out, in); ΔW of each."""
    folder.mkdir()
    tensors = {f"{name}.lora_a": normal(into, 4) for name, (_, into) in modules.items()}
    tensors |= {f"{name}.lora_b": normal(4, out) for name, (out, _) in modules.items()}
    save_file(tensors, folder / "adapters.safetensors")
    config = {"fine_tune_type": "lora", "lora_parameters": {"rank": 4, "scale": 2.0, "dropout": 0.0}}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return {name: 2.0 * (tensors[f"{name}.lora_a"] @ tensors[f"{name}.lora_b"]).T for name in modules}


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")
def test_peft_finds_the_gpt2_of_mlx(deltas_of: Loaded, tmp_path: Path) -> None:
    shapes = {"attn.c_attn": (48, 16), "attn.c_proj": (16, 16), "mlp.c_fc": (64, 16), "mlp.c_proj": (16, 64)}
    before = of_mlx(tmp_path / "in", {f"model.h.{i}.{name}": shape for i in (0, 1) for name, shape in shapes.items()})
    convert(tmp_path / "in", tmp_path / "out", ConvertOptions(to="peft"))
    after = deltas_of("gpt2", tmp_path / "out")
    assert after.keys() == {name.replace("model.", "transformer.") for name in before}
    for name, delta in before.items():  # Conv1D, whose weight is (in, out)
        np.testing.assert_allclose(after[name.replace("model.", "transformer.")], delta.T, atol=1e-5, err_msg=name)
    resize(tmp_path / "in", tmp_path / "kept", ResizeOptions(rank=2))
    assert "model.h.0.attn.c_attn.lora_a" in load_file(tmp_path / "kept" / "adapters.safetensors")


def test_a_language_model_within_another_is_doubted(tmp_path: Path) -> None:
    of_mlx(tmp_path / "in", {"language_model.model.layers.0.self_attn.q_proj": (8, 8)})
    done = convert(tmp_path / "in", tmp_path / "out", ConvertOptions(to="peft"))
    assert any("in transformers since 4.52" in note for note in done.notes)
    assert not any(
        "transformers" in note for note in resize(tmp_path / "in", tmp_path / "kept", ResizeOptions(rank=2)).notes
    )


@pytest.mark.parametrize("form", ["mlx", "diffusers"])
def test_magnitudes_of_dora_are_those_of_peft(
    form: str, saved: Callable[..., Path], loaded: Callable[[str, Path], nn.Module], tmp_path: Path
) -> None:
    before = saved("llama", r=4, lora_alpha=6, target_modules=["q_proj", "down_proj"], use_dora=True)
    stored = {
        k.removeprefix("base_model.model."): x for k, x in load_file(before / "adapter_model.safetensors").items()
    }
    (tmp_path / "other").mkdir()
    if form == "mlx":
        ends = {".lora_A.weight": ".lora_a", ".lora_B.weight": ".lora_b", ".lora_magnitude_vector": ".m"}
        tensors = {}
        for old, new in ends.items():
            tensors |= {k.replace(old, new): np.ascontiguousarray(x.T) for k, x in stored.items() if k.endswith(old)}
        config = {"fine_tune_type": "dora", "lora_parameters": {"rank": 4, "scale": 1.5, "dropout": 0.0}}
        (tmp_path / "other" / "adapter_config.json").write_text(json.dumps(config))
        save_file(tensors, tmp_path / "other" / "adapters.safetensors")
    else:
        tensors = {f"transformer.{key}": tensor for key, tensor in stored.items()}
        tensors |= {f"transformer.{k[: -len('.lora_A.weight')]}.alpha": np.array(6.0) for k in stored if "lora_A" in k}
        save_file(tensors, tmp_path / "other" / "pytorch_lora_weights.safetensors")
    convert(tmp_path / "other", tmp_path / "out", ConvertOptions(to="peft"))
    tokens = torch.arange(8)[None]
    expected, found = (loaded("llama", path)(tokens).logits for path in (before, tmp_path / "out"))
    torch.testing.assert_close(found, expected)


def test_magnitudes_of_some_modules_are_not_given_to_all(tmp_path: Path) -> None:
    tensors = {
        f"layers.{i}.q_proj.lora_{side}": normal(8, 8)[:, :4] if side == "a" else normal(4, 8)
        for i in (0, 1)
        for side in "ab"
    }
    save_file(
        {k: np.ascontiguousarray(x) for k, x in tensors.items()} | {"layers.0.q_proj.m": normal(8)},
        tmp_path / "adapters.safetensors",
    )
    with pytest.raises(
        LorarankError, match="1 of its 2 modules have DoRA magnitudes; PEFT gives them to all or to none"
    ):
        convert(tmp_path / "adapters.safetensors", tmp_path / "out", ConvertOptions(to="peft"))
