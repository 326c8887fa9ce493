"""What a tensor is the weight of, which way round it is stored, and what PEFT makes of a LoRA for it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from lorarank import adapters
from lorarank.fine_tune import FineTune, compare_models, extract
from lorarank.layer_kinds import kind_of
from lorarank.report.fine_tune import lay_extraction
from lorarank.report.page import Page
from lorarank.report.plain import laid_out

Changed = Callable[..., tuple[Path, Path]]

Q = "model.layers.0.self_attn.q_proj.weight"

GPT2 = {
    "h.0.attn.c_attn.weight": (16, 48),
    "h.0.attn.c_attn.bias": (48,),
    "h.0.attn.c_proj.weight": (16, 16),
    "h.0.mlp.c_proj.weight": (64, 16),
}


def shapes(found: FineTune) -> dict[str, tuple[int, int]]:
    return {update.name: (update.out_features, update.in_features) for update in found.updates}


def kinds(found: FineTune) -> dict[str, str]:
    return {update.name: update.kind for update in found.updates}


def test_matrices_that_are_no_layers_weights_are_measured(changed: Changed, tmp_path: Path) -> None:
    base, tuned = changed(
        {
            "visual.conv1.weight": (16, 3, 4, 4),
            "visual.proj": (16, 8),
            "visual.attn.in_proj_weight": (48, 16),
            "rnn.weight_ih_l0": (64, 16),
            "dec.parametrizations.weight.original1": (16, 4, 8),
            "positional_embedding": (1, 8, 16),
            "class_embedding": (1, 1, 16),
            "visual.attn.out_proj.weight": (16, 16),
        }
    )
    found = compare_models(base, tuned)
    assert kinds(found) == {
        "visual.conv1": "convolution",
        "visual.proj": "parameter",
        "visual.attn.in_proj_weight": "parameter",
        "rnn.weight_ih_l0": "parameter",
        "dec.parametrizations.weight.original1": "parameter",
        "positional_embedding": "embedding",
        "visual.attn.out_proj": "linear",
    }
    assert shapes(found)["positional_embedding"] == (8, 16)
    assert shapes(found)["dec.parametrizations.weight.original1"] == (16, 32)
    assert found.vectors == 1
    (outside,) = (one.message for one in found.findings if one.code == "LR042")
    assert outside.endswith("embeddings, heads, norms, biases, convolutions and parameters of no layer.")
    done = extract(base, tuned, tmp_path / "lora", 2)
    assert [one.name for one in done.modules] == ["visual.attn.out_proj"]
    assert "norms, biases, convolutions and parameters of no layer" in laid_out(Page(200), lay_extraction, done)


@pytest.mark.parametrize(
    "key", ["model.layers.0.mlp.experts.down_proj", "model.layers.0.block_sparse_moe.output_linear.weight"]
)
def test_a_stack_of_experts_is_measured_expert_by_expert(key: str, changed: Changed, tmp_path: Path) -> None:
    base, tuned = changed({key: (3, 8, 12), f"{key}_bias": (3, 8), Q: (16, 16)}, same="bias")
    found = compare_models(base, tuned)
    before, after = (load_file(folder / "model.safetensors")[key] for folder in (base, tuned))
    experts = [update for update in found.updates if update.kind == "experts"]
    assert [update.name for update in experts] == [f"{key.removesuffix('.weight')}[{index}]" for index in range(3)]
    assert {update.type for update in experts} == {key.removesuffix(".weight").rpartition(".")[2]}
    for update, one, other in zip(experts, before, after, strict=True):
        assert update.singular_values == pytest.approx(np.linalg.svd(other - one, compute_uv=False), rel=1e-9)
    done = extract(base, tuned, tmp_path / "lora", 2)
    assert done.outside == ("experts",)
    rest = np.square(after - before).sum()
    assert done.left_out == pytest.approx(rest / (rest + done.modules[0].norm ** 2))


def test_starcoder_has_the_names_of_gpt2_and_its_weights_the_usual_way_round(tmp_path: Path) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    peft = pytest.importorskip("peft")
    config = transformers.GPTBigCodeConfig(vocab_size=20, n_positions=8, n_embd=16, n_layer=1, n_head=2)
    model = transformers.GPTBigCodeForCausalLM(config)
    model.save_pretrained(tmp_path / "base")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2 and ".h." in name:
                parameter += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(tmp_path / "tuned")
    assert shapes(compare_models(tmp_path / "base", tmp_path / "tuned"))["transformer.h.0.attn.c_attn"] == (32, 16)
    extract(tmp_path / "base", tmp_path / "tuned", tmp_path / "lora", 16)
    again = transformers.GPTBigCodeForCausalLM.from_pretrained(tmp_path / "base")
    merged = peft.PeftModel.from_pretrained(again, tmp_path / "lora").merge_and_unload()
    weights = merged.state_dict()
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weights[name], weight, rtol=0, atol=1e-5)


@pytest.mark.parametrize("where", ["tuned", "nowhere"])
def test_gpt2_is_told_by_the_other_configuration_or_its_biases(where: str, changed: Changed) -> None:
    base, tuned = changed(GPT2, {"model_type": "gpt2"})
    (base / "config.json").unlink()
    if where == "nowhere":
        (tuned / "config.json").unlink()
    found = shapes(compare_models(base / "model.safetensors", tuned))
    assert found == {"h.0.attn.c_attn": (48, 16), "h.0.attn.c_proj": (16, 16), "h.0.mlp.c_proj": (16, 64)}


@pytest.mark.parametrize(
    ("config", "key", "shape"),
    [
        ({"model_type": "vision-encoder-decoder", "decoder": {"model_type": "gpt2"}}, "encoder.attn.c_attn", (16, 48)),
        ({"model_type": "vision-encoder-decoder", "decoder": {"model_type": "gpt2"}}, "decoder.attn.c_attn", (48, 16)),
        ({"model_type": "x", "text_config": {"model_type": "gpt2"}}, "text.h.0.attn.c_attn", (48, 16)),
        ({"model_type": "decision_transformer"}, "encoder.h.0.attn.c_attn", (48, 16)),
        ({"model_type": "decision_transformer"}, "predict_action.0", (16, 48)),
        ({"model_type": ["gpt2"], "decoder": {"model_type": {}}}, "h.0.attn.c_attn", (16, 48)),
    ],
)
def test_only_conv1d_is_turned(config: Any, key: str, shape: tuple[int, int], changed: Changed, tmp_path: Path) -> None:
    base, tuned = changed({f"{key}.weight": (16, 48)}, config)
    assert shapes(compare_models(base, tuned)) == {key: shape}
    extract(base, tuned, tmp_path / "lora", 2)
    (module,) = adapters.open(tmp_path / "lora").modules
    assert (module.out_features, module.in_features) == shape
    written = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert written["fan_in_fan_out"] is (shape == (48, 16))


def test_buffers_are_no_weights(changed: Changed) -> None:
    alike = {
        "text_model.embeddings.position_ids": np.arange(8)[None],
        "layer1.0.bn1.num_batches_tracked": np.array(7),
        "mask": np.ones((4, 4), bool),
        "rotary_emb.inv_freq": np.ones(4),
    }
    found = compare_models(*changed({Q: (16, 16)}, alike=alike))
    assert (found.skipped, found.findings, found.unchanged, found.vectors) == ((), (), 0, 0)


LINEAR = (
    "model.vision_embed_tokens.img_processor.layers.0.self_attn.q_proj",
    "time_embedding.linear_1",
    "x_embedder",
    "context_embedder",
    "time_text_embed.timestep_embedder.linear_1",
    "resnets.0.time_emb_proj",
    "embeddings_project",
)
EMBEDDINGS = (
    *("tok_emb", "token_embd", "model.embed_tokens", "wte", "shared", "embeddings.word_embeddings"),
    *("decoder.embed_tokens.0", "tokens_embed", "model.embedder", "y.embedding_table"),
)


def test_an_embedding_is_told_by_the_end_of_its_path(changed: Changed) -> None:
    keys = (*LINEAR, *EMBEDDINGS, "output", "lm_head.dense", "mlp.router", "attention.output.dense")
    found = kinds(compare_models(*changed({f"{key}.weight": (16, 16) for key in keys})))
    assert {name for name, kind in found.items() if kind == "linear"} == {*LINEAR, "attention.output.dense"}
    assert {name for name, kind in found.items() if kind == "embedding"} == set(EMBEDDINGS)
    assert (found["output"], found["lm_head.dense"], found["mlp.router"]) == ("head", "head", "router")


def targets(folder: Path) -> list[str]:
    found: list[str] = json.loads((folder / "adapter_config.json").read_text())["target_modules"]
    return found


def test_no_target_is_a_container(changed: Changed, tmp_path: Path) -> None:
    extract(*changed({"proj.0.weight": (16, 16), "proj.2.weight": (16, 16)}), tmp_path / "lora", 2)
    assert targets(tmp_path / "lora") == ["proj.0", "proj.2"]


def test_no_target_hits_a_module_that_did_not_change(changed: Changed, tmp_path: Path) -> None:
    extract(*changed({"a.proj.weight": (16, 16), "b.proj.0.weight": (16, 16)}, same="b."), tmp_path / "lora", 2)
    assert targets(tmp_path / "lora") == ["a.proj"]


def test_a_name_made_to_take_long_takes_no_time() -> None:
    start = time.process_time()
    assert kind_of("emb_" * 240 + "!.weight", (2, 2)) == "linear"
    for _ in range(1000):
        kind_of("emb_" * 240 + "!.weight", (2, 2))
    assert time.process_time() - start < 1
