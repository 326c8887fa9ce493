"""Shapes of real architectures, against PEFT's own count; patterns by PEFT's rule; headers without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lorarank.errors import ModelError, OptionError, SourceError
from lorarank.inspect import Inspection, InspectOptions, inspect, skeleton
from lorarank.inspect.targets import parse

transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
torch = pytest.importorskip("torch")
safetensors_of_torch = pytest.importorskip("safetensors.torch")

LLAMA_3_1_8B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 32,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
    "max_position_embeddings": 131072,
}
"""The sizes in the configuration that Meta published with the model."""

SMALL = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 50}
GROUPED = SMALL | {"num_key_value_heads": 2}
IMAGE = {key: value for key, value in SMALL.items() if key != "vocab_size"} | {"image_size": 32, "patch_size": 16}

ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "LlamaForCausalLM": ("LlamaConfig", GROUPED),
    "Qwen2ForCausalLM": ("Qwen2Config", GROUPED),
    "Qwen3ForCausalLM": ("Qwen3Config", GROUPED | {"head_dim": 32}),
    "GemmaForCausalLM": ("GemmaConfig", GROUPED | {"head_dim": 32}),
    "Gemma3ForCausalLM": ("Gemma3TextConfig", GROUPED | {"head_dim": 32}),
    "MistralForCausalLM": ("MistralConfig", GROUPED),
    "PhiForCausalLM": ("PhiConfig", SMALL),
    "Phi3ForCausalLM": ("Phi3Config", GROUPED | {"pad_token_id": 0}),
    "GPT2LMHeadModel": ("GPT2Config", {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 50}),
    "GPTNeoXForCausalLM": ("GPTNeoXConfig", SMALL),
    "BertForMaskedLM": ("BertConfig", SMALL),
    "BertForSequenceClassification": ("BertConfig", SMALL),
    "T5ForConditionalGeneration": (
        "T5Config",
        {"d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_heads": 4, "vocab_size": 50},
    ),
    "WhisperForConditionalGeneration": (
        "WhisperConfig",
        {"d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "vocab_size": 50, "pad_token_id": 0}
        | {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 96, "decoder_ffn_dim": 96},
    ),
    "ViTForImageClassification": ("ViTConfig", IMAGE),
    "MixtralForCausalLM": ("MixtralConfig", GROUPED | {"num_local_experts": 4}),
    "Qwen3MoeForCausalLM": ("Qwen3MoeConfig", GROUPED | {"moe_intermediate_size": 32, "num_experts": 4}),
    "Qwen2MoeForCausalLM": (
        "Qwen2MoeConfig",
        GROUPED | {"moe_intermediate_size": 32, "num_experts": 4, "shared_expert_intermediate_size": 48},
    ),
}
MIXTURES = ("MixtralForCausalLM", "Qwen3MoeForCausalLM")
"""Of which PEFT adapts the experts where it is told all-linear."""

pytestmark = pytest.mark.filterwarnings(
    # PEFT's own patterns for stacked experts, and tied embeddings that are adapted on purpose here
    "ignore:The following (rank|alpha)_pattern keys did not match:RuntimeWarning",
    "ignore:Model has `tie_word_embeddings=True`:UserWarning",
)


def write_config(folder: Path, config: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def described(folder: Path, architecture: str) -> Path:
    """The configuration of a small model, written by transformers."""
    kind, sizes = ARCHITECTURES[architecture]
    getattr(transformers, kind)(architectures=[architecture], **sizes).save_pretrained(folder)
    return folder


def counted_by_peft(folder: Path, architecture: str, r: int, **config: Any) -> int:
    """Trainable parameters of LoRA, as PEFT makes it on the meta device."""
    kind, _ = ARCHITECTURES[architecture]
    with torch.device("meta"):
        model = getattr(transformers, architecture)(getattr(transformers, kind).from_pretrained(folder))
        config = {"fan_in_fan_out": architecture.startswith("GPT2")} | config
        adapted = peft.get_peft_model(model, peft.LoraConfig(r=r, lora_dropout=0.0, **config))
    return sum(p.numel() for name, p in adapted.named_parameters() if "lora_" in name)


def costs(found: Inspection) -> dict[str, dict[int, int]]:
    return {one.name: {cost.r: cost.parameters for cost in one.costs} for one in found.sets}


def test_llama_3_1_8b_is_exact(tmp_path: Path) -> None:
    found = inspect(write_config(tmp_path, LLAMA_3_1_8B))
    assert found.parameters == 8_030_261_248
    trained = costs(found)
    assert trained["attention"][16] == 13_631_488
    assert (trained["all-linear"][8], trained["all-linear"][16]) == (20_971_520, 41_943_040)
    assert trained["qv"][16] == 6_815_744
    assert [row.modules for row in found.types if "all-linear" in row.sets] == [32] * 7
    assert {(row.type, row.out_features, row.in_features) for row in found.types if "qv" in row.sets} == {
        ("q_proj", 4096, 4096),
        ("v_proj", 1024, 4096),
    }
    cost = next(cost for cost in found.sets[-1].costs if cost.r == 16)
    assert cost.share == pytest.approx(0.005223, abs=1e-6)
    assert cost.training_bytes == 16 * 41_943_040


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_agrees_with_peft(tmp_path: Path, architecture: str) -> None:
    folder = described(tmp_path, architecture)
    found = inspect(folder, InspectOptions(rank=4))
    # PEFT leaves the head of a classifier out only where it is told the task
    task = "SEQ_CLS" if "Classification" in architecture else None
    whole = inspect(folder, InspectOptions(rank=4, target="all-linear")).sets[-1]
    assert whole.costs[0].parameters == counted_by_peft(
        folder, architecture, 4, target_modules="all-linear", task_type=task
    )
    sets = {one.name: one for one in found.sets}
    moe = sets.pop("with experts", None)
    assert (moe is not None) == (architecture in MIXTURES)
    assert (moe or sets["all-linear"]).modules == whole.modules
    assert list(sets) == ["qv", "attention", "all-linear"]
    for one in sets.values():
        made = counted_by_peft(folder, architecture, 4, target_modules=list(one.modules))
        assert one.costs[0].parameters == made


@pytest.mark.parametrize(
    ("architecture", "kind", "sizes"),
    [
        ("WhisperForConditionalGeneration", *ARCHITECTURES["WhisperForConditionalGeneration"]),
        (
            "BartForConditionalGeneration",
            "BartConfig",
            {"d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "vocab_size": 50},
        ),
        ("T5ForConditionalGeneration", *ARCHITECTURES["T5ForConditionalGeneration"]),
        ("LlamaForCausalLM", *ARCHITECTURES["LlamaForCausalLM"]),
    ],
)
def test_a_configuration_that_names_no_class_is_the_whole_model(
    tmp_path: Path, architecture: str, kind: str, sizes: dict[str, Any]
) -> None:
    """Of Whisper and BART there is a causal class as well, the decoder without its encoder."""
    getattr(transformers, kind)(**sizes).save_pretrained(tmp_path)
    found = inspect(tmp_path, InspectOptions(rank=16))
    assert found.basis == f"config.json, as {architecture} on the meta device"
    with torch.device("meta"):
        model = getattr(transformers, architecture)(getattr(transformers, kind).from_pretrained(tmp_path))
        adapted = peft.get_peft_model(model, peft.LoraConfig(r=16, target_modules="all-linear"))
    assert costs(found)["all-linear"][16] == sum(p.numel() for n, p in adapted.named_parameters() if "lora_" in n)


def test_a_single_module_of_every_kind_costs_what_peft_makes_of_it(tmp_path: Path) -> None:
    for architecture in ("GPT2LMHeadModel", "WhisperForConditionalGeneration", "ViTForImageClassification"):
        folder = described(tmp_path / architecture, architecture)
        for row in inspect(folder).types:
            made = counted_by_peft(
                folder, architecture, 2, target_modules=[row.example], fan_in_fan_out=row.kind == "Conv1D"
            )
            assert made == 2 * row.parameters_per_rank // row.modules, (architecture, row.example)


def test_stacked_experts_cost_what_peft_makes_of_them(tmp_path: Path) -> None:
    folder = described(tmp_path, "MixtralForCausalLM")
    found = inspect(folder)
    rows = [row for row in found.types if row.kind == "experts"]
    assert [(row.type, row.stack, row.out_features, row.in_features) for row in rows] == [
        ("gate_up_proj", 4, 192, 64),
        ("down_proj", 4, 64, 96),
    ]
    names = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    made = counted_by_peft(folder, "MixtralForCausalLM", 2, target_modules=[], target_parameters=names)
    assert made == 2 * sum(row.parameters_per_rank for row in rows)
    assert any("target_parameters" in note for note in found.notes)


PATTERNS = [
    "q_proj,v_proj",
    "self_attn.q_proj",
    r".*\.[qk]_proj",
    r"model\.layers\.1\..*_proj",
    "lm_head",
    "all-linear",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_hits_what_peft_adapts(tmp_path: Path, pattern: str) -> None:
    folder = described(tmp_path, "LlamaForCausalLM")
    found = inspect(folder, InspectOptions(target=pattern)).sets[-1]
    targets: Any = pattern if parse(pattern).expression or pattern == "all-linear" else pattern.split(",")
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig.from_pretrained(folder))
        adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=targets))
    made = {
        name.removeprefix("base_model.model.").removesuffix(".lora_A.default")
        for name, _ in adapted.named_modules()
        if name.endswith(".lora_A.default")
    }
    assert set(found.modules) == made
    assert made


@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "MixtralForCausalLM", "BertForMaskedLM"])
def test_a_target_set_can_be_asked_for_by_the_name_it_is_shown_under(tmp_path: Path, architecture: str) -> None:
    folder = described(tmp_path, architecture)
    whole = inspect(folder)
    for shown in whole.sets:
        found = inspect(folder, InspectOptions(target=shown.name))
        means = "with experts" if architecture == "MixtralForCausalLM" and shown.name == "all-linear" else shown.name
        assert found.sets[-1] == next(one for one in whole.sets if one.name == means)
        assert sorted(one.name for one in found.sets) == sorted(one.name for one in whole.sets)
        assert found.notes == whole.notes
        assert found.rule is not None


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("self_attn", "no layers, model.layers.0.self_attn the first"),
        ("c_attn", "hits no layer"),
        ("q_proj,c_attn", "Nothing ends in c_attn"),
        ("lm_head", "It hits lm_head"),
        ("q_proj$", "hits no layer"),  # the whole path has to match
    ],
)
def test_what_peft_would_refuse_is_said(tmp_path: Path, pattern: str, says: str) -> None:
    found = inspect(described(tmp_path, "LlamaForCausalLM"), InspectOptions(target=pattern))
    assert any(says in note for note in found.notes), found.notes


def test_what_peft_refuses_in_mamba_models_is_in_no_set_and_not_hit(tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, "vocab_size": 50}
    config = transformers.MambaConfig(architectures=["MambaForCausalLM"], **sizes)
    config.save_pretrained(tmp_path)
    found = inspect(tmp_path, InspectOptions(target="in_proj,out_proj"))
    named = {one.name: one for one in found.sets}
    assert named["all-linear"].names == ("dt_proj", "in_proj", "x_proj")
    assert named["in_proj,out_proj"].names == ("in_proj",)
    assert not any(row.sets for row in found.types if row.type == "out_proj")
    text = " ".join(found.notes)
    assert "PEFT refuses LoRA on conv1d, out_proj in Mamba models" in text
    assert "PEFT would refuse this pattern: it also hits 2 layers that get no LoRA" in text
    for refused in ("all-linear", ["in_proj", "out_proj"]):
        with torch.device("meta"):
            model = transformers.MambaForCausalLM(config)
        with pytest.raises(ValueError, match="incompatible"):
            peft.get_peft_model(model, peft.LoraConfig(target_modules=refused))


def test_a_pattern_that_is_none(tmp_path: Path) -> None:
    folder = described(tmp_path, "LlamaForCausalLM")
    with pytest.raises(OptionError, match="neither module names nor a regular expression"):
        inspect(folder, InspectOptions(target="(q_proj"))


def test_a_type_inside_and_outside_of_attention_has_a_row_of_each(tmp_path: Path) -> None:
    found = inspect(described(tmp_path, "BertForMaskedLM"))
    square = [row for row in found.types if (row.type, row.out_features, row.in_features) == ("dense", 64, 64)]
    assert [(row.modules, row.sets, row.example) for row in square] == [
        (2, ("attention", "all-linear"), "bert.encoder.layer.0.attention.output.dense"),
        (1, ("all-linear",), "cls.predictions.transform.dense"),
    ]
    for one in found.sets:
        assert sum(row.modules for row in found.types if one.name in row.sets) == len(one.modules)


def test_conv1d_is_told_with_its_flag(tmp_path: Path) -> None:
    found = inspect(described(tmp_path, "GPT2LMHeadModel"))
    shapes = {(row.type, row.out_features, row.in_features) for row in found.types if row.kind == "Conv1D"}
    assert shapes == {("c_attn", 192, 64), ("c_proj", 64, 64), ("c_fc", 256, 64), ("c_proj", 64, 256)}
    assert any("fan_in_fan_out=True" in note for note in found.notes)


@pytest.mark.parametrize(
    ("config", "kind", "shape"),
    [
        ({"model_type": "gpt2"}, "Conv1D", (48, 16)),
        ({"model_type": "gpt_bigcode"}, "linear", (16, 48)),
        ({"model_type": "vision-encoder-decoder", "transformer": {"model_type": "gpt2"}}, "Conv1D", (48, 16)),
        (None, "Conv1D", (48, 16)),
    ],
)
def test_conv1d_is_told_by_the_configuration_else_by_biases(
    config: object, kind: str, shape: tuple[int, int], tmp_path: Path
) -> None:
    key = "transformer.h.0.attn.c_attn"
    save_file({f"{key}.weight": np.ones((16, 48)), f"{key}.bias": np.ones(48)}, tmp_path / "model.safetensors")
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    (layer,) = inspect(tmp_path).layers
    assert (layer.kind, layer.out_features, layer.in_features) == (kind, *shape)


def test_a_stack_of_experts_is_no_convolution_and_a_path_through_an_embedding_no_embedding(tmp_path: Path) -> None:
    tensors = {
        "model.layers.0.block_sparse_moe.input_linear.weight": np.ones((4, 24, 16)),
        "time_embedding.linear_1.weight": np.ones((32, 16)),
        "tok_emb.weight": np.ones((50, 16)),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    found = {layer.name: (layer.kind, layer.stack) for layer in inspect(tmp_path).layers}
    assert found == {
        "model.layers.0.block_sparse_moe.input_linear.weight": ("experts", 4),
        "time_embedding.linear_1": ("linear", 1),
        "tok_emb": ("embedding", 1),
    }


def weights_of(folder: Path, architecture: str) -> Path:
    """The same model with weights, in float16 and saved by transformers."""
    kind, sizes = ARCHITECTURES[architecture]
    model = getattr(transformers, architecture)(getattr(transformers, kind)(**sizes))
    model.half().save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "architecture", ["LlamaForCausalLM", "GPT2LMHeadModel", "GPTNeoXForCausalLM", "BertForMaskedLM"]
)
def test_headers_and_configuration_agree(tmp_path: Path, architecture: str) -> None:
    with_weights = inspect(weights_of(tmp_path / "weights", architecture))
    without = inspect(described(tmp_path / "config", architecture))
    assert (with_weights.basis, without.basis.split(",")[0]) == ("the shapes in the weight files", "config.json")
    assert with_weights.parameters == without.parameters
    alone = inspect(tmp_path / "weights" / "config.json")
    assert alone.basis == without.basis
    assert costs(with_weights) == costs(without)


@pytest.mark.parametrize(
    ("architecture", "constants"),
    [
        ("GPT2LMHeadModel", {"transformer.h.0.attn.bias": (1, 1, 8, 8), "transformer.h.0.attn.masked_bias": ()}),
        ("GPTNeoXForCausalLM", {"gpt_neox.layers.0.attention.bias": (1, 1, 8, 8)}),
        ("BertForMaskedLM", {"bert.embeddings.position_ids": (1, 512)}),
        ("LlamaForCausalLM", {"model.layers.0.self_attn.rotary_emb.inv_freq": (8,)}),
    ],
)
def test_constants_in_older_files_are_no_parameters(
    tmp_path: Path, architecture: str, constants: dict[str, tuple[int, ...]]
) -> None:
    folder = weights_of(tmp_path, architecture)
    before = inspect(folder)
    save_file(
        {name: np.zeros(shape, np.uint8) for name, shape in constants.items()}, folder / "model-1-of-1.safetensors"
    )
    assert inspect(folder) == before
    assert before.basis == "the shapes in the weight files"


def test_a_fused_qkv_belongs_to_qv(tmp_path: Path) -> None:
    save_file({"visual.blocks.0.attn.qkv.weight": np.zeros((24, 8), np.float32)}, tmp_path / "model.safetensors")
    assert [one.name for one in inspect(tmp_path).sets] == ["qv", "attention", "all-linear"]


def test_experts_stored_one_by_one_are_shown_as_they_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = described(tmp_path, "MixtralForCausalLM")
    tensors = {
        f"model.layers.0.block_sparse_moe.experts.{index}.w1.weight": np.zeros((96, 64), np.float16) for index in (0, 1)
    }
    save_file(tensors, folder / "model.safetensors")
    assert "meta device" in inspect(folder).basis
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = inspect(folder)
    assert found.basis == "the shapes in the weight files"
    assert any("transformers 5 stacks them" in note for note in found.notes)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "float8_e4m3fn"])
def test_packed_weights_are_told_by_their_configuration(tmp_path: Path, dtype: str) -> None:
    folder = described(tmp_path, "LlamaForCausalLM")
    packed = torch.zeros(2048, 1, dtype=getattr(torch, dtype))
    safetensors_of_torch.save_file({"model.layers.0.self_attn.q_proj.weight": packed}, folder / "model.safetensors")
    found = inspect(folder)
    assert "meta device" in found.basis
    assert {(row.out_features, row.in_features) for row in found.types if row.type == "q_proj"} == {(64, 64)}


def test_weights_need_no_torch(tmp_path: Path) -> None:
    save_file({"model.layers.0.mlp.up_proj.weight": np.zeros((8, 4), np.float32)}, tmp_path / "model.safetensors")
    code = (
        f"import sys; from lorarank.inspect import inspect; found = inspect({str(tmp_path)!r})\n"
        "assert found.sets[0].parameters_per_rank == 12\n"
        "print(sorted({'torch', 'transformers', 'peft', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_without_transformers_a_llama_is_told_and_another_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("torch", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    found = inspect(write_config(tmp_path / "llama", LLAMA_3_1_8B))
    assert costs(found)["all-linear"][8] == 20_971_520
    assert "without transformers" in found.basis
    with pytest.raises(ImportError, match=r"pip install 'lorarank\[probe\]'"):
        inspect(write_config(tmp_path / "bert", {"model_type": "bert"}))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "no model's configuration"),
        ('{"model_type": "no-such-thing"}', "builds no model"),
        ('{"model_type": "llama", "hidden_size": "x"}', "builds no model"),
        ("[]", "no model's configuration"),
        ('{"model_type": "bert", "num_hidden_layers": 1e9}', "layers"),
    ],
)
def test_configurations_that_are_none(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=says) as caught:
        inspect(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_adapter_and_an_empty_folder_are_no_models(make_adapter: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="neither weights nor config"):
        inspect(tmp_path)
    with pytest.raises(SourceError):
        inspect(tmp_path / "nowhere")
    folder = make_adapter()
    with pytest.raises(ModelError, match="it is an adapter"):
        inspect(folder)


def test_ranks_below_one_are_refused() -> None:
    with pytest.raises(OptionError, match="at least 1"):
        InspectOptions(rank=0)
    with pytest.raises(OptionError, match="empty"):
        InspectOptions(target=" , ")


def test_a_failure_of_the_skeleton_keeps_the_verbosity(tmp_path: Path) -> None:
    before = transformers.utils.logging.get_verbosity()
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError):
        skeleton.from_configuration(tmp_path)
    assert transformers.utils.logging.get_verbosity() == before
