"""Which modules get an adapter: never what PEFT refuses, text does not reach or the rank has no room in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from lorarank.errors import ModelError, OptionError
from lorarank.module_names import MAMBA_REFUSED, MAMBA_TYPES, module_type, peft_refuses
from lorarank.probe import ProbeOptions
from lorarank.probe import model as models
from lorarank.probe.modules import Aim, aim_at, resolve_targets, target_names
from lorarank.sweep import SweepOptions
from lorarank.sweep.options import said_of_a_sweep
from lorarank.sweep.stage import _fitted

SMALL: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
EXPERTS = {**SMALL, "num_experts_per_tok": 2}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 14,
}
CONFIGS = {
    "llama": lambda: transformers.LlamaConfig(**SMALL),
    "gpt2": lambda: transformers.GPT2Config(vocab_size=97, n_embd=32, n_layer=2, n_head=2, bos_token_id=0),
    "bloom": lambda: transformers.BloomConfig(vocab_size=97, hidden_size=32, n_layer=1, n_head=2),
    "mixtral": lambda: transformers.MixtralConfig(**EXPERTS, num_local_experts=4),
    "qwen2_moe": lambda: transformers.Qwen2MoeConfig(
        **EXPERTS, num_experts=4, moe_intermediate_size=32, shared_expert_intermediate_size=32
    ),
    "mamba": lambda: transformers.MambaConfig(vocab_size=97, hidden_size=32, state_size=4, num_hidden_layers=2),
    "gemma3": lambda: transformers.Gemma3Config(
        text_config=transformers.Gemma3TextConfig(**SMALL, head_dim=8).to_dict(),
        vision_config=VISION,
        mm_tokens_per_image=4,
    ),
}


def skeleton(name: str) -> Any:
    return models.skeleton(CONFIGS[name](), Path(name))


def options(**given: Any) -> ProbeOptions:
    return ProbeOptions("base", "train.jsonl", Path("run"), **given)


def kinds(aim: Aim) -> set[str]:
    return {module_type(name) for name in aim.shapes}


@pytest.mark.parametrize("name", ["llama", "gpt2", "bloom"])
def test_of_an_ordinary_model_nothing_is_left_out(name: str) -> None:
    model = skeleton(name)
    aim = resolve_targets(model, options(rank=16))
    assert aim.notes == ()
    assert set(aim.shapes) == {n for n, m in model.named_modules() if type(m).__name__ in ("Linear", "Conv1D")} - {
        "lm_head"
    }


@pytest.mark.parametrize("name", ["gemma3", "mamba", "mixtral", "qwen2_moe"])
def test_every_adapter_that_is_attached_learns(name: str) -> None:
    given, model = options(rank=2), skeleton(name)
    names = target_names(model, resolve_targets(model, given).shapes)
    torch.manual_seed(0)
    adapted = models.attach_adapter(transformers.AutoModelForCausalLM.from_config(CONFIGS[name]()), given, names)
    ids = torch.randint(1, 97, (2, 24))
    adapted(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    layers = models.lora_layers(adapted)
    assert layers
    for path, layer in layers.items():
        assert layer.lora_B[models.ADAPTER].weight.grad.abs().sum() > 0, path


def test_towers_that_text_does_not_reach_are_left_out_with_a_note() -> None:
    aim = resolve_targets(skeleton("gemma3"), options(rank=4, target="q_proj,v_proj"))
    assert all("vision" not in name for name in aim.shapes)
    (note,) = aim.notes
    assert note.startswith("Left out, since text does not go through them: q_proj, v_proj (model.vision_tower.")
    with pytest.raises(ModelError, match="no linear module that text goes through matches fc1"):
        resolve_targets(skeleton("gemma3"), options(rank=4, target="fc1"))


def test_a_gate_without_room_is_left_out_and_one_that_was_named_is_an_error() -> None:
    model = skeleton("qwen2_moe")
    aim = resolve_targets(model, options(rank=16))
    assert "shared_expert_gate" not in kinds(aim)
    assert "no room for r = 16: shared_expert_gate (model.layers.0.mlp.shared_expert_gate, 1×32, " in " ".join(
        aim.notes
    )
    assert "shared_expert_gate" in kinds(resolve_targets(model, options(rank=1)))
    with pytest.raises(OptionError, match="no update of it has a rank above 16"):  # keys and values are no little thing
        resolve_targets(model, options(rank=17))
    with pytest.raises(OptionError, match="no update of it has a rank above 1"):
        resolve_targets(model, options(rank=2, target="q_proj,shared_expert_gate"))


def test_a_sweep_goes_as_far_as_there_is_room_beside_gates() -> None:
    told: list[str] = []
    given = SweepOptions("base", "train.jsonl", Path("sweep"))
    assert _fitted(given, aim_at(skeleton("qwen2_moe"), "all-linear").tightest, told.append).ladder == (1, 2, 4, 8, 16)
    named = SweepOptions("base", "train.jsonl", Path("sweep"), target="shared_expert_gate")
    with (
        pytest.raises(OptionError, match=r"^--target shared_expert_gate: .* 1×32, .*takes two or more ranks"),
        said_of_a_sweep(),
    ):
        _fitted(named, aim_at(skeleton("qwen2_moe"), named.target).tightest, told.append)


def test_stacked_experts_are_told_of() -> None:
    (note,) = resolve_targets(skeleton("mixtral"), options(rank=8)).notes
    assert note.startswith("Its experts are stacked in parameters (model.layers.0.mlp.experts.gate_up_proj, ")
    assert resolve_targets(skeleton("mixtral"), options(rank=8, target="attention")).notes == ()


def test_what_peft_refuses_in_mamba_models_is_left_out() -> None:
    aim = resolve_targets(skeleton("mamba"), options(rank=8))
    assert kinds(aim) == {"in_proj", "x_proj"}
    assert aim.notes[0].startswith("Left out, since PEFT refuses them in Mamba models: out_proj (")
    with pytest.raises(OptionError, match=r"^--target out_proj: PEFT refuses it in Mamba models"):
        resolve_targets(skeleton("mamba"), options(rank=8, target="in_proj,out_proj"))


@pytest.mark.parametrize("model_type", sorted({*MAMBA_TYPES, "opt"}))
def test_peft_refuses_just_these(model_type: str) -> None:
    from peft import LoraConfig
    from peft.tuners.tuners_utils import _check_lora_target_modules_mamba as check

    model = torch.nn.Module()
    model.config = transformers.PreTrainedConfig()
    model.config.model_type = model_type
    for name in (*MAMBA_REFUSED, "in_proj"):
        if peft_refuses(name, model_type):
            with pytest.raises(ValueError, match="incompatible"):
                check(LoraConfig(), model, name)
        else:
            check(LoraConfig(), model, name)
