"""Names, configurations and folders as they occur in the wild, without torch."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lorarank import adapters
from lorarank.adapters.patterns import first_matches
from lorarank.adapters.peft_experts import parameters_of
from lorarank.adapters.peft_keys import Pair
from lorarank.errors import AdapterError, NumericsError, SourceError

Make = Callable[..., Path]
A, B = np.ones((4, 6), np.float32), np.ones((6, 4), np.float32)


@pytest.mark.parametrize(
    "stem",
    [
        "base_model.model.h.0.q{}",
        "h.0.q{}",
        "module.base_model.model.h.0.q{}",
        "base_model.model._fsdp_wrapped_module.h.0._fsdp_wrapped_module.q{}",
        "_orig_mod.base_model.model.h.0._checkpoint_wrapped_module.q{}",
        "module.module.base_model.model.h.0.q{}",
        "module.h.0.q{}",
        "base_model.model.h.0.q.base_layer{}",
    ],
)
@pytest.mark.parametrize("form", [".lora_{}.weight", ".lora_{}.default.weight", ".lora_{}.my-adapter_2.weight"])
def test_names_of_modules(stem: str, form: str, make_folder: Make) -> None:
    tensors = {stem.format(form.format("A")): A, stem.format(form.format("B")): B}
    (module,) = adapters.open(make_folder(tensors)).modules
    assert module.name == "h.0.q"
    assert module.keys == tuple(tensors)


def test_only_the_first_prefix_is_taken_off(make_folder: Make) -> None:
    tensors = {f"base_model.model.base_model.model.q.lora_{side}.weight": x for side, x in (("A", A), ("B", B))}
    assert adapters.open(make_folder(tensors)).modules[0].name == "base_model.model.q"


def test_a_prefix_of_some_modules_is_part_of_their_names(make_folder: Make) -> None:
    tensors = {f"{stem}q.lora_{side}.weight": x for stem in ("module.", "") for side, x in (("A", A), ("B", B))}
    assert [module.name for module in adapters.open(make_folder(tensors)).modules] == ["module.q", "q"]


def test_what_changes_nothing_is_carried(make_folder: Make) -> None:
    """PEFT's VeLoRA compresses activations in training, and Tinker leaves empty factors for what experts lack."""
    filled = {"base_model.model.q.lora_A.weight": A, "base_model.model.q.lora_B.weight": B}
    beside = {"base_model.model.q.lora_velora_embed": np.ones(6, np.float32)}
    adapter = adapters.open(make_folder(filled | beside))
    assert (len(adapter.modules), adapter.carried, adapter.notes) == (1, tuple(beside), ())
    empty = {f"base_model.model.experts.w3.lora_{side}.weight": np.zeros(0, np.float32) for side in "AB"}
    adapter = adapters.open(make_folder(filled | empty, name="placeholders"))
    assert (len(adapter.modules), set(adapter.carried)) == (1, set(empty))
    (note,) = adapter.notes
    assert note.startswith("Factors of experts that are empty say nothing: 2 tensors, like base_model.model.experts.w3")
    ungathered = {key.replace("experts.w3", "attn.v"): x for key, x in empty.items()}
    for name, tensors in (("all", empty), ("ungathered", filled | ungathered)):
        with pytest.raises(AdapterError, match=r"is that of no factor; DeepSpeed ZeRO-3"):
            adapters.open(make_folder(tensors, name=name))


def test_experts_of_a_rank_that_is_stored_nowhere_are_refused(make_folder: Make) -> None:
    tensors = {"base_model.model.mlp.experts.lora_A.weight": A, "base_model.model.mlp.experts.lora_B.weight": B}
    folder = make_folder(tensors, {"r": 2, "target_parameters": ["mlp.experts.down_proj"]})
    beside = folder / "automodel_peft_config.json"
    beside.write_text('{"moe_rank_scaling": false}')
    assert len(adapters.open(folder).modules) == 2
    beside.write_text('{"moe_rank_scaling": true}')
    with pytest.raises(
        AdapterError, match=r"moe_rank_scaling: the experts have another r than adapter_config\.json says"
    ):
        adapters.open(folder)


def test_a_configuration_beside_names_of_a_pipeline_is_nobodys(make_folder: Make) -> None:
    """As diffusion-pipe lays it there; a language model may be called ``transformer`` as well."""

    def opened(start: str, name: str, **config: Any) -> str:
        tensors = {f"{start}.lora_{side}.weight": x for side, x in (("A", A), ("B", B))}
        adapter = adapters.open(make_folder(tensors, {"r": 4, "lora_alpha": 4, **config}, name=name))
        assert adapter.modules[0].scaling == config.get("lora_alpha", 4) / 4
        return adapter.format

    assert opened("diffusion_model.blocks.0.self_attn.q", "wan") == "ai-toolkit"
    assert opened("transformer.transformer_blocks.0.attn.to_q", "hunyuan") == "diffusers"
    assert opened("diffusion_model.blocks.0.self_attn.q", "scaled", lora_alpha=8) == "peft"
    assert opened("base_model.model.diffusion_model.blocks.0.self_attn.q", "rooted") == "peft"
    assert opened("transformer.h.0.attn.c_attn", "gpt2") == "peft"
    assert opened("transformer.layer.0.attention.q_lin", "distilbert") == "peft"
    assert opened("diffusion_model.q", "saved", modules_to_save=["head"]) == "peft"
    for config in ({"peft_type": "VERA"}, {"r": None}, {"rank_pattern": {"q": 2}}):
        with pytest.raises(AdapterError):
            opened("diffusion_model.q", "-".join(config), **config)


SEVERAL = {
    f"base_model.model.q.lora_{side}.{name}.weight": x * factor
    for name, factor in (("first", 1), ("second", 2))
    for side, x in (("A", A), ("B", B))
} | {
    "base_model.model.head.modules_to_save.first.weight": A,
    "base_model.model.head.modules_to_save.second.weight": A,
    "base_model.model.norm.weight": A[0],
}


@pytest.mark.parametrize("where", ["", "adapter_model.safetensors"])
def test_one_of_several_adapters_is_named_like_a_file_in_there(where: str, make_folder: Make) -> None:
    folder = make_folder(SEVERAL) / where
    with pytest.raises(AdapterError, match=r"several adapters \(first, second\)\. Name one .* like .*tensors/first\."):
        adapters.open(folder)
    second = adapters.open(folder / "second")
    assert second.source == folder
    (module,) = second.modules
    np.testing.assert_array_equal(module.factors()[0], 2.0 * A)
    assert second.carried == ("base_model.model.head.modules_to_save.second.weight", "base_model.model.norm.weight")
    with pytest.raises(AdapterError, match=r"holds no adapter named third \(found: first, second\)"):
        adapters.open(str(folder / "third"))


def test_further_adapters_in_the_folder_are_noted(make_folder: Make) -> None:
    folder = make_folder()
    for i in range(7):
        (folder / f"adapter-{i}").mkdir()
        (folder / f"adapter-{i}" / "adapter_config.json").write_text("{}")
    (note,) = adapters.open(folder).notes
    assert "adapter-0, adapter-1, adapter-2, adapter-3, adapter-4, …" in note
    assert adapters.open(folder / "adapter_model.safetensors").notes == ()


def test_modules_in_natural_order(make_folder: Make) -> None:
    names = [f"h.{i}.{kind}" for i in (10, 2, 1) for kind in ("v", "q")]
    tensors = {f"{name}.lora_{side}.weight": x for name in names for side, x in (("A", A), ("B", B))}
    opened = adapters.open(make_folder(tensors))
    assert [module.name for module in opened.modules] == ["h.1.q", "h.1.v", "h.2.q", "h.2.v", "h.10.q", "h.10.v"]


@pytest.mark.parametrize("which", ["", "adapter_model.safetensors", "adapter_config.json"])
def test_a_folder_or_one_of_its_files(which: str, make_folder: Make) -> None:
    folder = make_folder()
    opened = adapters.open(str(folder / which))
    assert len(opened.modules) == 2
    assert opened.source == folder / which


@pytest.mark.parametrize(
    ("config", "without", "scaling"),
    [
        ({"lora_alpha": 6}, (), 1.5),
        ({"lora_alpha": 6.5, "use_rslora": True}, (), 3.25),
        ({"lora_alpha": 0}, (), 0.0),
        ({}, ("lora_alpha",), 2.0),
        ({"rank_pattern": None, "alpha_pattern": None, "use_rslora": None, "target_parameters": None}, (), 2.0),
        ({"peft_type": "lora", "enable_lora": None, "merge_weights": False}, (), 2.0),
    ],
)
def test_scaling_of_old_and_sparse_configurations(
    config: dict[str, Any], without: tuple[str, ...], scaling: float, make_folder: Make
) -> None:
    opened = adapters.open(make_folder(config=config, without=without))
    assert {module.scaling for module in opened.modules} == {scaling}
    assert len(opened.notes) == len(without)


def test_another_file_beside_the_weights_is_not_taken_for_them(make_folder: Make) -> None:
    (make_folder() / "README.md").write_text("x")
    with pytest.raises(AdapterError, match=r"README\.md: no file of tensors\. Name its folder"):
        adapters.open(make_folder(name="other").parent / "adapter" / "README.md")


def test_a_null_base_model_is_none(make_folder: Make) -> None:
    assert adapters.open(make_folder(config={"base_model_name_or_path": None})).base_model is None


def test_fused_projection_of_peft_before_0_3(make_folder: Make) -> None:
    # lora_B is a grouped Conv1d: of three parts of 5 outputs, the first and the last have two ranks each.
    tensors = {
        "qkv.lora_A.weight": np.arange(24, dtype=np.float32).reshape(4, 6),
        "qkv.lora_B.weight": np.arange(20, dtype=np.float32).reshape(10, 2, 1),
    }
    opened = adapters.open(make_folder(tensors, {"r": 2, "lora_alpha": 2, "enable_lora": [True, False, True]}))
    (module,) = opened.modules
    assert (module.r, module.out_features, module.scaling, module.parameters) == (4, 15, 1.0, 44)
    lora_A, lora_B = module.factors()
    down, up = tensors["qkv.lora_A.weight"], tensors["qkv.lora_B.weight"][..., 0]
    np.testing.assert_array_equal(lora_B @ lora_A, np.vstack([up[:5] @ down[:2], np.zeros((5, 6)), up[5:] @ down[2:]]))
    assert "fused" in opened.notes[0]


EXPERTS = {
    f"mlp.experts{level}.lora_{side}.weight": np.ones(shape, np.float32)
    for level, out, into in (("", 6, 5), (".base_layer", 8, 6))
    for side, shape in (("A", (6, into)), ("B", (out, 6)))
}


def test_parameters_of_unknown_order_are_counted(make_folder: Make) -> None:
    opened = adapters.open(make_folder(EXPERTS, {"r": 2, "target_parameters": ["experts.w1", "experts.w2"]}))
    assert [module.name for module in opened.modules] == [
        f"mlp.experts.{expert}.parameter_{level}" for level in (1, 0) for expert in range(3)
    ]
    assert "counted" in opened.notes[0]


def test_parameters_of_unknown_order_with_patterns_are_refused(make_folder: Make) -> None:
    config = {"r": 2, "target_parameters": ["experts.w1", "experts.w2"], "alpha_pattern": {"w1": 3}}
    with pytest.raises(AdapterError, match="cannot be told which of the target_parameters"):
        adapters.open(make_folder(EXPERTS, config))


def test_a_targeted_module_is_no_parameter(make_folder: Make) -> None:
    opened = adapters.open(make_folder(config={"target_parameters": ["q.weight"], "target_modules": ["q", "v"]}))
    assert {module.kind for module in opened.modules} == {"linear"}


@pytest.mark.parametrize("targets", [r".*\.(q|v)_proj", ["q_proj", "v_proj"]])
def test_modules_that_a_regular_expression_targets_are_no_parameters(
    targets: str | list[str], make_folder: Make
) -> None:
    """A bare name of a parameter fits any module: PEFT wraps those that ``re.fullmatch`` finds as modules."""
    linear = {f"attn.{name}.lora_{side}.weight": np.ones((4, 4), np.float32) for name in "qv" for side in "AB"}
    linear = {key.replace(".lora", "_proj.lora"): tensor for key, tensor in linear.items()}
    config = {"r": 2, "lora_alpha": 2, "target_modules": targets, "target_parameters": ["down_proj"]}
    config |= {"rank_pattern": {"q_proj": 4, "v_proj": 4}, "alpha_pattern": {"q_proj": 12, "down_proj": 9}}
    experts = {key: tensor for key, tensor in EXPERTS.items() if "base_layer" not in key}
    found = {m.name: (m.kind, m.scaling) for m in adapters.open(make_folder(linear | experts, config)).modules}
    stack = {f"mlp.experts.{expert}.down_proj": ("parameter", 4.5) for expert in range(3)}
    assert found == {"attn.q_proj": ("linear", 3), "attn.v_proj": ("linear", 0.5)} | stack


def test_an_adapter_is_a_value_that_travels(make_folder: Make) -> None:
    opened = adapters.open(make_folder())
    again = pickle.loads(pickle.dumps(opened))
    assert again == opened
    np.testing.assert_array_equal(again.modules[0].factors()[0], opened.modules[0].factors()[0])


def test_factors_are_read_at_that_moment(make_folder: Make) -> None:
    folder = make_folder()
    opened = adapters.open(folder)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(SourceError, match=r"adapter_model\.safetensors: no such file"):
        opened.modules[0].factors()


def test_zero_is_no_error_and_nan_is_named(make_folder: Make) -> None:
    tensors = {"q.lora_A.weight": A, "q.lora_B.weight": B * 0, "v.lora_A.weight": A, "v.lora_B.weight": B.copy()}
    tensors["v.lora_B.weight"][1, 2] = np.nan
    tensors["v.lora_B.weight"][3, 1] = -np.inf
    q, v = adapters.open(make_folder(tensors)).modules
    assert not q.factors()[1].any()
    with pytest.raises(NumericsError, match=r"v\.lora_B\.weight: 2 of its 24 numbers are NaN or infinite"):
        v.factors()


def test_overflow_of_a_sum_is_not_taken_for_infinity(make_folder: Make) -> None:
    tensors = {"q.lora_A.weight": np.full((4, 6), 1e308), "q.lora_B.weight": np.full((6, 4), -1e308)}
    lora_A, lora_B = adapters.open(make_folder(tensors)).modules[0].factors()
    assert lora_A.max() == -lora_B.min() == 1e308


NOT_READ: dict[str, tuple[dict[str, Any], str]] = {
    "a single index": ({"a": {"adapter_config.json": "{}"}}, "but a in it does. Name .*a"),
    "several adapters": ({"a": {"adapter_config.json": "{}"}, "b": {"adapter_config.json": "{}"}}, "a, b in it do"),
    "checkpoints": (
        {f"checkpoint-{step}": {"adapter_config.json": "{}"} for step in (9, 10)},
        "checkpoint-9, checkpoint-10 in it do. Name .*checkpoint-10, or another",
    ),
    "a model": ({"config.json": "{}", "model.safetensors": ""}, "a model's folder"),
    "nothing": ({}, r"no adapter in it \(found: nothing\)"),
    "other things": ({"README.md": "x", "data.csv": "y"}, r"found: README\.md, data\.csv"),
    "a pickle": ({"lora.pt": "x"}, "lora.pt: no archive as torch writes"),
    "llama.cpp": ({"lora.gguf": "x"}, "GGUF"),
    "several files": ({"a.pt": "x", "b.gguf": "y"}, r"2 files of tensors: a\.pt, b\.gguf"),
    "no configuration": (
        {"adapter_model.safetensors": "x"},
        r"adapter_model\.safetensors: no complete",
    ),
    "no weights": ({"adapter_config.json": '{"peft_type": "LORA", "r": 1}'}, "but no weights"),
    "shards without an index": (
        {"adapter_config.json": '{"peft_type": "LORA", "r": 1}', "adapter_model-00001-of-00002.safetensors": "x"},
        r"adapter_model\.safetensors\.index\.json: is missing",
    ),
}


def lay(folder: Path, tree: dict[str, Any]) -> Path:
    folder.mkdir()
    for name, content in tree.items():
        if isinstance(content, dict):
            lay(folder / name, content)
        else:
            (folder / name).write_text(content)
    return folder


@pytest.mark.parametrize("case", NOT_READ)
def test_folders_that_are_no_adapter_say_what_they_hold(case: str, tmp_path: Path) -> None:
    tree, message = NOT_READ[case]
    with pytest.raises((AdapterError, SourceError), match=message) as caught:
        adapters.open(lay(tmp_path / "folder", tree))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("lora_te_fc1.lokr_w1_a", "Kronecker"),
        ("lora_te_fc1.hada_w2_b", "LoHa"),
        ("lora_te_fc1.a1.weight", "GLoRA"),
        ("base_model.model.k.ia3_l", "rescales"),
        ("base_model.model.k.oft_r", "rotations"),
        ("base_model.model.k.vera_lambda_b", "VeRA"),
        ("base_model.model.k.lora_E", "AdaLoRA"),
        ("w_a_000", r"w_a_000: none of its 1 factors has a partner w_b; the update needs both"),
        ("lora_A_0", r"lora_A_0: none of its 1 factors has a partner lora_B"),
        ("lora_unet_x.diff", r"differences of whole weights alone \(1\); nothing in it has a rank\. Name an adapter"),
        ("model.q_proj.alpha", r"the settings of 1 modules \(alpha\) and none of their factors"),
        ("embedding", r"its 1 tensors have names of no known adapter \(embedding\)"),
        ("model.norm.weight", r"\(model.norm.weight\)\. .* a full fine-tune is for --base\."),
    ],
)
def test_what_is_no_lora_is_declined_by_name(key: str, message: str, tmp_path: Path) -> None:
    save_file({key: A}, tmp_path / "lora.safetensors")
    with pytest.raises(AdapterError, match=message):
        adapters.open(tmp_path)


@pytest.mark.parametrize("kind", ["LOHA", "LOKR", "IA3", "OFT", "VERA", "ADALORA", "XLORA", "SOMETHING", 7, None])
def test_other_methods_of_peft_are_declined_by_name(kind: Any, make_folder: Make) -> None:
    with pytest.raises(AdapterError, match=f"peft_type: .*{'missing' if kind is None else kind}"):
        adapters.open(make_folder(config={"peft_type": kind}))


@pytest.mark.parametrize("field", ["use_qalora", "use_bdlora", "kasa_config", "arrow_config"])
def test_variants_with_another_update_are_declined(field: str, make_folder: Make) -> None:
    folder = make_folder(config={field: {"x": 1}})
    with pytest.raises(AdapterError, match=rf"{field}: .*its update is not .* Name an adapter that was trained with"):
        adapters.open(folder)
    config = folder / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {field: None}))
    assert adapters.open(folder).modules


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("q.lora_B1.weight", "a mixture of LoRAs like HydraLoRA"),
        ("q.default_lora_latent_mapping.weight", "a LoRA-XS"),
        ("q.lora_E", "an AdaLoRA"),
    ],
)
def test_what_calls_itself_lora_and_is_another_method_is_declined(key: str, what: str, make_folder: Make) -> None:
    tensors = {"base_model.model.q.lora_A.weight": np.ones((4, 6)), "base_model.model.q.lora_B.weight": np.ones((6, 4))}
    tensors[f"base_model.model.{key}"] = np.ones((4, 4))
    with pytest.raises(AdapterError, match=f"{what}.* it has no rank of LoRA's kind"):
        adapters.open(make_folder(tensors))


def peft_rule(keys: list[str], name: str) -> str | None:
    return next((key for key in keys if re.match(rf"(.*\.)?({key})$", name)), None)


def test_patterns_by_the_rule_of_peft() -> None:
    keys = ["q_proj", r"layers\.1\.v", "^m.layers.2.k$", r"\d.o", ".up", "layers.", r"m\..*(a|b)", r"[vw]\d+", "x y"]
    names = ["q_proj", "m.q_proj", "mq_proj", "m.layers.1.v", "m.layers.2.k", "n.m.layers.2.k", "m.layers.3.o", "7.o"]
    names += [
        "up",
        "m.up",
        "m.zup",
        "a.layers",
        "a.layersX",
        "m.layers.b",
        "h.m.x.a",
        "w12",
        "v",
        "m.x y",
        "",
        "π.q_proj",
    ]
    for order in (keys, keys[::-1]):
        found = first_matches(order, names, "here")
        assert {name: found.get(name) for name in names} == {name: peft_rule(order, name) for name in names}


def test_a_pattern_that_never_ends_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorarank.adapters.patterns.SECONDS", 0.5)
    with pytest.raises(AdapterError, match=r"take more than 0\.5 s"):
        first_matches([r"(a+)+b"], ["a" * 60], "config")
    with pytest.raises(AdapterError, match=r"config: target_modules: its patterns take more than 0\.5 s"):
        parameters_of([Pair("a" * 60, False, "A", "B")], r"(a+)+b", ["down_proj"], "config")


def test_a_regular_expression_in_target_modules_that_is_none(make_folder: Make) -> None:
    config = {"target_modules": "(", "target_parameters": ["down_proj"]}
    with pytest.raises(AdapterError, match=r"adapter_config\.json: target_modules: no valid regular expression"):
        adapters.open(make_folder(config=config))


def test_configuration_is_kept_as_it_is(make_folder: Make) -> None:
    folder = make_folder(config={"something_new": [1, 2]})
    assert adapters.open(folder).config == json.loads((folder / "adapter_config.json").read_text())


def test_reading_needs_numpy_alone(make_folder: Make) -> None:
    code = (
        "import sys; from lorarank import adapters; [m.factors() for m in adapters.open(sys.argv[1]).modules]; "
        "print({'torch', 'scipy', 'safetensors', 'huggingface_hub', 'peft'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, make_folder()], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("r", [1, 4])
@pytest.mark.parametrize(("experts_A", "experts_B"), [(3, 3), (1, 3), (3, 1)])
def test_experts_in_three_dimensions_of_which_a_factor_may_be_shared(
    experts_A: int, experts_B: int, r: int, make_folder: Make
) -> None:
    random = np.random.default_rng(0)
    A, B = random.standard_normal((experts_A, r, 6)), random.standard_normal((experts_B, 8, r))
    stem = "base_model.model.model.layers.0.mlp.experts.w1"
    folder = make_folder({f"{stem}.lora_A.weight": A, f"{stem}.lora_B.weight": B}, {"r": r, "lora_alpha": 2 * r})
    adapter = adapters.open(folder)
    assert [module.name for module in adapter.modules] == [f"model.layers.0.mlp.experts.{i}.w1" for i in range(3)]
    assert any("share" in note for note in adapter.notes) is (experts_A != experts_B)
    for i, module in enumerate(adapter.modules):
        lora_A, lora_B = module.factors()
        np.testing.assert_allclose(module.scaling * lora_B @ lora_A, 2 * B[i % experts_B] @ A[i % experts_A])


def test_a_one_dimensional_convolution_is_no_stack(make_folder: Make) -> None:
    for r, channels in ((1, 1), (1, 3), (4, 1), (4, 3)):
        A, B = np.ones((r, channels, 5)), np.ones((8, r, 1))
        tensors = {"base_model.model.c.lora_A.weight": A, "base_model.model.c.lora_B.weight": B}
        (module,) = adapters.open(make_folder(tensors, {"r": r}, name=f"{r}-{channels}")).modules
        assert (module.kind, module.r, module.in_features) == ("conv1d", r, 5 * channels)


def test_stacks_that_do_not_fit(make_folder: Make) -> None:
    tensors = {
        "base_model.model.e.lora_A.weight": np.ones((3, 4, 6)),
        "base_model.model.e.lora_B.weight": np.ones((2, 8, 4)),
    }
    with pytest.raises(AdapterError, match="does not fit the shape"):
        adapters.open(make_folder(tensors))
    tensors["base_model.model.e.lora_B.weight"] = np.ones((3, 8, 4))
    with pytest.raises(AdapterError, match=r"has 4 rows where adapter_config\.json says r = 8"):
        adapters.open(make_folder(tensors, {"r": 8}, name="other"))


@pytest.mark.parametrize(("kind", "note"), [("ALORA", "activated LoRA"), ("DORA", "Trained with DoRA")])
def test_forks_whose_update_is_loras_are_read(kind: str, note: str, make_folder: Make) -> None:
    adapter = adapters.open(make_folder(config={"peft_type": kind}))
    assert any(note in text for text in adapter.notes)


def test_a_quantisation_aware_lora_of_ipex(make_folder: Make) -> None:
    with pytest.raises(AdapterError, match="QA-LoRA averages groups of inputs"):
        adapters.open(make_folder(config={"training_mode": "qalora"}))


def swift(folder: Path, config: dict[str, Any]) -> Path:
    """As ms-swift wrote adapters before it took PEFT's layout."""
    folder.mkdir()
    stem = "transformer.h.0.attn.c_attn.loramodule_default"
    save_file({f"{stem}.lora_A": A, f"{stem}.lora_B": B}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def test_ms_swift_before_it_took_pefts_layout(tmp_path: Path) -> None:
    folder = swift(tmp_path / "default", {"swift_type": "LORA", "r": len(A), "lora_alpha": 8 * len(A)})
    (module,) = adapters.open(folder).modules
    assert (module.name, module.scaling) == ("transformer.h.0.attn.c_attn", 8.0)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"swift_type": "ADAPTER"}, "swift_type: 'ADAPTER' of ms-swift is not LoRA"),
        ({"extra_state_keys": ["x"]}, "whose adapters lie in folders in it"),
    ],
)
def test_what_else_ms_swift_writes(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=message):
        adapters.open(swift(tmp_path / "default", config))


def test_a_file_that_is_missing_is_no_adapter_in_another(make_folder: Make) -> None:
    folder = make_folder()
    with pytest.raises(SourceError, match=r"adapter_modell\.safetensors: no such file"):
        adapters.open(folder / "adapter_modell.safetensors")
