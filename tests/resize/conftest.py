"""Small models whose adapters PEFT itself has saved, and what PEFT itself makes of a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from lorarank import adapters

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def gpt2() -> nn.Module:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=40, n_positions=16, n_embd=16, n_layer=2, n_head=2))


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv1d(3, 5, 3)
        self.two = nn.Conv2d(3, 6, (3, 2))
        self.point = nn.Conv2d(4, 6, 1)
        self.three = nn.Conv3d(2, 4, 2)
        self.grouped = nn.Conv2d(4, 8, 3, groups=2)


def convolutions() -> nn.Module:
    torch.manual_seed(0)
    return Convolutions()


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(8, 2)


class Block(nn.Module):
    """A piece of a UNet, with its names: linear layers and convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.mid_block = nn.ModuleDict(
            {
                "attentions": nn.ModuleList([nn.ModuleDict({"to_q": nn.Linear(8, 6), "to_out": nn.Linear(6, 8)})]),
                "resnets": nn.ModuleList([nn.ModuleDict({"conv1": nn.Conv2d(3, 5, 3), "proj_in": nn.Conv2d(4, 6, 1)})]),
            }
        )


MODELS: Mapping[str, Callable[[], nn.Module]] = {
    "gpt2": gpt2,
    "convolutions": convolutions,
    "attention": Attention,
    "unet": Block,
}


def deltas(model: PeftModel) -> dict[str, np.ndarray]:
    """Every delta weight as PEFT computes it, (out, in…), by the module's path and the parameter's name."""
    found = {}
    for name, module in model.named_modules():
        if hasattr(module, "get_delta_weight") and "default" in {**module.lora_A, **module.lora_embedding_A}:
            name = name.removeprefix("base_model.model.") + getattr(module, "parameter_name", "")
            found[name] = module.get_delta_weight("default").detach().double().numpy()
    return found


@pytest.fixture
def model_of(small_model: Callable[[str], nn.Module]) -> Callable[[str], nn.Module]:
    """One of the models, by its name."""
    return lambda name: MODELS[name]() if name in MODELS else small_model(name)


@pytest.fixture
def saved(model_of: Callable[[str], nn.Module], tmp_path: Path) -> Callable[..., Path]:
    """``saved("llama", r=4, …)``: a folder of PEFT's with random factors for that model; keywords as LoraConfig's."""

    def save(model: str, *, name: str = "in", dtype: torch.dtype = torch.float32, **config: Any) -> Path:
        peft_model = get_peft_model(model_of(model), LoraConfig(**config))
        generator = torch.Generator().manual_seed(1)
        for key, parameter in peft_model.named_parameters():
            if "lora_" in key:
                values = torch.rand(parameter.shape, generator=generator) + 0.5 * ("magnitude" in key) - 0.3
                parameter.data = values.to(dtype)
        peft_model.save_pretrained(tmp_path / name)
        config_file = tmp_path / name / "adapter_config.json"
        plain = json.loads(config_file.read_text())
        config_file.write_text(json.dumps(plain | {"base_model_name_or_path": "base"}))
        return tmp_path / name

    return save


@pytest.fixture
def loaded(model_of: Callable[[str], nn.Module]) -> Callable[[str, Path], PeftModel]:
    """``loaded("llama", folder)``: that model with the adapter, as PEFT loads it, nothing missing or unexpected."""

    def load(model: str, folder: Path) -> PeftModel:
        base = model_of(model)
        peft_model = PeftModel.from_pretrained(base, folder)
        stored = sum(module.parameters for module in adapters.open(folder).modules)
        kinds = ("lora_A.default.weight", "lora_B.default.weight", "lora_embedding_")
        parameters = peft_model.named_parameters()
        assert stored == sum(p.numel() for key, p in parameters if any(kind in key for kind in kinds))
        return peft_model

    return load


@pytest.fixture
def deltas_of(loaded: Callable[[str, Path], PeftModel]) -> Callable[[str, Path], dict[str, np.ndarray]]:
    """Delta weights of a folder, as PEFT computes them on that model."""
    return lambda model, folder: deltas(loaded(model, folder))
