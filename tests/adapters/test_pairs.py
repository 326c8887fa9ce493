"""Layouts of no known tool: what is read, what is noted, what is left alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lorarank import adapters
from lorarank.adapters.peft_config import NOTES
from lorarank.errors import AdapterError
from lorarank.export import ExportOptions, export
from lorarank.resize import ConvertOptions, ResizeOptions, convert, resize

Make = Callable[..., Path]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


A, B = normal(2, 20), normal(18, 2, seed=1)
DENSE = B.astype(np.float64) @ A


def names(form: str, first: str, second: str) -> tuple[str, str]:
    return form.format(first), form.format(second)


WORDS = {
    ("w_a_000", "w_b_000"): "w_000",
    ("blocks.0.attn.linear_a_q.w_a.weight", "blocks.0.attn.linear_a_q.w_b.weight"): "blocks.0.attn.linear_a_q.w",
    ("encoder.0.lora.down.kernel", "encoder.0.lora.up.kernel"): "encoder.0.lora.kernel",
    ("decoder.layers.0.linear_qkv.adapter.linear_in.weight", "decoder.layers.0.linear_qkv.adapter.linear_out.weight"): (
        "decoder.layers.0.linear_qkv"
    ),
    ("blocks.0.lora_A_q", "blocks.0.lora_B_q"): "blocks.0.q",
    ("layer/0/A", "layer/0/B"): "layer/0",
    ("layer.0.a", "layer.0.b"): "layer.0",
    ("down_blocks.0.q.down.weight", "down_blocks.0.q.up.weight"): "down_blocks.0.q",
    ("a", "b"): "module",
    ("model.layers.0.q_proj.lora.A.weight", "model.layers.0.q_proj.lora.B.weight"): "model.layers.0.q_proj",
    ("layers.0.dense.matrix_A.0", "layers.0.dense.matrix_B.0"): "layers.0.dense.0",
    ("h.0.q.lora_right_weight", "h.0.q.lora_left_weight"): "h.0.q",
    ("layers.0.attention.wq.adaptor.A.weight", "layers.0.attention.wq.adaptor.B.weight"): "layers.0.attention.wq",
}


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("turned", ["", "A", "B", "AB"])
def test_two_names_that_differ_in_a_word(turned: str, words: tuple[str, str], make_file: Make) -> None:
    tensors = {words[0]: A.T if "A" in turned else A, words[1]: B.T if "B" in turned else B}
    adapter = adapters.open(make_file(tensors))
    (module,) = adapter.modules
    assert (adapter.format, module.name, module.scaling, module.r) == ("pairs", WORDS[words], 1.0, 2)
    lora_A, lora_B = module.factors()
    np.testing.assert_allclose(lora_B @ lora_A, DENSE, rtol=1e-14)
    assert "scaling 1 is assumed" in adapter.notes[0]
    assert f"{words[0]} are taken for lora_A, {'(in, r)' if 'A' in turned else '(r, in)'}" in adapter.notes[1]
    assert f"{words[1]} for lora_B, {'(r, out)' if 'B' in turned else '(out, r)'}" in adapter.notes[1]


FORMS = {
    "base_model.model.h.0.q.lora_{}.weight": "h.0.q",
    "module.base_model.model.h.0.q.lora_{}.default.weight": "h.0.q",
    "blocks.0.q.lora_{}.default.weight": "blocks.0.q",
    "h.0.q.lora_{}": "h.0.q",
    "h.0.q.parametrizations.weight.0.lora_{}": "h.0.q",
    "h.0.q.lora.lora_{}": "h.0.q",
}


@pytest.mark.parametrize("form", FORMS)
def test_names_of_peft_without_a_configuration(form: str, make_file: Make) -> None:
    path = make_file({form.format("A"): A, form.format("B"): B, "head": normal(3)}, name="adapter_model.safetensors")
    for opened in (path, path.parent):
        adapter = adapters.open(opened)
        (module,) = adapter.modules
        assert (adapter.format, module.name, module.scaling, adapter.carried) == ("pairs", FORMS[form], 1.0, ("head",))
        assert "alpha is unknown: scaling 1 is assumed" in adapter.notes[0]
        lora_A, lora_B = module.factors()
        np.testing.assert_array_equal(lora_A, A.astype(np.float64))
        np.testing.assert_array_equal(lora_B, B.astype(np.float64))


@pytest.mark.parametrize(
    "form",
    [
        "base_model.model.q.lora_{}.weight",
        "q.lora_{}",
        "lora_unet_double_blocks_0_img_attn_proj.lora_{}.weight",
        "transformer.blocks.0.attn.to_q.lora_{}.weight",
        "lora_te_q.lora_{}.weight",
    ],
)
@pytest.mark.parametrize("word", ["alpha", "lora_alpha"])
def test_an_alpha_counts(word: str, form: str, make_file: Make) -> None:
    alpha = f"{form.partition('.lora_{')[0]}.{word}"
    adapter = adapters.open(make_file({form.format("A"): A, form.format("B"): B, alpha: np.array(6.0)}))
    assert (adapter.modules[0].scaling, adapter.notes, adapter.carried) == (3.0, (), ())


def test_embeddings_and_several_adapters(make_file: Make) -> None:
    tensors = {f"emb.lora_embedding_{side}.{name}": x for name in "xy" for side, x in (("A", A), ("B", B))}
    path = make_file(tensors)
    with pytest.raises(AdapterError, match=r"several adapters \(x, y\)\. Name one as if it were a file in it, like"):
        adapters.open(path)
    (module,) = adapters.open(path / "y").modules
    assert (module.kind, module.keys) == ("embedding", ("emb.lora_embedding_A.y", "emb.lora_embedding_B.y"))


def test_a_note_cannot_move_the_cursor(make_file: Make) -> None:
    adapter = adapters.open(make_file({"\x1b[2J.w_a": A, "\x1b[2J.w_b": B}))
    assert all(note.isprintable() for note in adapter.notes)


def test_other_tensors_beside_certain_words_are_carried(make_file: Make) -> None:
    adapter = adapters.open(make_file({"w_a_000": A, "w_b_000": B, "mask_decoder.x.weight": normal(4, 4)}))
    assert adapter.carried == ("mask_decoder.x.weight",)


def test_dora_is_noted(make_file: Make) -> None:
    adapter = adapters.open(make_file({"q.w_a": A, "q.w_b": B, "q.dora_scale": normal(18, 1)}))
    assert NOTES["use_dora"] in adapter.notes


def test_factors_that_are_no_matrices_are_counted(make_file: Make) -> None:
    stacked = {"experts.w_a": normal(3, 2, 20), "experts.w_b": normal(3, 18, 2), "stem.conv": normal(4, 4, 3, 3)}
    adapter = adapters.open(make_file({"q.w_a": A, "q.w_b": B, **stacked}))
    assert [module.name for module in adapter.modules] == ["q.w"]
    assert adapter.notes[-1] == (
        "2 tensors like experts.w_a are named as factors and are no matrices: carried, not measured."
    )


LEFT_ALONE: dict[str, dict[str, np.ndarray]] = {
    "a feed-forward layer": {
        f"mlp.{name}_proj.weight": normal(*shape)
        for name, shape in (("gate", (24, 6)), ("up", (24, 6)), ("down", (6, 24)))
    },
    "an MLP without a gate": {"mlp.up_proj.weight": normal(24, 6), "mlp.down_proj.weight": normal(6, 24)},
    "a wide one": {"h.0.fc_up.weight": normal(72, 10), "h.0.fc_down.weight": normal(10, 72)},
    "a wide one of Conv1D": {"h.0.up.weight": normal(10, 72), "h.0.down.weight": normal(72, 10)},
    "a U-Net": {"down_blocks.0.conv": normal(4, 2), "up_blocks.0.conv": normal(2, 8), "mid.conv": normal(2, 2)},
    "vectors": {"a": normal(6), "b": normal(6)},
}


@pytest.mark.parametrize("case", LEFT_ALONE)
def test_models_are_no_pairs(case: str, make_file: Make) -> None:
    with pytest.raises(AdapterError, match="names of no known adapter"):
        adapters.open(make_file(LEFT_ALONE[case]))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"linear_a_0": normal(4, 6), "linear_b_0": normal(6, 4)}, "share no dimension that is a rank"),
        ({"w_a_0": normal(3, 9), "w_b_0": normal(8, 2)}, r"shape \(3, 9\) and the shape \(8, 2\) of w_b_0 share no"),
        ({"w_a_0": A, "w_b_0": B, "w_a_1": A}, "w_a_1: a factor without its partner"),
        ({"q.lora_A.weight": A, "q.lora_B.weight": normal(8, 3)}, "does not fit"),
        ({"q.lora_A.weight": A, "q.lora_B.weight": B, "q.lora_E.weight": A}, "an AdaLoRA"),
        ({"q.lora.lora_A": A, "q.lora.lora_B": B, "q.lora.gate": normal(1, 2)}, "a SoRA"),
        ({"q.lora_A": A, "q.lora_B": B, "q.lora_moe_gating.w_gate": A}, "a Conv-LoRA"),
        ({"q.lora_A": A, "q.lora_B": B, "q.lora_tasks_A.x": A}, "an MTLoRA"),
        (
            {"q_proj.experts.0.lora_A.weight": A, "q_proj.experts.0.lora_B.weight": B, "q_proj.moe_gate.weight": A},
            "MoLA",
        ),
        ({"q.parametrizations.weight.0.lora_A": A, "q.parametrizations.weight.0.M_xs": normal(2, 2)}, "a LoRA-XS"),
        ({"q.lora_A": A, "q.lora_B": B, "q.lora_G": normal(2, 2)}, "Merge it with the tool that trained it"),
        ({"k.multi_lora_b": normal(18, 1)}, "rescales"),
        ({"q::diff::0": A}, r"differences of whole weights alone \(1\)"),
    ],
)
def test_what_is_refused(tensors: dict[str, np.ndarray], message: str, make_file: Make) -> None:
    with pytest.raises(AdapterError, match=message):
        adapters.open(make_file(tensors))


def test_a_model_with_a_configuration_is_none(make_file: Make) -> None:
    path = make_file({"x": A}, name="model.safetensors")
    (path.parent / "config.json").write_text("{}")
    with pytest.raises(AdapterError, match="a model's folder"):
        adapters.open(path.parent)


QKV = "gpt_neox.layers.0.attention.query_key_value"
FUSED = {f"{QKV}.lora_A": normal(6, 8), f"{QKV}.lora_B": normal(24, 2, seed=1)}
"""Each part of ``lora_A`` (3·r, in) meets its own part of the rows of ``lora_B``."""


def test_the_parts_of_a_fused_projection_of_loralib_are_modules(make_file: Make, tmp_path: Path) -> None:
    adapter = adapters.open(make_file(FUSED))
    assert [(module.name, module.r, module.out_features) for module in adapter.modules] == [
        (f"{QKV}.{part}", 2, 8) for part in range(3)
    ]
    fused_A, fused_B = FUSED.values()
    for part, module in enumerate(adapter.modules):
        lora_A, lora_B = module.factors()
        wanted = fused_B[8 * part : 8 * part + 8] @ fused_A[2 * part : 2 * part + 2]
        np.testing.assert_allclose(lora_B @ lora_A, wanted, rtol=1e-6)
    assert "of a fused projection, as loralib and LitGPT keep them" in adapter.notes[-1]
    with pytest.raises(AdapterError, match=r"query_key_value\.0: a part of a fused projection, with factors of"):
        convert(adapter.source, tmp_path / "peft", ConvertOptions(to="peft"))
    assert export(adapter.source, ExportOptions("peft")).settings.lora["target_modules"] == ["query_key_value"]
    convert(adapter.source, tmp_path / "same", ConvertOptions(dtype="float32"))
    same = adapters.open(tmp_path / "same")
    for one, other in zip(adapter.modules, same.modules, strict=True):
        assert (one.name, one.factors()[1].tolist()) == (other.name, other.factors()[1].tolist())


def test_a_fused_projection_of_parts_of_unknown_size_is_called_one(make_file: Make) -> None:
    """As grouped heads have them: q of 8 outputs, k and v of 4."""
    tensors = {"h.0.attn.lora_A": normal(6, 8), "h.0.attn.lora_B": normal(16, 2)}
    with pytest.raises(AdapterError, match="3 parts of r = 2, as loralib and LitGPT keep them; how many outputs each"):
        adapters.open(make_file(tensors))


@pytest.mark.parametrize("key", ["q.lora_A0.weight", "q.lora_route.weight"])
def test_a_mixture_of_loras_is_declined_by_name(key: str, make_file: Make) -> None:
    with pytest.raises(AdapterError, match="a mixture of LoRAs like HydraLoRA"):
        adapters.open(make_file({key: normal(4, 6), "q.lora_B1.weight": normal(6, 4)}))


TRAINERS = {
    "VoxCPM": ("lora_config.json", {"base_model": "x", "lora_config": {"r": 2, "alpha": 6}}, "layers.0.q_proj.lora_{}"),
    "OpenDelta": ("config.json", {"delta_type": "lora", "lora_r": 2, "lora_alpha": 6}, "block.0.q.lora.lora_{}"),
    "Llama 3.2": ("params.json", {"lora_args": {"rank": 2, "scale": 3.0}}, "layers.0.wq.adaptor.{}.weight"),
    "PaddleNLP": ("lora_config.json", {"r": 2, "lora_alpha": 6, "scaling": 3.0, "rslora": False}, "llama.q.lora_{}"),
    "mistral-finetune": ("params.json", {"dim": 20, "lora": {"rank": 2, "scaling": 3.0}}, "layers.0.wq.lora_{}.weight"),
    "moshi-finetune": (
        "config.json",
        {"lora": True, "lora_rank": 2, "lora_scaling": 3.0},
        "transformer.layers.0.self_attn.in_projs.0.lora_{}.weight",
    ),
    "LitGPT": ("hyperparameters.yaml", {"lora_r": 2, "lora_alpha": 6}, "transformer.h.0.attn.proj.lora_{}"),
    "NeMo 1": (
        "model_config.yaml",
        {"name": "x", "peft": {"lora_tuning": {"adapter_dim": 2, "alpha": 6.0}}},
        "layers.0.lora_kqv.lora_{}.weight",
    ),
}


@pytest.mark.parametrize("trainer", TRAINERS)
def test_the_scaling_that_a_trainer_keeps_beside_the_factors(trainer: str, make_file: Make) -> None:
    name, config, form = TRAINERS[trainer]
    bare = trainer == "PaddleNLP"  # which has them the other way round
    path = make_file({form.format("A"): A.T if bare else A, form.format("B"): B.T if bare else B})
    (path.parent / name).write_text(json.dumps(config))
    for opened in (path, path.parent):
        adapter = adapters.open(opened)
        (module,) = adapter.modules
        lora_A, lora_B = module.factors()
        np.testing.assert_allclose(module.scaling * lora_B @ lora_A, 3.0 * B.astype(np.float64) @ A)
        assert adapter.notes[0] == f"No alpha is stored: the scaling of 3 is that of {name} beside it."


@pytest.mark.parametrize(
    "text", ['{"lora": {"rank": 4, "scaling": 3.0}}', '{"lora": {"rank": 2, "scaling": "3"}}', '{"dim": 20}', "[", ""]
)
def test_a_file_beside_the_factors_that_is_not_of_their_trainer(text: str, make_file: Make) -> None:
    path = make_file({"wq.lora_A.weight": A, "wq.lora_B.weight": B})
    (path.parent / "params.json").write_text(text)
    adapter = adapters.open(path)
    assert adapter.modules[0].scaling == 1.0
    assert "alpha is unknown" in adapter.notes[0]


@pytest.mark.parametrize(
    "text",
    [
        "lora_r: 2\nlora_alpha: &x 6",
        "lora_r: 2\nlora_alpha: six",
        "lora_r: 2\nlora_alpha: 9999999999999999999999",
        "{a: " * 3000,
        "- 2",
        "lora_r: [",
        "lora_r: 2\nlora_alpha: 6\n" + "#" * 64_000,
    ],
)
def test_settings_in_yaml_that_are_none(text: str, make_file: Make) -> None:
    path = make_file({"wq.lora_A.weight": A, "wq.lora_B.weight": B})
    (path.parent / "hyperparameters.yaml").write_text(text)
    assert adapters.open(path).modules[0].scaling == 1.0


def test_shards_of_paddlenlp_beside_its_optimizer(make_file: Make) -> None:
    names = {"llama.q.lora_A": A.T, "llama.q.lora_B": B.T}
    make_file(names, name="peft_model-00001-of-00001.safetensors")
    folder = make_file({"llama.q.weight": normal(20, 18)}, name="master_weights-00001-of-00001.safetensors").parent
    for kind, keys in (("peft_model", list(names)), ("master_weights", ["llama.q.weight"])):
        index = {"weight_map": dict.fromkeys(keys, f"{kind}-00001-of-00001.safetensors")}
        (folder / f"{kind}.safetensors.index.json").write_text(json.dumps(index))
    (folder / "lora_config.json").write_text(json.dumps({"r": 2, "scaling": 1.5}))
    assert [(module.r, module.scaling) for module in adapters.open(folder).modules] == [(2, 1.5)]


def test_numbered_layers_of_candle_lora(make_file: Make) -> None:
    names = {"model.lora_llamaa0.weight": A, "model.lora_llamab0.weight": B}
    names |= {f"h.{i}.lora_linear.{side}{i}.weight": x for i in (0, 1) for side, x in (("a", A), ("b", B))}
    adapter = adapters.open(make_file(names))
    assert [module.name for module in adapter.modules] == [
        "h.0.lora_linear.0",
        "h.1.lora_linear.1",
        "model.lora_llama.0",
    ]
    for module in adapter.modules:
        lora_A, lora_B = module.factors()
        np.testing.assert_array_equal(lora_B @ lora_A, B.astype(np.float64) @ A)


def test_glora_is_no_candle_lora(make_file: Make) -> None:
    with pytest.raises(AdapterError, match="a GLoRA"):
        adapters.open(make_file({f"lora_unet_q.{x}.weight": A if x[0] == "a" else B for x in ("a1", "a2", "b1", "b2")}))


def test_layerdiffuse_has_its_factors_in_the_order_of_patches(make_file: Make) -> None:
    stem = "diffusion_model.middle_block.1.attn1.to_q.weight"
    names = {f"{stem}::lora::0": B, f"{stem}::lora::1": A}
    (module,) = adapters.open(make_file(names)).modules
    assert (module.name, module.scaling) == (stem.removesuffix(".weight"), 1.0)
    np.testing.assert_array_equal(module.factors()[1], B.astype(np.float64))
    (module,) = adapters.open(make_file(names | {f"{stem}::lora::2": np.array(6.0)}, name="alpha.safetensors")).modules
    assert module.scaling == 3.0


def test_llama_adapter_numbers_its_factors(make_file: Make) -> None:
    stem = "llama.layers.0.attention"
    names = {f"{stem}.lora_{w}_l{i}.weight": x for w in ("wq", "wo") for i, x in ((1, A), (2, B))}
    adapter = adapters.open(make_file(names | {f"{stem}.gate": np.ones((1, 1), np.float32)}))
    assert [(module.name, module.r) for module in adapter.modules] == [(f"{stem}.wo", 2), (f"{stem}.wq", 2)]
    assert adapter.carried == (f"{stem}.gate",)


@pytest.mark.parametrize("words", [("W_down", "W_up"), ("lora_down.weight", "lora_up.weight")])
def test_the_alpha_of_hcp_diffusion_is_the_scaling(words: tuple[str, str], make_file: Make, tmp_path: Path) -> None:
    stem = "lora:mid_block.attentions.0.transformer_blocks.0.attn1.to_k.___"
    tensors = {
        f"{stem}.layer.{words[0]}": A,
        f"{stem}.layer.{words[1]}": B,
        f"{stem}.alpha": np.array(0.25, np.float32),
    }
    adapter = adapters.open(make_file(tensors, name="unet-1000.safetensors"))
    (module,) = adapter.modules
    assert (module.name, module.scaling) == (stem.removeprefix("lora:").removesuffix(".___"), 0.25)
    assert (adapter.format, adapter.notes) == ("pairs", ())
    resize(adapter.source, tmp_path / "out", ResizeOptions(rank=1))
    (module,) = adapters.open(tmp_path / "out").modules
    assert (module.r, module.scaling) == (1, 0.25)


def test_a_convolution_whose_kernel_is_in_its_r_is_noted(make_file: Make) -> None:
    names = {"q.lora_A": A, "q.lora_B": B, "conv1.lora_A": normal(6, 60), "conv1.lora_B": normal(54, 6)}
    adapter = adapters.open(make_file(names))
    assert [module.r for module in adapter.modules] == [6, 2]
    assert adapter.notes[-1].startswith("Modules like conv1 have 3 times the r of others")


def test_modules_of_stable_cascade_are_counted(make_file: Make, tmp_path: Path) -> None:
    names = {f"weights.{i}.lora_{side}": x for i in (0, 10, 2) for side, x in (("down", A), ("up", B))}
    adapter = adapters.open(make_file(names | {"embeddings.embeddings": normal(1, 8)}))
    assert [(module.name, module.scaling) for module in adapter.modules] == [(f"weights.{i}", 0.5) for i in (0, 2, 10)]
    assert adapter.notes[0].startswith("Modules are counted")
    resize(adapter.source, tmp_path / "same", ResizeOptions(rank=2))
    with pytest.raises(AdapterError, match="the tool that it is from multiplies by 1/r"):
        resize(adapter.source, tmp_path / "cut", ResizeOptions(rank=1))


def test_layers_with_a_lora_in_them_among_those_of_a_controlnet(make_file: Make) -> None:
    stem = "control_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q"
    names = {f"{stem}.lora_layer.down.weight": A, f"{stem}.lora_layer.up.weight": B}
    adapter = adapters.open(make_file(names | {"control_model.zero_convs.0.0.weight": normal(8, 8, 1, 1)}))
    assert [(module.name, module.scaling) for module in adapter.modules] == [(stem, 1.0)]
    assert adapter.carried == ("control_model.zero_convs.0.0.weight",)
    assert adapter.notes == ("No alpha is stored: scaling 1, as layers of diffusers with a LoRA in them take it.",)


def test_a_scaling_of_every_module_counts(make_file: Make) -> None:
    names = {f"layers.{i}.q.{key}": x for i in (0, 1) for key, x in (("lora_A", A.T), ("lora_B", B.T))}
    names |= {f"layers.{i}.q.scaling": np.array(2.0 + i, np.float32) for i in (0, 1)}
    adapter = adapters.open(make_file(names))
    assert [(module.r, module.scaling) for module in adapter.modules] == [(2, 2.0), (2, 3.0)]
    assert adapter.notes == ("Factors like layers.0.q.lora_A are taken as (in, r) and (r, out), by their shapes.",)


def test_the_scalings_of_mochi_are_those_of_two_kinds_of_projections(make_file: Make) -> None:
    told = {f"{kind}_proj_lora_{key}": value for kind in ("qkv", "out") for key, value in (("rank", 2), ("alpha", 6))}
    told["out_proj_lora_alpha"] = 4
    names = {f"blocks.0.attn.{name}.lora_{side}": x for name in ("qkv_x", "proj_y") for side, x in (("A", A), ("B", B))}
    adapter = adapters.open(make_file(names, metadata={"kwargs": json.dumps(told)}))
    assert {module.name: module.scaling for module in adapter.modules} == {
        "blocks.0.attn.proj_y": 2.0,
        "blocks.0.attn.qkv_x": 3.0,
    }
    other = make_file(
        names | {"x.lora_A": A, "x.lora_B": B}, metadata={"kwargs": json.dumps(told)}, name="x.safetensors"
    )
    assert {module.scaling for module in adapters.open(other).modules} == {1.0}


def test_the_alpha_and_the_magnitudes_of_stable_audio(make_file: Make) -> None:
    stem = "model.transformer.layers.0.self_attn.to_qkv.parametrizations.weight.0"
    names = {f"{stem}.lora_A": A, f"{stem}.lora_B": B, f"{stem}.magnitude": normal(18)}
    told = {"rank": 2, "alpha": 6, "adapter_type": "dora-rows"}
    adapter = adapters.open(make_file(names, metadata={"lora_config": json.dumps(told)}))
    (module,) = adapter.modules
    assert (module.name, module.scaling) == ("model.transformer.layers.0.self_attn.to_qkv", 3.0)
    assert NOTES["use_dora"] in adapter.notes
    assert adapter.notes[0] == (
        "No alpha is stored with the factors: the scaling of 3 is that of lora_config in the file."
    )
    for i, text in enumerate(("{", '{"rank": 2}', '{"rank": 2, "alpha": "6"}')):
        broken = make_file(names, metadata={"lora_config": text}, name=f"broken-{i}.safetensors")
        assert adapters.open(broken).modules[0].scaling == 1.0


def test_the_scaling_of_clip_lora_is_by_the_root_of_r(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    weights = {"layer_0": {"q_proj": {"w_lora_A": torch.tensor(A), "w_lora_B": torch.tensor(B)}}}
    torch.save({"weights": weights, "metadata": {"r": 2, "alpha": 6, "encoder": "both"}}, tmp_path / "clip.pt")
    (module,) = adapters.open(tmp_path / "clip.pt").modules
    assert (module.name, module.r) == ("layer_0.q_proj.w", 2)
    assert module.scaling == pytest.approx(6 / 2**0.5)


def test_a_folder_of_opendelta_is_no_models(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    tensors = {"block.0.q.lora.lora_A": torch.tensor(A), "block.0.q.lora.lora_B": torch.tensor(B)}
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps({"delta_type": "lora", "lora_r": 2, "lora_alpha": 6}))
    assert [(module.name, module.scaling) for module in adapters.open(tmp_path).modules] == [("block.0.q", 3.0)]


def test_bare_lower_case_factors_in_a_file_of_torch_are_not_those_of_mlx(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"k.lora_a": torch.tensor(A), "k.lora_b": torch.tensor(B)}, tmp_path / "finish.pt")
    adapter = adapters.open(tmp_path / "finish.pt")
    assert (adapter.format, adapter.modules[0].name, adapter.modules[0].r) == ("pairs", "k", 2)


@pytest.mark.parametrize(
    ("tensors", "name", "shape"),
    [
        ({"q.lora_weight_1.weight": normal(2, 9), "q.lora_weight_2.weight": normal(8, 2)}, "q", (8, 9)),
        ({"q.lora_module.in_proj": normal(9, 2), "q.lora_module.out_proj": normal(2, 8)}, "q", (8, 9)),
        ({"wq.mindpet_delta_lora_a": normal(2, 9), "wq.mindpet_delta_lora_b": normal(8, 2)}, "wq", (8, 9)),
        ({"q.adapter_down_proj.weight": normal(6, 9), "q.adapter_up_proj.weight": normal(8, 6)}, "q", (8, 9)),
    ],
)
def test_names_of_one_tool(tensors: dict[str, np.ndarray], name: str, shape: tuple[int, int], make_file: Make) -> None:
    (module,) = adapters.open(make_file(tensors)).modules
    assert (module.name, module.out_features, module.in_features) == (name, *shape)
    first, second = (x.astype(np.float64) for x in tensors.values())
    dense = second @ first if first.shape[1] == 9 else (first @ second).T
    lora_A, lora_B = module.factors()
    np.testing.assert_allclose(lora_B @ lora_A, dense, rtol=1e-13)


def test_a_bottleneck_of_speechbrain_is_no_lora(make_file: Make) -> None:
    tensors = {"q.adapter_down_proj.weight": normal(6, 9), "q.adapter_up_proj.weight": normal(8, 6)}
    with pytest.raises(AdapterError, match="a bias, as bottleneck adapters have one"):
        adapters.open(make_file(tensors | {"q.adapter_down_proj.bias": normal(6)}))


@pytest.mark.parametrize(
    "words", [("loraA", "loraB"), ("lora_in", "lora_out"), ("lora1", "lora2"), ("lora_1", "lora_2")]
)
def test_words_with_lora_in_them(words: tuple[str, str], make_file: Make) -> None:
    tensors = {f"layers.0.q.{words[0]}.weight": normal(2, 24), f"layers.0.q.{words[1]}.weight": normal(16, 2)}
    (module,) = adapters.open(make_file(tensors)).modules
    assert (module.name, module.r, module.in_features, module.out_features) == ("layers.0.q", 2, 24, 16)


def test_a_pair_is_stored_as_the_others_of_its_file(make_file: Make) -> None:
    tensors = {"head.lora.A": normal(64, 8), "head.lora.B": normal(8, 2)}
    others = {"q.lora.A": normal(64, 8), "q.lora.B": normal(8, 64)}
    head, _ = adapters.open(make_file(tensors | others)).modules
    assert (head.r, head.in_features, head.out_features) == (8, 64, 2)


def test_w_a_is_of_one_way(make_file: Make) -> None:
    (module,) = adapters.open(make_file({"w_a_000": normal(12, 16), "w_b_000": normal(16, 12)})).modules
    assert (module.r, module.in_features, module.out_features) == (12, 16, 16)


@pytest.mark.parametrize("turned", [False, True])
def test_a_lora_a_task(turned: bool, make_file: Make) -> None:
    lora_A, lora_B = normal(3, 4, 24), normal(3, 16, 4, seed=1)
    stored = (lora_A.swapaxes(1, 2), lora_B.swapaxes(1, 2)) if turned else (lora_A, lora_B)
    names = (f"qkv.parametrizations.weight.0.lora_{letter}" for letter in "AB")
    tensors = {name: np.ascontiguousarray(x) for name, x in zip(names, stored, strict=True)}
    path = make_file(tensors)
    (path.parent / "config.json").write_text(json.dumps({"lora_rank": 4, "lora_alpha": 1}))
    adapter = adapters.open(path)
    assert [module.name for module in adapter.modules] == ["qkv.0", "qkv.1", "qkv.2"]
    assert any("several updates of a module" in note for note in adapter.notes)
    for task, module in enumerate(adapter.modules):
        A_task, B_task = module.factors()
        np.testing.assert_allclose(
            module.scaling * B_task @ A_task, 0.25 * lora_B[task].astype(np.float64) @ lora_A[task], rtol=1e-12
        )


@pytest.mark.parametrize(("trainable", "scaling"), [(False, 8.0), (True, 1.0)])
def test_relora(trainable: bool, scaling: float, make_file: Make) -> None:
    path = make_file(
        {"q.lora_A.weight": normal(2, 9), "q.lora_B.weight": normal(8, 2)}, name="pytorch_model.safetensors"
    )
    config = {"r": 2, "lora_alpha": 16, "trainable_scaling": trainable}
    (path.parent / "relora_config.json").write_text(json.dumps(config))
    assert adapters.open(path).modules[0].scaling == scaling


def test_parameters_of_loralibs_layers_are_named_by_their_paths(make_file: Make, tmp_path: Path) -> None:
    name = "roberta.encoder.layer.0.attention.self.query"
    convert(make_file({f"{name}.lora_A": A, f"{name}.lora_B": B}), tmp_path / "peft", ConvertOptions(to="peft"))
    (module,) = adapters.open(tmp_path / "peft").modules
    assert module.name == name
    with pytest.raises(AdapterError, match=r"its modules \(0, …\) are not named by their paths"):
        convert(make_file({"0.lora_A": A, "0.lora_B": B}), tmp_path / "none", ConvertOptions(to="peft"))
