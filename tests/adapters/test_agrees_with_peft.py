"""``scaling · lora_B @ lora_A`` is PEFT's own delta weight, for every kind of module and every rule of scaling."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from lorarank import adapters
from lorarank.adapters import Adapter, LoraModule

pytestmark = pytest.mark.filterwarnings(
    "ignore:Setting `save_embedding_layers`:UserWarning",
    "ignore:Could not identify embedding:UserWarning",
    "ignore:The following .*_pattern keys did not match:RuntimeWarning",  # PEFT does not count parameters as targeted
)

Model = Callable[[str], nn.Module]


def save(model: nn.Module, folder: Path, config: LoraConfig) -> PeftModel:
    """``model`` with random factors of that configuration, saved by PEFT."""
    peft_model = get_peft_model(model, config)
    torch.manual_seed(1)
    for name, parameter in peft_model.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter)
    peft_model.save_pretrained(folder)
    return peft_model


def delta(module: LoraModule) -> np.ndarray:
    lora_A, lora_B = module.factors()
    assert lora_A.shape == (module.r, module.in_features)
    assert lora_B.shape == (module.out_features, module.r)
    assert lora_A.dtype == lora_B.dtype == np.float64
    return module.scaling * (lora_B @ lora_A)


def peft_delta(peft_model: PeftModel, name: str) -> np.ndarray:
    return peft_model.base_model.model.get_submodule(name).get_delta_weight("default").detach().double().numpy()


def assert_agrees(
    peft_model: PeftModel, adapter: Adapter, orient: Callable[[np.ndarray], np.ndarray] = lambda weight: weight
) -> None:
    for module in adapter.modules:
        expected = orient(peft_delta(peft_model, module.name))
        np.testing.assert_allclose(delta(module), expected, rtol=1e-12, atol=1e-12, err_msg=module.name)


LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

RULES: dict[str, dict[str, Any]] = {
    "plain": {"r": 4, "lora_alpha": 6},
    "rank-stabilised": {"r": 4, "lora_alpha": 6, "use_rslora": True},
    "r larger than the matrix": {"r": 20, "lora_alpha": 20},
    "suffix keys": {"r": 4, "lora_alpha": 6, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"self_attn.v_proj": 9}},
    "only alpha": {"r": 4, "lora_alpha": 6, "alpha_pattern": {"q_proj": 1}},
    "anchored": {
        "r": 4,
        "lora_alpha": 6,
        "rank_pattern": {"^model.layers.0.mlp.up_proj": 3, "^layers.1.mlp.up_proj": 2},
    },
    "the first key wins": {"r": 4, "lora_alpha": 6, "rank_pattern": {"layers.1.mlp.up_proj": 1, "up_proj": 3}},
    "no partial component": {"r": 4, "lora_alpha": 6, "rank_pattern": {"proj": 2, "1.mlp.up_proj": 3}},
    "expressions": {
        "r": 4,
        "lora_alpha": 6,
        "rank_pattern": {r"layers\.(0|2)\..*[qk]_proj": 2, r".*\.1\.\w+\.o_proj": 5},
        "alpha_pattern": {r"mlp\..+": 3, r"layers\.\d\.self_attn\.q_proj": 7},
    },
    "all of them": {
        "r": 4,
        "lora_alpha": 6,
        "use_rslora": True,
        "rank_pattern": {"q_proj": 2, r"(gate|up)_proj": 8},
        "alpha_pattern": {"gate_proj": 16},
    },
    "DoRA": {"r": 4, "lora_alpha": 6, "use_dora": True},
}


@pytest.mark.parametrize("rule", RULES)
def test_rules_of_rank_and_scaling(rule: str, tmp_path: Path, small_model: Model) -> None:
    peft_model = save(small_model("llama").double(), tmp_path, LoraConfig(target_modules=LINEAR, **RULES[rule]))
    adapter = adapters.open(tmp_path)
    assert len(adapter.modules) == 14
    assert {module.kind for module in adapter.modules} == {"linear"}
    assert_agrees(peft_model, adapter)
    for module in adapter.modules:
        layer = peft_model.base_model.model.get_submodule(module.name)
        assert (module.r, module.scaling) == (layer.r["default"], layer.scaling["default"])


def test_what_an_adapter_says(tmp_path: Path, small_model: Model) -> None:
    config = LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "v_proj"], bias="all", modules_to_save=["lm_head"])
    peft_model = save(small_model("llama").double(), tmp_path, config)
    adapter = adapters.open(tmp_path)
    trainable = sum(p.numel() for name, p in peft_model.named_parameters() if "lora_" in name)
    assert adapter.parameters == trainable
    assert adapter.format == "peft"
    assert adapter.source == tmp_path
    assert adapter.notes == ()
    assert adapter.carried == ("base_model.model.lm_head.weight",)
    assert [module.name for module in adapter.modules[:2]] == [
        "model.layers.0.self_attn.q_proj",
        "model.layers.0.self_attn.v_proj",
    ]
    assert adapter.modules[0].dtype == "float64"
    assert adapter.modules[0].keys == tuple(
        f"base_model.model.model.layers.0.self_attn.q_proj.lora_{side}.weight" for side in "AB"
    )


def test_dora_carries_its_magnitudes_and_says_so(tmp_path: Path, small_model: Model) -> None:
    save(small_model("llama").double(), tmp_path, LoraConfig(r=4, target_modules=["q_proj"], use_dora=True))
    adapter = adapters.open(tmp_path)
    assert [key.rpartition(".")[2] for key in adapter.carried] == ["lora_magnitude_vector"] * 2
    assert "direction part only" in adapter.notes[0]


@pytest.mark.filterwarnings("ignore:Adapter 'default'. 1 LoRA tensor")  # PEFT takes the bias for a stub of ZeRO-3
def test_lora_bias_is_carried(tmp_path: Path) -> None:
    class WithBias(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.Linear(6, 8, dtype=torch.float64)

    peft_model = save(WithBias(), tmp_path, LoraConfig(r=2, target_modules=["up"], lora_bias=True))
    adapter = adapters.open(tmp_path)
    assert adapter.carried == ("base_model.model.up.lora_B.bias",)
    assert_agrees(peft_model, adapter)


def test_initialisation_that_changes_the_base_is_noted(tmp_path: Path, small_model: Model) -> None:
    save(small_model("llama"), tmp_path, LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights="pissa"))
    adapter = adapters.open(tmp_path)
    assert "pissa" in adapter.notes[0]
    assert "residual base weight" in adapter.notes[0]
    assert len(adapter.modules) == 2


def test_conv1d_of_gpt2_is_transposed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=40, n_positions=16, n_embd=16, n_layer=2, n_head=2)).double()
    config = LoraConfig(r=3, lora_alpha=6, target_modules=["c_attn", "mlp.c_proj"], fan_in_fan_out=True)
    peft_model = save(model, tmp_path, config)
    adapter = adapters.open(tmp_path)
    assert [(m.out_features, m.in_features) for m in adapter.modules] == [(48, 16), (16, 64)] * 2
    assert_agrees(peft_model, adapter, orient=np.transpose)


def test_embedding_is_transposed_and_its_base_weight_carried(tmp_path: Path, small_model: Model) -> None:
    peft_model = save(small_model("llama").double(), tmp_path, LoraConfig(r=3, target_modules=["embed_tokens"]))
    adapter = adapters.open(tmp_path)
    (module,) = adapter.modules
    assert (module.kind, module.out_features, module.in_features) == ("embedding", 16, 40)
    assert adapter.carried == ("base_model.model.model.embed_tokens.base_layer.weight",)
    assert_agrees(peft_model, adapter, orient=np.transpose)


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv1d(3, 5, 3)
        self.two = nn.Conv2d(3, 6, (3, 2))
        self.point = nn.Conv2d(4, 6, 1)
        self.three = nn.Conv3d(2, 4, 2)
        self.grouped = nn.Conv2d(4, 8, 3, groups=2)


def test_convolutions_are_flattened(tmp_path: Path) -> None:
    model = Convolutions().double()
    peft_model = save(model, tmp_path, LoraConfig(r=2, lora_alpha=3, target_modules=["one", "two", "point", "three"]))
    adapter = adapters.open(tmp_path)
    assert {module.name: module.kind for module in adapter.modules} == {
        "one": "conv1d",
        "two": "conv2d",
        "point": "conv2d",
        "three": "conv3d",
    }
    assert_agrees(peft_model, adapter, orient=lambda weight: weight.reshape(len(weight), -1))


@pytest.mark.filterwarnings("ignore:LoRA adapter added to ConvNd layer with groups:UserWarning")
def test_grouped_convolution_computes_the_same(tmp_path: Path) -> None:
    peft_model = save(Convolutions().double(), tmp_path, LoraConfig(r=4, lora_alpha=6, target_modules=["grouped"]))
    (module,) = adapters.open(tmp_path).modules
    layer = peft_model.base_model.model.grouped
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64)
    weight = torch.from_numpy(delta(module)).reshape(8, 4, 3, 3)
    torch.testing.assert_close(layer(x) - layer.base_layer(x), nn.functional.conv2d(x, weight))
    assert module.parameters == sum(p.numel() for name, p in layer.named_parameters() if "lora_" in name)


def test_both_projections_of_multihead_attention(tmp_path: Path) -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attn = nn.MultiheadAttention(8, 2, dtype=torch.float64)

    config = LoraConfig(r=2, target_modules=["attn"], rank_pattern={"attn": 3}, alpha_pattern={"attn": 5})
    peft_model = save(Attention(), tmp_path, config)
    inner, outer = adapters.open(tmp_path).modules
    layer = peft_model.base_model.model.attn
    assert (inner.name, outer.name) == ("attn", "attn.out_proj")
    np.testing.assert_allclose(delta(inner), layer.get_delta_weight("default").detach().numpy())
    np.testing.assert_allclose(delta(outer), layer.base_layer.out_proj.get_delta_weight("default").detach().numpy())


def test_stacked_experts(tmp_path: Path, small_model: Model) -> None:
    config = LoraConfig(
        r=2,
        lora_alpha=3,
        target_modules=["q_proj"],
        target_parameters=["mlp.experts.down_proj", "mlp.experts.gate_up_proj"],
        rank_pattern={"experts.down_proj": 4},
        alpha_pattern={"layers.1.mlp.experts.gate_up_proj": 7},
    )
    peft_model = save(small_model("mixtral").double(), tmp_path, config)
    adapter = adapters.open(tmp_path)
    experts = [module for module in adapter.modules if module.kind == "parameter"]
    assert len(experts) == 2 * 2 * 3
    assert len(adapter.modules) == 12 + 2
    assert adapter.notes == ()
    wrappers = {
        (layer, wrapper.parameter_name): wrapper.get_delta_weight("default").detach().numpy()
        for layer in range(2)
        for outer in [peft_model.base_model.model.model.layers[layer].mlp.experts]
        for wrapper in (outer, outer.base_layer)
    }
    for module in experts:
        layer, parameter = int(module.name.split(".")[2]), module.name.rpartition(".")[2]
        assert module.name == f"model.layers.{layer}.mlp.experts.{module.expert}.{parameter}"
        assert module.r == (4 if parameter == "down_proj" else 2)
        np.testing.assert_allclose(delta(module), wrappers[layer, parameter][module.expert], rtol=1e-12)
    stored = sum(p.numel() for name, p in peft_model.named_parameters() if "lora_" in name)
    assert adapter.parameters == stored


def test_all_linear_of_a_mixture_of_experts(tmp_path: Path, small_model: Model) -> None:
    """PEFT turns it into bare names of parameters, but for the router's, and a pattern for the fused projection."""
    config = LoraConfig(r=2, lora_alpha=3, target_modules="all-linear")
    peft_model = save(small_model("mixtral").double(), tmp_path, config)
    written = json.loads((tmp_path / "adapter_config.json").read_text())
    assert set(written["target_parameters"]) == {"gate_up_proj", "down_proj", "gate.weight"}
    assert written["rank_pattern"]
    adapter = adapters.open(tmp_path)
    assert adapter.notes == ()
    wrappers = {
        name.removeprefix("base_model.model.").replace(".base_layer", "") + f".{module.parameter_name}": module
        for name, module in peft_model.named_modules()
        if hasattr(module, "parameter_name")
    }
    parameters = [module for module in adapter.modules if module.kind == "parameter"]
    assert len(parameters) == 2 * (1 + 2 * 3)
    for module in parameters:
        whole = module.name.replace(f".experts.{module.expert}.", ".experts.")
        expected = wrappers[whole].get_delta_weight("default").detach().numpy()
        expected = expected if module.expert is None else expected[module.expert]
        np.testing.assert_allclose(delta(module), expected, rtol=1e-12, err_msg=module.name)


def test_one_flat_parameter(tmp_path: Path, small_model: Model) -> None:
    config = LoraConfig(r=2, lora_alpha=3, target_modules=[], target_parameters=["mlp.gate.weight"])
    peft_model = save(small_model("mixtral").double(), tmp_path, config)
    module, _ = adapters.open(tmp_path).modules
    assert (module.name, module.kind, module.expert) == ("model.layers.0.mlp.gate.weight", "parameter", None)
    layer = peft_model.base_model.model.model.layers[0].mlp.gate
    np.testing.assert_allclose(delta(module), layer.get_delta_weight("default").detach().numpy())


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("form", ["single", "sharded", "bin"])
def test_stored_dtypes_and_forms(form: str, dtype: str, tmp_path: Path, small_model: Model) -> None:
    save(small_model("llama").double(), tmp_path, LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "down_proj"]))
    whole = tmp_path / "adapter_model.safetensors"
    tensors = {name: tensor.to(getattr(torch, dtype)) for name, tensor in load_file(whole).items()}
    whole.unlink()
    if form == "single":
        save_file(tensors, whole)
    elif form == "bin":
        torch.save(tensors, tmp_path / "adapter_model.bin")
    else:
        shards = [f"adapter_model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
        homes = {name: shards[i % 3] for i, name in enumerate(tensors)}
        for shard in shards:
            save_file({name: tensors[name] for name in tensors if homes[name] == shard}, tmp_path / shard)
        index = {"metadata": {"total_size": 0}, "weight_map": homes}
        (tmp_path / "adapter_model.safetensors.index.json").write_text(json.dumps(index))
    adapter = adapters.open(tmp_path)
    assert len(adapter.modules) == 4
    for module in adapter.modules:
        assert module.dtype == dtype
        for factor, key in zip(module.factors(), module.keys, strict=True):
            np.testing.assert_array_equal(factor, tensors[key].double().numpy())
