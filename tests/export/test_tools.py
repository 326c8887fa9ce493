"""Every tool gets keys that it reads, with the values of the recommendation."""

from __future__ import annotations

import ast
import importlib
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorarank.errors import OptionError
from lorarank.export import TOOLS, Exported
from lorarank.export.options import WITH_PATTERNS
from lorarank.heuristics import QLORA_BASE
from lorarank.report.exported import to_text

Make = Callable[..., Path]
Export = Callable[..., Exported]
Text = Callable[..., str]
Found = Callable[..., dict[str, Any]]
TARGETS = ["down_proj", "k_proj", "q_proj"]

UNEQUAL = {
    "model.layers.0.self_attn.q_proj": (48, 64, (4.0, 3.9, 3.8, 3.7)),
    "model.layers.0.self_attn.k_proj": (32, 64, (4.0, 0.1)),
    "model.layers.0.mlp.down_proj": (64, 96, (4.0, 3.0)),
}
"""Modules that need different ranks."""


def _keys(text: str) -> frozenset[str]:
    return frozenset(text.split())


KEYS: dict[str, frozenset[str]] = {
    # src/axolotl/utils/schemas/{peft,model,training,config,quantization}.py at 067b021 of 2026-07-24: fields of
    # AxolotlInputConfig that concern a LoRA
    "axolotl": _keys(
        "base_model adapter load_in_4bit load_in_8bit bf16 lora_r lora_alpha lora_dropout lora_target_modules "
        "lora_target_parameters lora_target_linear lora_fan_in_fan_out lora_rank_pattern lora_alpha_pattern "
        "lora_modules_to_save peft_layers_to_transform peft_layers_pattern peft_use_dora peft_use_rslora "
        "peft_init_lora_weights learning_rate lr_scheduler"
    ),
    # src/llamafactory/hparams/finetuning_args.py and model_args.py at ff6d4d1 of 2026-08-18, and TrainingArguments
    "llamafactory": _keys(
        "model_name_or_path stage do_train finetuning_type lora_rank lora_alpha lora_dropout lora_target use_rslora "
        "use_dora additional_target quantization_bit quantization_method quantization_type double_quantization bf16 "
        "learning_rate lr_scheduler_type"
    ),
    # torchtune/models/*/_model_builders.py at bd2a0fc of 2026-04-23: parameters of the lora_ builders
    "torchtune": _keys(
        "lora_attn_modules apply_lora_to_mlp apply_lora_to_output lora_rank lora_alpha lora_dropout use_dora "
        "quantize_base"
    ),
    # mlx_lm/lora.py at d78bf58 of 2026-08-22: CONFIG_DEFAULTS
    "mlx": _keys(
        "model train fine_tune_type optimizer optimizer_config data seed num_layers batch_size iters val_batches "
        "learning_rate steps_per_report steps_per_eval resume_adapter_file adapter_path save_every test test_batches "
        "max_seq_length config grad_checkpoint grad_accumulation_steps clear_cache_threshold lr_schedule "
        "lora_parameters mask_prompt report_to project_name trust_remote_code"
    ),
    # unsloth/models/llama.py and vision.py at 015bdef of 2026-08-22: get_peft_model, whose **kwargs go to LoraConfig
    "unsloth": _keys(
        "r target_modules lora_alpha lora_dropout bias layers_to_transform layers_pattern finetune_last_n_layers "
        "use_gradient_checkpointing random_state max_seq_length use_rslora modules_to_save init_lora_weights "
        "loftq_config temporary_location qat_scheme target_parameters ensure_weight_tying "
        "rank_pattern alpha_pattern use_dora exclude_modules"
    ),
    # docs/features/lora.md at 05863f1 and docs/features/quantization/bnb.md at 03c1ab5: options of vllm serve
    "vllm": frozenset({"--enable-lora", "--max-lora-rank", "--lora-modules", "--quantization"}),
}
"""Recorded keys, for the tools that do not come with the tests."""

VLLM_RANKS = {1, 8, 16, 32, 64, 128, 256, 320, 512}
"""MaxLoRARanks of vllm/config/lora.py at a78dc92."""


@pytest.mark.parametrize("tool", TOOLS)
def test_each_tool_names_the_pages_of_its_keys(tool: str) -> None:
    head = importlib.import_module(f"lorarank.export.tools.{tool}").__doc__ or ""
    assert "https://" in head


def arguments_of(text: str, function: str) -> dict[str, str]:
    """Keyword arguments of the call of a function, as source."""
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    (call,) = (node for node in calls if ast.unparse(node.func) == function)
    return {str(keyword.arg): ast.unparse(keyword.value) for keyword in call.keywords}


def test_peft_builds_the_configuration(make_run: Make, ran: Found) -> None:
    peft = pytest.importorskip("peft")
    config = ran(make_run(), "peft")["peft_config"]
    assert config == peft.LoraConfig(
        task_type="CAUSAL_LM", r=2, lora_alpha=4, lora_dropout=0.05, target_modules=TARGETS, bias="none"
    )


def test_peft_builds_a_rank_for_each_module(make_run: Make, exported: Export, ran: Found) -> None:
    pytest.importorskip("peft")
    run = make_run(UNEQUAL)
    config = ran(run, "peft", per_module=True)["peft_config"]
    ranks = set(config.rank_pattern.values()) | {config.r}
    assert len(ranks) > 1
    scalings = {config.alpha_pattern.get(key, config.lora_alpha) / rank for key, rank in config.rank_pattern.items()}
    assert scalings <= {config.lora_alpha / config.r}
    uniform = exported(run, "peft").settings
    spent = [note for note in exported(run, "peft", per_module=True).notes if "parameters of" in note]
    assert f"of {uniform.r * (112 + 96 + 160):,}." in spent[0]


@pytest.mark.filterwarnings("ignore::FutureWarning")  # TRL 1.16 asks for a name that transformers 5.24 deprecates
def test_trl_builds_both_objects(make_run: Make, text_of: Text) -> None:
    pytest.importorskip("peft")
    trl = pytest.importorskip("trl")
    found: dict[str, Any] = {}
    exec(text_of(make_run(), "trl").replace("= SFTConfig(", "= SFTConfig(bf16=False, "), found)  # bf16 needs a GPU
    assert (found["peft_config"].r, found["peft_config"].target_modules) == (2, set(TARGETS))
    assert isinstance(found["args"], trl.SFTConfig)
    assert (found["args"].learning_rate, found["args"].lr_scheduler_type) == (2e-3, "linear")


@pytest.mark.parametrize("tool", ["peft", "trl"])
def test_the_4_bit_base_is_that_of_the_table(make_run: Make, tool: str, text_of: Text) -> None:
    text = text_of(make_run(), tool, qlora=True)
    given = arguments_of(text, "BitsAndBytesConfig")
    assert given == {
        name: f"torch.{value}" if name.endswith("dtype") else repr(value)
        for name, value in QLORA_BASE.items()
        if name != "device_map"
    }
    assert arguments_of(text, "AutoModelForCausalLM.from_pretrained")["device_map"] == "'auto'"


def test_the_4_bit_base_is_built(make_run: Make, text_of: Text) -> None:
    pytest.importorskip("bitsandbytes")
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    tree = ast.parse(text_of(make_run(), "peft", qlora=True))
    tree.body = [node for node in tree.body if "BitsAndBytesConfig(" in ast.unparse(node)]
    found: dict[str, Any] = {"torch": torch, "BitsAndBytesConfig": transformers.BitsAndBytesConfig}
    exec(ast.unparse(tree), found)
    made = found["quantization_config"]
    assert (made.bnb_4bit_quant_type, made.bnb_4bit_use_double_quant) == ("nf4", True)
    assert made.bnb_4bit_compute_dtype == torch.bfloat16


def test_axolotl(make_run: Make, loaded: Found) -> None:
    document = loaded(make_run(), "axolotl")
    assert document == {
        "base_model": "base",
        "adapter": "lora",
        "lora_r": 2,
        "lora_alpha": 4,
        "lora_dropout": 0.05,
        "lora_target_modules": TARGETS,
        "learning_rate": 0.002,
        "lr_scheduler": "linear",
    }
    four = loaded(make_run(UNEQUAL, name="four"), "axolotl", qlora=True, per_module=True)
    assert four.keys() <= KEYS["axolotl"]
    assert (four["adapter"], four["load_in_4bit"], four["bf16"]) == ("qlora", True, True)
    assert four["lora_rank_pattern"].keys() == four["lora_alpha_pattern"].keys()


def test_llamafactory(make_run: Make, loaded: Found) -> None:
    document = loaded(make_run(), "llamafactory", qlora=True)
    assert document.keys() <= KEYS["llamafactory"]
    assert (document["lora_rank"], document["lora_alpha"], document["lora_target"]) == (2, 4, "down_proj,k_proj,q_proj")
    assert (document["quantization_bit"], document["quantization_type"]) == (4, "nf4")
    assert document["double_quantization"] is document["bf16"] is True


def test_unsloth(make_run: Make, text_of: Text) -> None:
    text = text_of(make_run(UNEQUAL), "unsloth", per_module=True)
    given = arguments_of(text, "FastLanguageModel.get_peft_model")
    assert given.keys() <= KEYS["unsloth"]
    assert given["target_modules"] == repr(TARGETS)
    assert arguments_of(text, "FastLanguageModel.from_pretrained") == {"model_name": "'base'", "load_in_4bit": "False"}
    assert "load_in_4bit=True" in text_of(make_run(name="four"), "unsloth", qlora=True)


def test_torchtune(make_run: Make, make_adapter: Make, exported: Export) -> None:
    found = exported(make_run(), "torchtune")
    assert isinstance(found.document, dict)
    assert found.document["model"].keys() <= KEYS["torchtune"]
    assert found.document["model"]["lora_attn_modules"] == ["q_proj", "k_proj"]
    assert found.document["model"]["apply_lora_to_mlp"] is True
    assert any("whole MLPs or none" in note for note in found.notes)
    assert any("_component_" in note for note in found.notes)
    gpt = make_adapter(modules={"h.0.attn.c_attn": (48, 16, (1.0,))})
    with pytest.raises(OptionError, match="it has no LoRA for c_attn"):
        exported(gpt, "torchtune")


def test_mlx(make_run: Make, loaded: Found) -> None:
    document = loaded(make_run(), "mlx")
    assert document.keys() <= KEYS["mlx"]
    assert document["lora_parameters"] == {
        "keys": ["mlp.down_proj", "self_attn.k_proj", "self_attn.q_proj"],
        "rank": 2,
        "scale": 2.0,
        "dropout": 0.05,
    }
    assert document["num_layers"] < 1


@pytest.mark.parametrize("tool", [tool for tool in TOOLS if tool not in ("peft", "vllm")])
def test_the_linear_schedule_is_written_or_said_to_be_left_out(
    make_run: Make, make_adapter: Make, tool: str, exported: Export
) -> None:
    found = exported(make_run(), tool)
    left = [note for note in found.notes if "left out, so the" in note and "schedule" in note]
    assert any("with a linear schedule" in note for note in found.notes)
    written = "linear" in to_text(found).partition("\n\n")[2]
    assert (len(left), written) == ((1, False) if tool in ("mlx", "torchtune") else (0, True))
    if tool == "mlx":
        assert "arguments: [0.002, 0.0, STEPS]" in left[0]
    assert not any("schedule" in note for note in exported(make_adapter(), tool).notes[1:])  # it has no learning rate


@pytest.mark.parametrize(("rank", "allowed"), [(1, 1), (2, 8), (8, 8), (9, 16), (300, 320), (512, 512)])
def test_vllm_gets_an_allowed_rank(make_run: Make, rank: int, allowed: int, exported: Export, text_of: Text) -> None:
    found = exported(make_run(), "vllm", rank=rank, qlora=True)
    assert isinstance(found.document, tuple)
    words = shlex.split(text_of(make_run(name="again"), "vllm", rank=rank).splitlines()[-1])
    assert {word for word in found.document if word.startswith("--")} == KEYS["vllm"]
    assert int(words[words.index("--max-lora-rank") + 1]) == allowed in VLLM_RANKS
    assert any("smallest value" in note for note in found.notes) == (rank != allowed)


@pytest.mark.parametrize("tool", ["axolotl", "llamafactory", "mlx", "unsloth", "vllm"])
def test_a_base_that_would_be_an_option_is_none(make_adapter: Make, tool: str, exported: Export, text_of: Text) -> None:
    folder = make_adapter(config={"base_model_name_or_path": "--api-key=x"})
    found = exported(folder, tool)
    assert "--api-key" not in text_of(folder, tool)
    assert any("replace BASE_MODEL" in note for note in found.notes)


def test_vllm_serves_no_larger_rank(make_run: Make, exported: Export) -> None:
    with pytest.raises(OptionError, match="serves up to 512"):
        exported(make_run(), "vllm", rank=513)


@pytest.mark.parametrize("tool", TOOLS)
def test_a_rank_for_each_module_is_for_tools_that_have_it(make_run: Make, tool: str, exported: Export) -> None:
    run = make_run(UNEQUAL)
    found = exported(run, tool, per_module=True)
    has = "rank_pattern" in found.settings.lora
    assert has == (tool in WITH_PATTERNS)
    assert any("--per-module is left out" in note for note in found.notes) != has
    if not has:
        # the recommended rank, not the most frequent of an allocation
        assert found.settings.lora == exported(run, tool).settings.lora


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("options", [{}, {"qlora": True}], ids=str)
def test_the_whole_text(
    make_run: Make, golden: Callable[[str, str], None], tool: str, options: dict[str, Any], text_of: Text
) -> None:
    mlp = {f"model.layers.{n}.mlp.{kind}_proj": (24, 24, (4.0, 1.0)) for n in (0, 1) for kind in ("gate", "up", "down")}
    attention = {f"model.layers.{n}.self_attn.{kind}_proj": (24, 24, (4.0, 1.0)) for n in (0, 1) for kind in "qkvo"}
    name = f"{tool}{''.join(f'-{key}' for key in options)}.txt"
    golden(name, text_of(make_run(mlp | attention), tool, **options))
