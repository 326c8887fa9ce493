"""What is written for diffusers and for kohya's tools, taken by the loaders of diffusers themselves: pipelines of tiny
models, made here from their configurations. ΔW is what PEFT's layers inside them compute.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.loaders import lora_conversion_utils, lora_pipeline
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from lorarank import adapters
from lorarank.adapters.names.underscored import dotted
from lorarank.errors import AdapterError, OptionError
from lorarank.resize import ConvertOptions, ResizeOptions, convert, resize

Deltas = dict[str, np.ndarray]
UNET = ["to_q", "to_k", "to_v", "to_out.0", "net.0.proj", "net.2", "proj_in", "conv1", "conv_shortcut", "linear_1"]
TEXT = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
FLUX = ["to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "to_add_out", "net.0.proj", "proj_mlp", "norm1.linear"]


def unet() -> nn.Module:
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(4, 8),
        layers_per_block=1,
        norm_num_groups=2,
        cross_attention_dim=8,
        attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )


def text_encoder() -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModel

    size = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2}
    return CLIPTextModel(CLIPTextConfig(vocab_size=20, bos_token_id=1, eos_token_id=2, **size))


def flux() -> nn.Module:
    return diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
    )


def sdxl() -> nn.Module:
    """As Stable Diffusion XL's, whose levels are two resnets long: Stability AI's names count on that."""
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(2, 4, 4),
        layers_per_block=2,
        norm_num_groups=2,
        cross_attention_dim=4,
        attention_head_dim=(1, 2, 2),
        transformer_layers_per_block=(1, 1, 2),
        addition_embed_type="text_time",
        addition_time_embed_dim=2,
        projection_class_embeddings_input_dim=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    )


def sd3() -> nn.Module:
    return diffusers.SD3Transformer2DModel(
        sample_size=8,
        num_layers=2,
        attention_head_dim=4,
        num_attention_heads=2,
        joint_attention_dim=8,
        caption_projection_dim=8,
        pooled_projection_dim=8,
        dual_attention_layers=(0,),
    )


MODELS: dict[str, Callable[[], nn.Module]] = {"unet": unet, "text_encoder": text_encoder, "transformer": flux}
TARGETS = {"unet": UNET, "text_encoder": TEXT, "transformer": FLUX}


def pipeline(part: str, model: nn.Module, **others: nn.Module) -> Any:
    """A pipeline of nothing but the parts that LoRA is loaded into."""
    if part == "transformer":
        names = ("scheduler", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
        return diffusers.FluxPipeline(transformer=model, **dict.fromkeys(names))
    if part == "sdxl":
        names = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
        return diffusers.StableDiffusionXLPipeline(unet=model, **dict.fromkeys(names), add_watermarker=False)
    rest = dict.fromkeys(("vae", "tokenizer", "scheduler", "safety_checker", "feature_extractor"))
    parts = {"unet": unet(), "text_encoder": text_encoder()} | {part: model} | others
    return diffusers.StableDiffusionPipeline(**parts, **rest, requires_safety_checker=False)


def deltas(model: nn.Module) -> Deltas:
    """Every delta weight of the adapter that is loaded, by the path of its module."""
    found = {}
    for name, module in model.named_modules():
        if hasattr(module, "get_delta_weight") and module.lora_A:
            (adapter,) = module.lora_A
            found[name.removeprefix("base_model.model.")] = module.get_delta_weight(adapter).detach().double().numpy()
    return found


def randomised(model: PeftModel) -> PeftModel:
    """The same with other factors than those it starts with, which add nothing."""
    generator = torch.Generator().manual_seed(1)
    for key, parameter in model.named_parameters():
        if "lora_" in key:
            parameter.data = torch.rand(parameter.shape, generator=generator) - 0.3
    return model


def same(found: Deltas, expected: Deltas, rounding: float = 2e-6) -> None:
    assert found.keys() == expected.keys()
    for name, delta in expected.items():
        np.testing.assert_allclose(found[name], delta, rtol=0, atol=rounding * np.abs(delta).max(), err_msg=name)


def dense(delta: np.ndarray, k: int) -> np.ndarray:
    """The best approximation of rank k, by a dense SVD."""
    U, s, Vt = np.linalg.svd(delta.reshape(len(delta), -1), full_matrices=False)
    return ((U[:, :k] * s[:k]) @ Vt[:k]).reshape(delta.shape)


@pytest.fixture(autouse=True)
def complaints(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """diffusers logs what it could not place, and goes on: none of that may happen."""
    logger = logging.getLogger("diffusers")
    logger.addHandler(caplog.handler)
    yield
    logger.removeHandler(caplog.handler)
    records = [record for record in caplog.get_records("call") if record.name.startswith("diffusers")]
    said = [record.getMessage() for record in records if record.levelno >= logging.WARNING]
    # of a part of the pipeline that the file is not for
    assert not [line for line in said if not line.startswith("No LoRA keys associated to")]


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., tuple[Path, Deltas]]:
    """``saved("unet", r=4, …)``: a folder of PEFT's with random factors for that model, and its delta weights."""

    def save(part: str, **config: Any) -> tuple[Path, Deltas]:
        model = randomised(get_peft_model(MODELS[part](), LoraConfig(**{"target_modules": TARGETS[part], **config})))
        model.save_pretrained(tmp_path / part)
        return tmp_path / part, deltas(model)

    return save


@pytest.mark.parametrize("part", MODELS)
def test_a_pipeline_loads_what_is_written_for_diffusers(
    part: str, saved: Callable[..., tuple[Path, Deltas]], tmp_path: Path
) -> None:
    one, other = TARGETS[part][:2]
    before, expected = saved(part, r=4, lora_alpha=6, rank_pattern={one: 3}, alpha_pattern={other: 2})
    resize(before, tmp_path / "out", ResizeOptions(rank=2, to="diffusers"))
    model = MODELS[part]()
    pipeline(part, model).load_lora_weights(tmp_path / "out")
    same(deltas(model), {name: dense(delta, 2) for name, delta in expected.items()})


@pytest.mark.parametrize(
    "modules",
    [
        ["transformer.layers.0.self_attn.to_q", "transformer.layers.0.cross_attn.to_k", "transformer.layers.0.mlp.up"],
        ["transformer_ref.transformer_blocks.0.attn.to_q", "transformer_ref.proj_out"],
        [
            "transformer.transformer_blocks.0.attn1.to_q",
            "connectors.video_connector.transformer_1d_blocks.0.attn1.to_q",
        ],
        ["text_conditioner.blocks.0.self_attn.q_proj"],
    ],
    ids=["ACE-Step", "MiniMax-H3", "LTX-2", "Anima"],
)
@pytest.mark.parametrize("configured", [False, True])
def test_parts_of_pipelines_stay_what_they_are(configured: bool, modules: list[str], tmp_path: Path) -> None:
    """``load_lora_adapter`` of a part takes what begins with its name, which PEFT's names are without."""
    generator, path = torch.Generator().manual_seed(1), tmp_path / "pytorch_lora_weights.safetensors"
    tensors = {f"{m}.lora_{side}.weight": torch.rand(4, 4, generator=generator) for m in modules for side in "AB"}
    parts = {module.partition(".")[0] for module in modules}
    config = {f"{part}.{key}": value for part in parts for key, value in (("r", 4), ("lora_alpha", 8))}
    save_file(tensors, path, metadata={"lora_adapter_metadata": json.dumps(config)} if configured else None)
    opened = adapters.open(path)
    assert (opened.format, {module.scaling for module in opened.modules}) == ("diffusers", {2 if configured else 1})
    resize(path, tmp_path / "out", ResizeOptions(rank=2))
    written = load_file(tmp_path / "out" / path.name)
    assert written.keys() == tensors.keys()
    for m in modules:
        A, B = (
            {f: x[f"{m}.lora_{side}.weight"].double() for f, x in (("old", tensors), ("new", written))} for side in "AB"
        )
        expected = dense((2 if configured else 1) * (B["old"] @ A["old"]).numpy(), 2)
        np.testing.assert_allclose(B["new"] @ A["new"], expected, atol=1e-5)
    if len(parts) == 1:
        convert(path, tmp_path / "peft", ConvertOptions(to="peft"))
        named = load_file(tmp_path / "peft" / "adapter_model.safetensors")
        assert f"base_model.model.{modules[0].partition('.')[2]}.lora_A.weight" in named


def wan() -> nn.Module:
    size = {"num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4, "text_dim": 8}
    return diffusers.WanTransformer3DModel(**size, freq_dim=8, ffn_dim=12, num_layers=1, rope_max_seq_len=8)


def lumina() -> nn.Module:
    size = {"sample_size": 4, "in_channels": 4, "hidden_size": 24, "num_attention_heads": 3, "num_kv_heads": 1}
    axes = {"axes_dim_rope": (4, 2, 2), "axes_lens": (8, 8, 8)}
    return diffusers.Lumina2Transformer2DModel(**size, **axes, num_layers=1, num_refiner_layers=1, cap_feat_dim=8)


def cogvideo() -> nn.Module:
    size = {"num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 4, "out_channels": 4, "time_embed_dim": 4}
    more = {"text_embed_dim": 8, "num_layers": 1, "sample_width": 2, "sample_height": 2, "sample_frames": 5}
    return diffusers.CogVideoXTransformer3DModel(**size, **more, patch_size=2, max_text_seq_length=4)


@pytest.mark.parametrize("make", [wan, lumina, flux, cogvideo])
def test_all_layers_of_transformers_from_peft(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    names = [name for name, module in make().named_modules() if isinstance(module, nn.Linear)]
    trained = randomised(get_peft_model(make(), LoraConfig(r=2, lora_alpha=3, target_modules=names)))
    trained.save_pretrained(tmp_path / "in")
    convert(tmp_path / "in", tmp_path / "out", ConvertOptions(to="diffusers"))
    model = make()
    model.load_lora_adapter(load_file(tmp_path / "out" / "pytorch_lora_weights.safetensors"), prefix="transformer")
    same(deltas(model), deltas(trained))


def test_a_pipeline_loads_a_cut_of_what_a_pipeline_saved(tmp_path: Path) -> None:
    """A UNet and its text encoder in one file of diffusers' own making, with alphas in its metadata."""
    models = {"unet": unet(), "text_encoder": text_encoder()}
    factors, metadata = {}, {}
    for part, model in models.items():
        config = LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS[part])
        trained = randomised(get_peft_model(model, config))
        layers = get_peft_model_state_dict(trained)
        factors[f"{part}_lora_layers"] = {key.removeprefix("base_model.model."): layers[key] for key in layers}
        metadata[f"{part}_lora_adapter_metadata"] = config.to_dict()
    diffusers.StableDiffusionPipeline.save_lora_weights(tmp_path / "saved", **factors, **metadata)
    for name, to in (("out", "diffusers"), ("lora.safetensors", "kohya")):
        resize(tmp_path / "saved", tmp_path / name, ResizeOptions(rank=3, to=to))
        fresh = {"unet": unet(), "text_encoder": text_encoder()}
        pipeline("unet", fresh["unet"], text_encoder=fresh["text_encoder"]).load_lora_weights(tmp_path / name)
        for part, model in fresh.items():
            same(deltas(model), {key: dense(delta, 3) for key, delta in deltas(models[part]).items()})


def test_magnitudes_of_dora_are_loaded(saved: Callable[..., tuple[Path, Deltas]], tmp_path: Path) -> None:
    before, expected = saved("transformer", r=4, use_dora=True)
    resize(before, tmp_path / "out", ResizeOptions(rank=2, to="diffusers"))
    model = flux()
    pipeline("transformer", model).load_lora_weights(tmp_path / "out")
    same(deltas(model), {name: dense(delta, 2) for name, delta in expected.items()})
    old, new = load_file(before / "adapter_model.safetensors"), dict(model.named_parameters())
    magnitudes = {key: tensor for key, tensor in old.items() if key.endswith("lora_magnitude_vector")}
    assert len(magnitudes) == len(expected)
    for key, tensor in magnitudes.items():
        assert torch.equal(new[f"{key.removeprefix('base_model.model.')}.default_0.weight"], tensor), key


# PEFT's word for the alphas that diffusers gives it under other names than those of the modules
@pytest.mark.filterwarnings("ignore:The following alpha_pattern keys did not match any targeted module:RuntimeWarning")
@pytest.mark.parametrize("baked", [False, True])
def test_what_the_note_on_alphas_that_differ_says(
    baked: bool, saved: Callable[..., tuple[Path, Deltas]], tmp_path: Path
) -> None:
    """diffusers takes one alpha for all attention: ``--bake-alpha``, as the note advises, is what it reads rightly."""
    before, expected = saved("unet", r=4, lora_alpha=6, alpha_pattern={"to_q": 2, "conv1": 3})
    done = convert(before, tmp_path / "lora.safetensors", ConvertOptions(to="kohya", bake_alpha=baked))
    assert any("--bake-alpha" in note for note in done.notes) is not baked
    model = unet()
    pipeline("unet", model).load_lora_weights(tmp_path / "lora.safetensors")
    found = deltas(model)
    wrong = {name for name, delta in expected.items() if not np.allclose(found[name], delta, atol=1e-4)}
    assert wrong == (set() if baked else {name for name in expected if name.endswith("to_q")})


def test_ranks_that_differ_at_a_scaling_of_one_are_read_without_an_alpha(
    saved: Callable[..., tuple[Path, Deltas]], tmp_path: Path
) -> None:
    before, expected = saved("unet", r=4, lora_alpha=4, rank_pattern={"to_q": 2}, alpha_pattern={"to_q": 2})
    done = convert(before, tmp_path / "lora.safetensors", ConvertOptions(to="kohya"))
    assert not any("--bake-alpha" in note for note in done.notes)
    model = unet()
    pipeline("unet", model).load_lora_weights(tmp_path / "lora.safetensors")
    same(deltas(model), expected)


@pytest.mark.parametrize(
    ("names", "converter"),
    [
        (
            [f"lora_unet_blocks_0_{one}_attn_{name}" for one in ("self", "cross") for name in "qkvo"]
            + ["lora_unet_blocks_0_ffn_0", "lora_unet_blocks_0_ffn_2"],
            "_convert_musubi_wan_lora_to_diffusers",
        ),
        (
            [f"lora_transformer_single_transformer_blocks_0_attn_to_{name}" for name in "qkv"],
            "_convert_kohya_flux_lora_to_diffusers",
        ),
    ],
)
@pytest.mark.parametrize("alpha", [4.0, 6.0])
def test_alphas_that_loaders_need_are_kept(names: list[str], converter: str, alpha: float, tmp_path: Path) -> None:
    """What diffusers has for Wan and for OneTrainer's Flux stops at a module without an alpha, also where it is r."""
    kohya(dict.fromkeys(names, (8, 8)), tmp_path / "in.safetensors", alpha)
    done = resize(tmp_path / "in.safetensors", tmp_path / "a.safetensors", ResizeOptions(rank=2, bake_alpha=alpha != 4))
    assert not any("--bake-alpha" in note for note in done.notes)
    before, after = (load_file(tmp_path / name) for name in ("in.safetensors", "a.safetensors"))
    assert after.keys() == before.keys()
    assert {float(tensor) for key, tensor in after.items() if key.endswith("alpha")} == {2}
    taken = getattr(lora_conversion_utils, converter)(after)
    assert sum("lora_B" in key for key in taken) == len(names)


@pytest.mark.parametrize("module", ["", "lycoris.kohya"])
def test_a_file_of_several_ranks_keeps_alphas_where_its_tool_needs_them(module: str, tmp_path: Path) -> None:
    """sd-scripts takes r for a missing alpha, and diffusers needs it to be missing; LyCORIS stops there."""
    path, query = tmp_path / "in.safetensors", "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    kohya({query: (8, 8), "lora_unet_mid_block_resnets_0_conv1": (8, 8, 3, 3)}, path, 4.0, ss_network_module=module)
    tensors = load_file(path)
    tensors[f"{query}.lora_down.weight"][1:] = 0
    save_file(tensors, path, metadata={"ss_network_module": module})
    done = resize(path, tmp_path / "a.safetensors", ResizeOptions(energy=0.999999, per_module=True))
    assert len(done.r) == 2
    assert any(key.endswith("alpha") for key in load_file(tmp_path / "a.safetensors")) is bool(module)
    convert(tmp_path / "a.safetensors", tmp_path / "again.safetensors", ConvertOptions(dtype="float16"))
    assert load_file(tmp_path / "again.safetensors").keys() == load_file(tmp_path / "a.safetensors").keys()
    convert(tmp_path / "a.safetensors", tmp_path / "baked.safetensors", ConvertOptions(bake_alpha=True))
    assert not any(key.endswith("alpha") for key in load_file(tmp_path / "baked.safetensors"))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rounding_is_all_that_a_dtype_costs(
    dtype: str, saved: Callable[..., tuple[Path, Deltas]], tmp_path: Path
) -> None:
    before, expected = saved("unet", r=4, lora_alpha=6)
    convert(before, tmp_path / "out", ConvertOptions(to="diffusers", dtype=dtype))
    model = unet()
    pipeline("unet", model).load_lora_weights(tmp_path / "out")
    same(deltas(model), expected, rounding={"float16": 3 * 2**-10, "bfloat16": 3 * 2**-7}[dtype])


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_a_pipeline_loads_what_is_written_for_kohya(
    part: str, saved: Callable[..., tuple[Path, Deltas]], tmp_path: Path
) -> None:
    before, expected = saved(part, r=4, lora_alpha=6)
    resize(before, tmp_path / "lora.safetensors", ResizeOptions(rank=2, to="kohya"))
    model = MODELS[part]()
    pipeline(part, model).load_lora_weights(tmp_path / "lora.safetensors")
    same(deltas(model), {name: dense(delta, 2) for name, delta in expected.items()})


def kohya(modules: dict[str, tuple[int, ...]], path: Path, alpha: float = 6.0, **metadata: str) -> None:
    """A file of kohya's at r = 4: name of each module → shape of its weight."""
    generator, tensors = torch.Generator().manual_seed(1), {}
    for name, (out, *tail) in modules.items():
        ones = (1,) * (len(tail) - 1)
        tensors[f"{name}.lora_down.weight"] = torch.rand((4, *tail), generator=generator) - 0.3
        tensors[f"{name}.lora_up.weight"] = torch.rand((out, 4, *ones), generator=generator) - 0.3
        tensors[f"{name}.alpha"] = torch.tensor(alpha)
    save_file(tensors, path, metadata=metadata)


SGM = {
    "input_blocks_1_0_in_layers_2": "down_blocks.0.resnets.0.conv1",
    "input_blocks_3_0_op": "down_blocks.0.downsamplers.0.conv",
    "input_blocks_4_0_skip_connection": "down_blocks.1.resnets.0.conv_shortcut",
    "input_blocks_5_1_transformer_blocks_0_attn1_to_q": "down_blocks.1.attentions.1.transformer_blocks.0.attn1.to_q",
    "input_blocks_8_1_proj_in": "down_blocks.2.attentions.1.proj_in",
    "middle_block_0_emb_layers_1": "mid_block.resnets.0.time_emb_proj",
    "middle_block_1_transformer_blocks_1_ff_net_0_proj": "mid_block.attentions.0.transformer_blocks.1.ff.net.0.proj",
    "middle_block_2_out_layers_3": "mid_block.resnets.1.conv2",
    "output_blocks_2_1_transformer_blocks_0_attn2_to_k": "up_blocks.0.attentions.2.transformer_blocks.0.attn2.to_k",
    "output_blocks_2_2_conv": "up_blocks.0.upsamplers.0.conv",
    "output_blocks_8_0_out_layers_3": "up_blocks.2.resnets.2.conv2",
    "time_embed_0": "time_embedding.linear_1",
    "label_emb_0_2": "add_embedding.linear_2",
}
"""Names of Stability AI's code for SDXL's UNet, as kohya's tools train it → diffusers'."""


def test_dots_are_found_in_every_name_of_diffusers_models() -> None:
    for model in (unet(), sdxl(), flux(), sd3(), text_encoder()):
        names = [name for name, module in model.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
        assert len(names) > 10
        assert [dotted(name.replace(".", "_")) for name in names] == names


@pytest.mark.parametrize("names", ["diffusers", "sgm"])
def test_kohya_for_diffusers_is_what_diffusers_makes_of_it(names: str, tmp_path: Path) -> None:
    model, path = sdxl(), tmp_path / "lora.safetensors"
    known = SGM
    if names == "diffusers":  # which itself does not find the added embedding again
        known = {name.replace(".", "_"): name for name in SGM.values() if not name.startswith("add_embedding")}
    kohya({f"lora_unet_{flat}": model.get_submodule(name).weight.shape for flat, name in known.items()}, path)
    theirs, ours = sdxl(), sdxl()
    pipeline("sdxl", theirs).load_lora_weights(path)
    convert(path, tmp_path / "out", ConvertOptions(to="diffusers"))
    pipeline("sdxl", ours).load_lora_weights(tmp_path / "out")
    assert set(deltas(ours)) == set(known.values())
    same(deltas(ours), deltas(theirs))


@pytest.mark.parametrize("names", ["kohya", "xlabs"])
def test_flux_for_diffusers_is_what_diffusers_makes_of_it(names: str, tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    double = {"img_attn_qkv": (96, 32), "txt_attn_qkv": (96, 32), "img_attn_proj": (32, 32), "txt_mod_lin": (192, 32)}
    double |= {"img_mlp_0": (128, 32), "txt_mlp_2": (32, 128)}
    if names == "kohya":
        modules = {f"lora_unet_double_blocks_0_{name}": shape for name, shape in double.items()}
        single = {"linear2": (32, 160), "modulation_lin": (96, 32)}
        modules |= {f"lora_unet_single_blocks_0_{name}": shape for name, shape in single.items()}
        kohya(modules, path)
    else:
        processors = {"double_blocks.0.processor.qkv_lora1": (96, 32), "double_blocks.0.processor.proj_lora2": (32, 32)}
        processors |= {"single_blocks.0.processor.qkv_lora": (96, 32), "single_blocks.0.processor.proj_lora": (32, 160)}
        kohya(processors, path)
        tensors = load_file(path)
        renamed = {key.replace(".lora_", "."): tensors[key] for key in tensors if not key.endswith("alpha")}
        save_file(renamed, path)
    theirs, ours = flux(), flux()
    pipeline("transformer", theirs).load_lora_weights(path)
    convert(path, tmp_path / "out", ConvertOptions(to="diffusers"))
    pipeline("transformer", ours).load_lora_weights(tmp_path / "out")
    assert len(deltas(ours)) == (12 if names == "kohya" else 8)
    same(deltas(ours), deltas(theirs))


def test_a_fused_layer_of_flux_is_cut_into_those_of_diffusers(tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    kohya(
        {"lora_unet_single_blocks_0_linear1": (7 * 32, 32), "lora_unet_final_layer_adaLN_modulation_1": (64, 32)}, path
    )
    convert(path, tmp_path / "out", ConvertOptions(to="peft"))
    model = PeftModel.from_pretrained(flux(), tmp_path / "out")
    tensors = {key: tensor.double() for key, tensor in load_file(path).items()}
    linear1, ada = (
        1.5 * tensors[f"lora_unet_{name}.lora_up.weight"] @ tensors[f"lora_unet_{name}.lora_down.weight"]
        for name in ("single_blocks_0_linear1", "final_layer_adaLN_modulation_1")
    )
    stem = "single_transformer_blocks.0"
    names = [f"{stem}.attn.to_q", f"{stem}.attn.to_k", f"{stem}.attn.to_v", f"{stem}.proj_mlp"]
    expected = dict(zip(names, linear1.split([32, 32, 32, 128]), strict=True))
    shift, scale = ada.chunk(2)
    expected["norm_out.linear"] = torch.cat([scale, shift])
    same(deltas(model), {name: delta.numpy() for name, delta in expected.items()})


FLUX_SHAPES = {
    **{
        f"transformer_blocks.18.attn.{name}": (1, 1)
        for name in ("to_q", "to_v", "to_out.0", "add_k_proj", "to_add_out")
    },
    "transformer_blocks.0.ff.net.0.proj": (4, 1),
    "transformer_blocks.0.ff_context.net.2": (1, 4),
    "transformer_blocks.0.norm1_context.linear": (6, 1),
    **{f"single_transformer_blocks.37.attn.{name}": (1, 1) for name in ("to_q", "to_k", "to_v")},
    "single_transformer_blocks.37.proj_mlp": (4, 1),
    "single_transformer_blocks.37.proj_out": (1, 5),
    "single_transformer_blocks.37.norm.linear": (3, 1),
    "norm_out.linear": (2, 1),
}
"""Some of Flux.1's modules → their shapes in its width."""


@pytest.mark.parametrize("spread", [False, True])
def test_flux_for_kohya_is_for_diffusers_what_it_was(spread: bool, tmp_path: Path) -> None:
    """In Flux.1's own width, which diffusers takes for granted; what shares a layer there gets factors of zero."""
    width, generator, before = 3072, torch.Generator().manual_seed(1), {}
    for place, (name, (out, into)) in enumerate(FLUX_SHAPES.items()):
        r = 2 + spread * (place % 2)
        before[f"transformer.{name}.lora_A.weight"] = torch.rand(r, into * width, generator=generator) - 0.3
        before[f"transformer.{name}.lora_B.weight"] = torch.rand(out * width, r, generator=generator) - 0.3
        before[f"transformer.{name}.alpha"] = torch.tensor(3.0 + spread * (place % 3))
    save_file(before, tmp_path / "pytorch_lora_weights.safetensors")
    done = convert(
        tmp_path / "pytorch_lora_weights.safetensors", tmp_path / "a.safetensors", ConvertOptions(to="kohya")
    )
    written = load_file(tmp_path / "a.safetensors")
    assert any("r adds up" in note for note in done.notes)
    assert done.parameters == sum(tensor.numel() for key, tensor in written.items() if not key.endswith("alpha"))
    after = lora_conversion_utils._convert_kohya_flux_lora_to_diffusers(written)
    after = {key.removeprefix("transformer."): tensor for key, tensor in after.items()}
    for name, (_, into) in FLUX_SHAPES.items():
        probe = torch.rand(into * width, 3, generator=generator, dtype=torch.float64)
        A, B = (before[f"transformer.{name}.lora_{side}.weight"].double() for side in "AB")
        expected = before[f"transformer.{name}.alpha"] / len(A) * (B @ (A @ probe))
        A, B = (after.pop(f"{name}.lora_{side}.weight").double() for side in "AB")
        np.testing.assert_allclose(B @ (A @ probe), expected, rtol=0, atol=1e-6 * expected.abs().max(), err_msg=name)
    assert {key.removesuffix(".lora_B.weight") for key in after if "lora_B" in key} == {
        f"transformer_blocks.18.attn.{name}" for name in ("to_k", "add_q_proj", "add_v_proj")
    }
    assert not any(tensor.any() for key, tensor in after.items() if "lora_B" in key)


def test_what_was_one_layer_of_flux_is_one_again(tmp_path: Path) -> None:
    kohya(
        {"lora_unet_single_blocks_0_linear1": (224, 32), "lora_unet_double_blocks_0_txt_attn_qkv": (96, 32)},
        tmp_path / "a.safetensors",
    )
    stored = load_file(tmp_path / "a.safetensors")
    stems = {
        "single_blocks_0_linear1": "single_blocks.0.linear1",
        "double_blocks_0_txt_attn_qkv": "double_blocks.0.txt_attn.qkv",
    }
    own = {
        f"diffusion_model.{path}.{new}.weight": stored[f"lora_unet_{flat}.{old}.weight"]
        for flat, path in stems.items()
        for old, new in (("lora_down", "lora_A"), ("lora_up", "lora_B"))
    }
    save_file(own, tmp_path / "b.safetensors")
    convert(tmp_path / "b.safetensors", tmp_path / "out.safetensors", ConvertOptions(to="kohya"))
    again = load_file(tmp_path / "out.safetensors")
    assert again.keys() == stored.keys()
    assert all(torch.equal(tensor, stored[key]) for key, tensor in again.items() if not key.endswith("alpha"))
    assert {float(tensor) for key, tensor in again.items() if key.endswith("alpha")} == {4}  # r, as the scaling was 1


def test_a_budget_counts_the_zeros_of_joined_layers(saved: Callable[..., tuple[Path, Deltas]], tmp_path: Path) -> None:
    before, _ = saved("transformer", r=4)
    done = resize(before, tmp_path / "lora.safetensors", ResizeOptions(rank=2, to="kohya"))
    fewer = sum(module.parameters for module in done.modules)
    assert done.parameters > fewer
    with pytest.raises(OptionError, match=f"--params {fewer}: with the zeros .* it takes {done.parameters:,}"):
        resize(before, tmp_path / "other.safetensors", ResizeOptions(params=fewer, to="kohya"))


@pytest.mark.parametrize(
    ("path", "shape", "what"),
    [
        ("transformer_blocks.0.attn.to_q", (32, 32), "without a block of one stream"),
        ("single_transformer_blocks.38.attn.to_q", (32, 32), "a module that Flux.1 does not have"),
        ("single_transformer_blocks.0.attn.to_out", (32, 32), "a module that Flux.1 does not have"),
        ("single_transformer_blocks.0.proj_mlp", (96, 32), "its shape is not that of Flux.1's"),
        ("single_transformer_blocks.0.proj_out", (32, 128), "its shape is not that of Flux.1's"),
    ],
)
def test_what_is_not_flux_is_not_joined_as_if_it_were(
    path: str, shape: tuple[int, int], what: str, tmp_path: Path
) -> None:
    factors = {
        f"transformer.{path}.lora_A.weight": torch.ones(2, shape[1]),
        f"transformer.{path}.lora_B.weight": torch.ones(shape[0], 2),
    }
    save_file(factors, tmp_path / "pytorch_lora_weights.safetensors")
    with pytest.raises(AdapterError, match=f"{what}.* Write --to diffusers"):
        convert(tmp_path / "pytorch_lora_weights.safetensors", tmp_path / "out", ConvertOptions(to="kohya"))


@pytest.mark.parametrize(
    "name", ["double_blocks_0_img_attn_qkv", "double_blocks_0_img_mlp_fc1", "single_blocks_0_linear1"]
)
def test_what_has_not_the_shapes_of_flux_is_not_taken_for_it(name: str, tmp_path: Path) -> None:
    kohya({f"lora_unet_{name}": (8 * 32, 32)}, tmp_path / "lora.safetensors")
    with pytest.raises(AdapterError, match=f"{name}.*none of a UNet, of a transformer that is known here or of CLIP"):
        convert(tmp_path / "lora.safetensors", tmp_path / "out", ConvertOptions(to="diffusers"))


def minimax_h3(path: Path) -> Deltas:
    """What diffusers makes of a file of MiniMax-H3's, whose metadata may hold an alpha for all modules."""
    loader = lora_pipeline.MiniMaxH3LoraLoaderMixin
    tensors, metadata = loader.lora_state_dict(str(path), return_lora_metadata=True)
    found = {}
    for key, A in tensors.items():
        if ".lora_A." in key:
            alpha = (metadata or {}).get("transformer.lora_alpha", len(A))
            found[key] = (alpha / len(A) * tensors[key.replace("lora_A", "lora_B")] @ A).double().numpy()
    return found


@pytest.mark.parametrize("names", [("lora_A", "lora_B"), ("lora_down", "lora_up")])
@pytest.mark.parametrize("prefix", ["diffusion_model.", ""])
def test_the_alpha_in_the_metadata_of_minimax_h3_counts(prefix: str, names: tuple[str, str], tmp_path: Path) -> None:
    path, generator = tmp_path / "in.safetensors", torch.Generator().manual_seed(1)
    shapes = {"attn.out_proj": (8, 8), "mlp.fc2": (8, 12), "adaln_proj.linear": (12, 8)}
    tensors = {
        f"{prefix}blocks.0.{module}.{name}.weight": torch.rand(shape, generator=generator) - 0.3
        for module, (out, into) in shapes.items()
        for name, shape in zip(names, ((4, into), (out, 4)), strict=True)
    }
    save_file(tensors, path, metadata={"alpha": "12"})
    before = minimax_h3(path)
    opened = adapters.open(path)
    assert [module.scaling for module in opened.modules] == [3] * 3
    assert "alpha of 12 in the file's metadata" in opened.notes[-1]
    for rank, baked in ((2, False), (2, True), (4, False), (4, True)):
        after = tmp_path / f"{rank}-{baked}.safetensors"
        resize(path, after, ResizeOptions(rank=rank, bake_alpha=baked))
        same(minimax_h3(after), {name: dense(delta, rank) for name, delta in before.items()})
    tensors[f"{prefix}blocks.0.attn.out_proj.{names[0]}.weight"][1:] = 0
    save_file(tensors, path, metadata={"alpha": "12"})
    each = ResizeOptions(energy=0.9999999, per_module=True)
    if names[0] == "lora_A":
        with pytest.raises(AdapterError, match=r"one alpha for all modules, .*\. Add --bake-alpha"):
            resize(path, tmp_path / "each.safetensors", each)
        each = replace(each, bake_alpha=True)
    assert len(resize(path, tmp_path / "each.safetensors", each).r) > 1
    same(minimax_h3(tmp_path / "each.safetensors"), minimax_h3(path))


@pytest.mark.parametrize(
    ("module", "alpha"),
    [("blocks.0.self_attn.q", "12"), ("blocks.0.attn.out_proj", "of its own"), ("blocks.0.mlp.fc1", "12")],
)
def test_an_alpha_in_the_metadata_of_other_models_does_not_count(module: str, alpha: str, tmp_path: Path) -> None:
    tensors = {f"diffusion_model.{module}.lora_{side}.weight": torch.ones(4, 4) for side in "AB"}
    save_file(tensors, tmp_path / "in.safetensors", metadata={"alpha": alpha})
    assert adapters.open(tmp_path / "in.safetensors").modules[0].scaling == 1
    convert(tmp_path / "in.safetensors", tmp_path / "out.safetensors", ConvertOptions(dtype="float16"))
    with safe_open(tmp_path / "out.safetensors", "np") as file:
        assert file.metadata()["alpha"] == alpha
