"""Runs and adapters: what is recommended, what was trained with, what is refused; and the command."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

import lorarank
from lorarank import adapters, runs
from lorarank.cli import main
from lorarank.errors import OptionError, RefusedError
from lorarank.estimate import EstimateOptions, recommend
from lorarank.export import TOOLS, Exported, ExportOptions, export
from lorarank.report.recommended import lora_config

Make = Callable[..., Path]
Export = Callable[..., Exported]
Text = Callable[..., str]
Found = Callable[..., dict[str, Any]]

OWN: dict[str, Any] = {
    "use_rslora": True,
    "use_dora": True,
    "lora_dropout": 0.1,
    "modules_to_save": ["lm_head"],
    "rank_pattern": {"layers.0.self_attn.q_proj": 8},
    "layers_to_transform": [0, 1],
    "target_modules": ["q_proj", "k_proj", "down_proj"],
}


def test_a_run_exports_what_estimate_prints(make_run: Make, text_of: Text) -> None:
    run = make_run()
    for options, budget in (({}, None), ({"per_module": True, "budget": 1500}, 1500)):
        answer = recommend(run, EstimateOptions(budget=budget))
        assert answer.config is not None
        text = text_of(run, "peft", **options)
        shown = next(node for node in ast.parse(text).body if isinstance(node, ast.Assign))
        assert ast.unparse(shown.value) == ast.unparse(ast.parse(lora_config(answer.config)).body[0])
        assert f"r = {answer.r} (" in text


def test_what_is_asked_of_an_estimate_is_asked_of_an_export(make_run: Make, exported: Export) -> None:
    run = make_run(r=32, companion=(0.04, 0.0), excesses={k: 0.08 / k - 1e-6 for k in (1, 2, 4, 8, 16)})
    for allowed, r in ((0.01, 4), (0.02, 2)):
        found = exported(run, "peft", keep_loss=allowed, tokens=10**6)
        answer = recommend(run, EstimateOptions(keep_loss=allowed, tokens=10**6))
        assert found.settings.r == answer.r == r
        assert ("where 2% of the gain may be lost" in found.notes[0]) == (allowed == 0.02)


@pytest.mark.parametrize(("given", "option"), [({"keep_loss": 0.02}, "--keep-loss"), ({"tokens": 5}, "--tokens")])
def test_what_an_estimate_is_asked_goes_with_no_rank_and_no_adapter(
    given: dict[str, Any], option: str, make_adapter: Make, exported: Export
) -> None:
    with pytest.raises(OptionError, match=f"{option}: --rank sets the rank already"):
        ExportOptions("peft", rank=4, **given)
    with pytest.raises(OptionError, match=f"{option}: an adapter is exported as it was trained"):
        exported(make_adapter(), "peft", **given)


def refused(make_run: Make) -> Path:
    return make_run(heldout={"gains": (runs.Loss(-1.0, 0.1),)}, name="refused")


def test_a_refusal_exports_nothing_unless_a_rank_is_given(make_run: Make, tmp_path: Path, exported: Export) -> None:
    run = refused(make_run)
    with pytest.raises(RefusedError, match="--rank"):
        exported(run, "peft")
    output = tmp_path / "lora.py"
    result = CliRunner().invoke(main, ["export", str(run), "--to", "peft", "-o", str(output)])
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (3, "", 1)
    assert not output.exists()
    found = exported(run, "peft", rank=4)
    assert found.settings.r == 4
    assert "no recommendation" in found.notes[0]


def test_a_rank_far_from_the_probes_is_doubted(make_run: Make, exported: Export) -> None:
    run = make_run()
    notes = " ".join(exported(run, "peft", rank=512).notes)
    assert "lora_alpha = 512 beside the probe's 32 asks for a rate of " in notes
    assert "a factor of 2 at most, so tune it." in notes
    assert "no update of it has a rank above " in notes
    near = " ".join(exported(run, "peft", rank=8).notes)
    assert "asks for a rate" not in near
    assert "above" not in near


def test_an_adapter_exports_what_it_was_trained_with(make_adapter: Make, exported: Export, ran: Found) -> None:
    pytest.importorskip("peft")
    folder = make_adapter(r=8, alpha=16, config=OWN)
    config = ran(folder, "peft")["peft_config"]
    for name, value in OWN.items():
        stored = getattr(config, name)
        assert (sorted(stored) if isinstance(stored, set) else stored) == (
            sorted(value) if name == "target_modules" else value
        ), name
    assert (config.r, config.lora_alpha) == (8, 16)
    assert "was trained with; it is no recommendation" in exported(folder, "peft").notes[0]


@pytest.mark.parametrize(
    ("tool", "says"),
    [
        ("axolotl", []),
        ("unsloth", ["hands rank_pattern, use_dora on"]),
        ("llamafactory", ["one rank for all modules: rank_pattern (1 modules)", "layers_to_transform = [0, 1]"]),
        ("mlx", ["one rank for all", "modules_to_save"]),
        ("torchtune", ["one rank for all", "use_rslora = True", "modules_to_save"]),
    ],
)
def test_what_a_tool_cannot_express_is_said(make_adapter: Make, tool: str, says: list[str], exported: Export) -> None:
    notes = exported(make_adapter(r=8, alpha=16, config=OWN), tool).notes
    for words in says:
        assert any(words in note for note in notes), notes
    if not says:
        assert len(notes) == 1


def test_vllm_declines_what_it_would_not_load(make_adapter: Make, exported: Export) -> None:
    with pytest.raises(OptionError, match="it refuses an adapter with use_dora or modules_to_save"):
        exported(make_adapter(r=8, alpha=16, config=OWN), "vllm")
    own = OWN | {"use_dora": False, "modules_to_save": None}
    with pytest.raises(OptionError, match=r"it refuses an adapter with bias\."):
        exported(make_adapter(r=8, alpha=16, config=own | {"bias": "all"}, name="biased"), "vllm")
    notes = exported(make_adapter(r=8, alpha=16, config=own, name="plain"), "vllm").notes
    assert any("ignores rank_pattern" in note for note in notes)


UNET = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k"
FLUX = "transformer.single_transformer_blocks.7.proj_out"
LLAMA = "model.layers.0.self_attn.q_proj"
OTHERS: dict[str, tuple[str | None, tuple[str, ...], str]] = {
    "unet": (None, (UNET,), "an image model"),
    "unet with a task": ("CAUSAL_LM", (UNET,), "an image model"),
    "kohya": (
        None,
        ("lora_unet_down_blocks_0_attentions_0_proj_in", "lora_te_text_model_layers_0_fc1"),
        "an image model",
    ),
    "flux": (None, (FLUX,), "an image model"),
    "sd3": (None, ("transformer_blocks.0.attn.to_q", "transformer_blocks.0.attn.add_k_proj"), "an image model"),
    "convnext": (None, ("stages.0.blocks.0.mlp.fc1",), "an image model"),
    "bert": (None, ("bert.encoder.layer.0.attention.self.query",), "an encoder"),
    "whisper": (
        None,
        ("model.encoder.layers.0.self_attn.q_proj", "model.decoder.layers.0.self_attn.q_proj"),
        "a decoder",
    ),
    "bart": (None, ("model.decoder.layers.0.encoder_attn.q_proj",), "a decoder"),
    "t5": (None, ("decoder.block.0.layer.1.EncDecAttention.q",), "a decoder"),
    **{
        task: (task, (LLAMA,), f"its task_type is {task}")
        for task in ("SEQ_CLS", "SEQ_2_SEQ_LM", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION")
    },
}
"""Adapters of other models: their task, their modules, and what is said."""

CAUSAL: dict[str, tuple[str, ...]] = {
    "llama": (LLAMA,),
    "gpt2": ("transformer.h.0.attn.c_attn",),
    "neox": ("gpt_neox.layers.0.attention.query_key_value",),
    "opt": ("model.decoder.layers.0.self_attn.q_proj",),
    "chatglm": ("transformer.encoder.layers.0.self_attention.query_key_value",),
    "mixture": ("model.layers.0.block_sparse_moe.experts.0.w1", "model.layers.0.mlp.experts.3.up_proj"),
    "mpt": ("transformer.blocks.0.attn.Wqkv",),
    "own": ("transformer_blocks.0.attn.q_proj", "blocks.0.ff.up"),
    "with an image tower": (LLAMA, "visual.blocks.0.attn.qkv", "vision_tower.vision_model.encoder.layers.0.fc1"),
    "with a diffusion head": (LLAMA, "model.layers.1.mlp.up_proj", "dit.transformer_blocks.0.attn.to_q"),
    "unknown": ("w_000", "w_001"),
}
"""Adapters of causal language models, or such as cannot be told, without a task."""


def of_modules(make_adapter: Make, names: tuple[str, ...], task: str | None) -> Path:
    return make_adapter(modules=dict.fromkeys(names, (24, 16, (1.0,))), r=8, alpha=16, config={"task_type": task})


@pytest.mark.parametrize("tool", [tool for tool in TOOLS if tool not in ("peft", "trl")])
@pytest.mark.parametrize("name", OTHERS)
def test_other_models_are_declined_where_only_causal_ones_go(
    make_adapter: Make, name: str, tool: str, exported: Export
) -> None:
    task, names, shown = OTHERS[name]
    folder = of_modules(make_adapter, names, task)
    with pytest.raises(OptionError, match=rf"^--to {tool}: .* not for one: .*{shown}\. Take --to peft\.$"):
        exported(folder, tool)


@pytest.mark.parametrize("name", CAUSAL)
def test_causal_models_are_declined_by_none(make_adapter: Make, name: str, exported: Export) -> None:
    folder = of_modules(make_adapter, CAUSAL[name], None)
    for tool in TOOLS:
        if tool != "torchtune":  # it knows its own names alone
            notes = exported(folder, tool, qlora=True).notes
            assert not any("no causal" in note for note in notes), notes


def test_other_models_go_with_peft_and_trl_says_so(make_adapter: Make, exported: Export) -> None:
    folder = of_modules(make_adapter, (UNET,), None)
    assert exported(folder, "peft").settings.lora["target_modules"] == ["to_k"]
    assert len(exported(folder, "peft").notes) == 1
    assert any("put its class for AutoModelForCausalLM" in note for note in exported(folder, "peft", qlora=True).notes)
    assert any("SFTTrainer is for language models" in note for note in exported(folder, "trl").notes)


def test_the_command_declines_other_models_in_one_line(make_adapter: Make) -> None:
    folder = of_modules(make_adapter, (FLUX,), None)
    result = CliRunner().invoke(main, ["export", str(folder), "--to", "axolotl"])
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
    assert "--to peft" in result.stderr


def test_rank_stabilised_scaling_is_mlx_s_scale(make_adapter: Make, loaded: Found) -> None:
    folder = make_adapter(r=16, alpha=32, config={"use_rslora": True})
    assert loaded(folder, "mlx")["lora_parameters"]["scale"] == 8.0


def test_a_regular_expression_becomes_paths_where_a_tool_takes_names(make_adapter: Make, loaded: Found) -> None:
    folder = make_adapter(config={"target_modules": r".*\.(q|k|down)_proj"})
    assert loaded(folder, "axolotl")["lora_target_modules"] == r".*\.(q|k|down)_proj"
    named = loaded(folder, "llamafactory")["lora_target"].split(",")
    assert "model.layers.1.self_attn.q_proj" in named
    assert len(named) == 6


@pytest.mark.parametrize("rslora", [False, True])
def test_an_adapter_at_another_rank_keeps_its_scalings(make_adapter: Make, rslora: bool, exported: Export) -> None:
    patterns = {"alpha_pattern": {"q_proj": 8}, "rank_pattern": {"k_proj": 8}, "use_rslora": rslora}
    folder = make_adapter(r=8, alpha=16, config=patterns)
    before = {module.name: module.scaling for module in adapters.open(folder).modules}
    found = exported(folder, "peft", rank=2).settings
    assert (found.lora["r"], found.lora["lora_alpha"]) == (2, 8 if rslora else 4)
    assert "rank_pattern" not in found.lora
    apart = {name: 4 if rslora else 2 for name in before if "q_proj" in name}
    assert found.lora["alpha_pattern"] == apart
    root = 2**0.5 if rslora else 2
    assert {name: apart.get(name, found.lora["lora_alpha"]) / root for name in before} == before


@pytest.mark.parametrize("ask", [lambda folder: export(folder, ExportOptions("peft")), recommend])
def test_a_sweep_is_told_from_a_probe(ask: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(OptionError, match=r"it is a sweep, which has its own answer\. Look at it with lorarank report"):
        ask(tmp_path)


def test_an_adapter_has_no_rank_for_each_module(make_adapter: Make, exported: Export) -> None:
    with pytest.raises(OptionError, match="--per-module: an adapter says what it was trained with"):
        exported(make_adapter(), "peft", per_module=True)


def test_a_fractional_alpha_is_declined_where_whole_numbers_are_needed(make_adapter: Make, exported: Export) -> None:
    folder = make_adapter(config={"lora_alpha": 0.5})
    with pytest.raises(OptionError, match="whole numbers alone"):
        exported(folder, "axolotl")
    assert exported(folder, "peft").settings.lora["lora_alpha"] == 0.5


def test_another_format_is_read_off_its_modules(tmp_path: Path, exported: Export, loaded: Found) -> None:
    names = [f"model.layers.{index}.self_attn.{kind}_proj" for index in (0, 1) for kind in "qv"]
    tensors = {f"{name}.lora_a": np.ones((16, 8), np.float32) for name in names}
    save_file(
        tensors | {f"{name}.lora_b": np.ones((8, 12), np.float32) for name in names}, tmp_path / "adapters.safetensors"
    )
    config = {"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": {"rank": 8, "scale": 2.0, "dropout": 0.0}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    found = exported(tmp_path, "axolotl")
    assert found.settings.lora == {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]}
    assert any("Read off a file in mlx format, which keeps no targets" in note for note in found.notes)
    assert any("replace BASE_MODEL" in note for note in found.notes)
    assert loaded(tmp_path, "mlx")["lora_parameters"]["keys"] == ["self_attn.q_proj", "self_attn.v_proj"]


@pytest.mark.parametrize("tool", TOOLS)
def test_names_from_an_adapter_stay_names(make_adapter: Make, tool: str, text_of: Text, loaded: Found) -> None:
    evil = 'x"\nimport os # \x1b[31m\u2028\U0001f600'
    config = {"base_model_name_or_path": evil, "target_modules": ["q_proj", "k_proj", "down_proj"]}
    if tool != "torchtune":
        config["target_modules"].append(evil)  # type: ignore[attr-defined]
    folder = make_adapter(config=config)
    text = text_of(folder, tool)
    assert "\x1b" not in text
    assert "\u2028" not in text
    assert not any(line.lstrip().startswith("import os") for line in text.splitlines())
    if tool in ("peft", "trl", "unsloth"):
        assert all(isinstance(node, ast.Assign | ast.ImportFrom) for node in ast.parse(text).body)
    elif tool in ("axolotl", "llamafactory", "mlx"):
        named = loaded(folder, tool)
        assert evil in (named.get("base_model"), named.get("model_name_or_path"), named.get("model"))


def test_the_command_writes_a_new_file_and_replaces_none(make_run: Make, tmp_path: Path) -> None:
    run, output = make_run(), tmp_path / "lora.yaml"

    def call(*more: str) -> Any:
        return CliRunner().invoke(main, ["export", str(run), "--to", "axolotl", *more])

    shown = call()
    assert shown.exit_code == 0
    written = call("-o", str(output))
    assert (written.exit_code, written.stdout) == (0, "")
    body = output.read_text(encoding="utf-8").partition("\n\n")[2]
    assert body == shown.stdout.partition("\n\n")[2]
    again = call("-o", str(output))
    assert (again.exit_code, "nothing is replaced" in again.stderr.lower()) == (2, True)
    nowhere = call("-o", str(tmp_path / "nowhere" / "x.yaml"))
    assert (nowhere.exit_code, len(nowhere.stderr.splitlines())) == (2, 1)
    assert "--resume" not in nowhere.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [({"rank": 0}, "at least 1"), ({"budget": 5}, "add --per-module"), ({"per_module": True, "budget": 0}, "at least")],
)
def test_options_that_cannot_work(options: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError, match=f"(?i){says}"):
        ExportOptions("peft", **options)
    with pytest.raises(OptionError, match="Choose among"):
        ExportOptions("keras")


@pytest.mark.parametrize(
    ("typed", "meant"), [("axolotll", "axolotl"), ("llama-factory", "llamafactory"), ("mlxx", "mlx")]
)
def test_a_tool_that_is_nearly_named_is_suggested(make_run: Make, typed: str, meant: str) -> None:
    with pytest.raises(OptionError, match=f"no such tool. Did you mean {meant}[?] Choose among: peft, "):
        lorarank.export(make_run(), typed)
    with pytest.raises(OptionError, match=r"no such tool\. Choose among: peft, "):
        lorarank.export(make_run(name="again"), "keras")
