"""What PEFT saves of its other methods, without the configuration that would tell: declined by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors
from torch import nn

from lorarank import adapters
from lorarank.errors import AdapterError

METHODS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "AdaLora": ("an AdaLoRA", {"total_step": 10}),
    "BOFT": ("an OFT", {"boft_block_size": 4}),
    "C3A": ("a C3A", {"block_size": 8}),
    "FourierFT": ("a FourierFT", {"n_frequency": 20}),
    "HRA": ("an HRA", {}),
    "IA3": ("an (IA)³", {"feedforward_modules": []}),
    "LNTuning": ("LN tuning", {}),
    "LoHa": ("a LoHa", {}),
    "LoKr": ("a LoKr", {}),
    "OFT": ("an OFT", {"oft_block_size": 8, "r": 0}),
    "Poly": ("a Poly", {}),
    "RandLora": ("a RandLoRA", {"r": 4}),
    "Road": ("a RoAd", {"group_size": 8}),
    "Shira": ("a SHiRA", {"r": 2}),
    "TrainableTokens": ("rows of an embedding alone", {}),
    "VBLoRA": ("a VB-LoRA", {"vector_length": 8, "num_vectors": 16}),
    "Vera": ("a VeRA", {}),
    # of PEFT 0.17 and later
    "Beft": ("a BEFT", {}),
    "Deft": ("a DEFT", {}),
    "Delora": ("a DeLoRA", {}),
    "Frod": ("a FRoD", {}),
    "Glora": ("a GLoRA", {}),
    "Gralora": ("a GraLoRA", {"r": 4, "gralora_k": 2}),
    "Hira": ("a HiRA", {}),
    "Lily": ("a Lily", {}),
    "Miss": ("a MiSS", {"r": 4}),
    "OSF": ("an OSF", {}),
    "Peanut": ("a PEANuT", {}),
    "Psoft": ("a PSOFT", {}),
    "Pvera": ("a VeRA", {}),
    "Supertuning": ("Super-Tuning", {}),
    "TinyLora": ("a TinyLoRA", {}),
    "UniLora": ("a Uni-LoRA", {}),
    "WaveFT": ("a WaveFT", {"n_frequency": 64}),
}
"""Name of a method's configuration in PEFT → what it is called here, and what it needs of settings."""


class Block(nn.Module):
    """As much of a model as a method needs."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.norm = nn.Linear(32, 32), nn.LayerNorm(32)

    def forward(self, x: Any) -> Any:
        return self.norm(self.q(x))


@pytest.mark.filterwarnings("ignore::UserWarning")  # of extensions that are not compiled, and of settings chosen
@pytest.mark.parametrize("method", METHODS)
def test_a_bare_file_of_another_method(method: str, tmp_path: Path) -> None:
    what, settings = METHODS[method]
    config = getattr(peft, f"{method}Config", None)
    if config is None:
        pytest.skip(f"this PEFT has no {method}")
    model = peft.get_peft_model(
        nn.Sequential(Block(), Block()), config(target_modules=["norm" if method == "LNTuning" else "q"], **settings)
    )
    tensors = {key: value.contiguous().clone() for key, value in peft.get_peft_model_state_dict(model).items()}
    save_tensors(tensors, tmp_path / "adapter_model.safetensors")
    with pytest.raises(AdapterError) as error:
        adapters.open(tmp_path / "adapter_model.safetensors")
    assert what in str(error.value)
    assert "Name an adapter that was trained with LoRA" in str(error.value)


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("base_model.model.layers.0.q.bone_block", "Bone"),  # PEFT before 0.19
        ("base_model.internal_xlora_classifier.layers.0.weight", "the gate of an X-LoRA"),
        ("base_model.model.layers.0.q.adamss_A.0", "an AdaMSS"),
        ("base_model.model.layers.0.self_attn.adaption_prompt", "virtual tokens"),
        ("prompt_embeddings", "virtual tokens"),
        ("mid_block.attn1.processor.to_q_lora.q_layer.weight", "a T-LoRA"),
        ("lycoris_blocks_0_attn_to_q.lambda_layer", "a T-LoRA"),
        ("base_model.model.layers.0.shadow_update_gate.default.0.weight", "a SHADOW"),
        ("0.temporal_q.weight", "LayerDiffuse's shared attention"),
        ("ip_adapter.1.to_k_ip.weight", "an IP-Adapter"),
        ("double_blocks.0.processor.ip_adapter_double_stream_k_proj.bias", "an IP-Adapter"),
        ("controlnet_down_blocks.0.weight", "a ControlNet"),
        ("control_model.zero_convs.0.0.weight", "a ControlNet"),
        ("body.0.block1.weight", "a T2I-Adapter"),
        ("down_blocks.0.attn2.processor.to_k_custom_diffusion.weight", "a Custom Diffusion"),
        ("<cat>", "a textual inversion"),
        ("emb_params", "a textual inversion"),
        ("mid_block.conv.delta", "SVDiff"),
        ("lora_unet_x.lora_down.weight", "without its partner; the update needs both, and none has one: .* fullrank"),
    ],
)
def test_names_of_methods_that_need_more_than_a_layer(key: str, what: str, tmp_path: Path) -> None:
    save_file({key: np.ones((4, 8), np.float32)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(AdapterError, match=what):
        adapters.open(tmp_path)


def test_rows_of_an_embedding_beside_factors_are_carried(tmp_path: Path) -> None:
    tokens = "base_model.model.embed_tokens.token_adapter.trainable_tokens_delta"
    stem = "base_model.model.layers.0.q.lora_"
    tensors = {f"{stem}A.weight": np.ones((4, 32)), f"{stem}B.weight": np.ones((32, 4)), tokens: np.ones((2, 32))}
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    assert adapters.open(tmp_path).carried == (tokens,)


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        (["l.k_proj.multi_lora_a", "l.k_proj.lora_a", "l.k_proj.lora_b"], "of T-Few, which rescales every weight"),
        (["l.key_infused_adapter.scalers"], r"an \(IA\)³"),
        (["l.q.lora_A0.weight", "l.q.lora_B0.weight", "l.q.lora_A2.weight", "l.q.lora_route.weight"], "LoRAMoE"),
        (["l.q.lora_A.loraA.0.mlp.weight", "l.q.lora_B.loraB.0.mlp.weight"], "a mixture of LoRAs"),
        (["mixlora.layers.0.mlp.moe_gate.weight", "mixlora.layers.0.mlp.w1.experts.0.lora_A.weight"], "MixLoRA"),
        (["blocks.0.att.key.bone"], "a MiSS, Bone or DiSHA"),
        (["blocks.0.att.time_state"], "state tuning of RWKV"),
        (["l.adapter_layer.adapter_1.linear_in.weight", "l.adapter_layer.adapter_1.linear_out.weight"], "bottleneck"),
        (["l.0.adapter_layer.linear_1.weight", "l.0.adapter_layer.linear_1.bias"], "a bottleneck adapter"),
        (["blocks.0.adaptmlp.down_proj.weight", "blocks.0.adaptmlp.scale"], "a bottleneck adapter"),
        (["weight", "bias", "rotate_layer"], "a ReFT, which edits activations"),
        (["transformer.prefix_encoder.embedding.weight"], "prompt or prefix tuning"),
        (["adapter_query.weight", "layers.2.attention.gate"], "prompt or prefix tuning"),
        (["blocks.0.attn.q_FacTs.weight", "FacTu.weight"], "a FacT"),
        (["backbone.reins.learnable_tokens_a"], "a Rein"),
    ],
)
def test_methods_of_other_libraries(keys: list[str], what: str, tmp_path: Path) -> None:
    save_file({key: np.ones((4, 4), np.float32) for key in keys}, tmp_path / "x.safetensors")
    with pytest.raises(AdapterError, match=what):
        adapters.open(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("files", "what"),
    [
        (["_CHECKPOINT_METADATA", "params/manifest.ocdbt"], "a checkpoint of Orbax"),
        (["iter_10/common.pt", "iter_10/.metadata", "iter_10/__0_0.distcp"], "a distributed checkpoint of torch"),
        (["common.pt", "train_state.pt", "__0_0.distcp"], "a distributed checkpoint of torch"),
    ],
)
def test_checkpoints_of_trainers(files: list[str], what: str, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(AdapterError, match=what):
        adapters.open(tmp_path)
