"""Names that differ between a base and its fine-tune, and between a file and the loaded model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lorarank.errors import ModelError
from lorarank.fine_tune import compare_models, extract
from lorarank.report.fine_tune import lay, lay_extraction
from lorarank.report.page import Page
from lorarank.report.plain import laid_out

Changed = Callable[..., tuple[Path, Path]]

LLAMA = {
    "model.embed_tokens.weight": (20, 16),
    "model.layers.0.self_attn.q_proj.weight": (16, 16),
    "model.layers.1.self_attn.q_proj.weight": (16, 16),
    "model.norm.weight": (16,),
    "lm_head.weight": (20, 16),
}


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "base_model.model.", "model.", "module._orig_mod.", "lightning.model."]
)
@pytest.mark.parametrize("turned", [False, True])
def test_a_module_around_a_model_is_looked_through(prefix: str, turned: bool, changed: Changed) -> None:
    base, tuned = changed(LLAMA, name=lambda key: prefix + key)
    found = compare_models(*((tuned, base) if turned else (base, tuned)))
    assert {update.name for update in found.updates} == {k.removesuffix(".weight") for k in LLAMA if "norm" not in k}
    assert (found.skipped, len(found.notes)) == ((), 1)
    assert prefix in laid_out(Page(200), lay, found)


def test_a_base_without_its_head_is_the_same_model(changed: Changed, tmp_path: Path) -> None:
    shapes = {"h.0.attn.c_attn.weight": (16, 48), "h.1.attn.c_attn.weight": (16, 48), "ln_f.weight": (16,)}
    base, tuned = changed(shapes, {"model_type": "gpt2"}, name=lambda key: f"transformer.{key}")
    done = extract(base, tuned, tmp_path / "lora", 4)
    assert [one.name for one in done.modules] == [f"transformer.h.{index}.attn.c_attn" for index in range(2)]
    assert "begin with transformer., the base's do not" in laid_out(Page(200), lay_extraction, done)
    written = load_file(tmp_path / "lora" / "adapter_model.safetensors")
    assert all(key.startswith("base_model.model.transformer.h.") for key in written)


def test_a_bert_in_another_module_keeps_its_names(changed: Changed) -> None:
    shapes = {"bert.encoder.layer.0.output.dense.weight": (16, 16), "cls.predictions.transform.dense.weight": (16, 16)}
    found = compare_models(*changed(shapes, name=lambda key: f"net.{key}"))
    assert {update.name for update in found.updates} == {key.removesuffix(".weight") for key in shapes}


def test_a_prefix_that_may_be_two_is_none(changed: Changed, tmp_path: Path) -> None:
    base, tuned = changed({"proj.weight": (16, 16)})
    weight = load_file(base / "model.safetensors")["proj.weight"]
    save_file({f"{side}.proj.weight": weight for side in "ab"}, tuned / "model.safetensors")
    with pytest.raises(ModelError, match="shares no matrix"):
        compare_models(base, tuned)


def test_a_prefix_in_some_names_takes_no_tensor_away(changed: Changed) -> None:
    base, tuned = changed(LLAMA, name=lambda key: f"model.{key}", alike={"extra.weight": np.eye(2)})
    found = compare_models(base, tuned)
    assert (len(found.updates), found.unchanged, found.skipped) == (4, 1, ())


def test_a_norm_of_old_files_is_found(changed: Changed) -> None:
    norm = "bert.encoder.layer.0.attention.output.LayerNorm"
    base, tuned = changed(
        {"bert.encoder.layer.0.output.dense.weight": (16, 16), f"{norm}.gamma": (16,), f"{norm}.beta": (16,)},
        name=lambda key: key.replace("gamma", "weight").replace("beta", "bias"),
    )
    assert compare_models(base, tuned).skipped == ()


LAYER: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 20}
TEXT = LAYER | {"vocab_size": 30, "num_key_value_heads": 1, "head_dim": 8}
VISION = LAYER | {"image_size": 8, "patch_size": 4}


def built(name: str) -> Any:
    """A model of few numbers with eyes."""
    transformers = pytest.importorskip("transformers")
    if name == "Llava":
        config = transformers.LlavaConfig(
            vision_config=transformers.CLIPVisionConfig(**VISION), text_config=transformers.LlamaConfig(**TEXT)
        )
    elif name == "Gemma3":
        config = transformers.Gemma3Config(
            text_config=TEXT | {"sliding_window": 8}, vision_config=VISION, mm_tokens_per_image=4
        )
    else:
        text = TEXT | {"rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]}}
        vision = {"depth": 1, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "mlp_ratio": 2, "patch_size": 4}
        config = transformers.Qwen2VLConfig(text_config=text, vision_config=vision)
    return getattr(transformers, f"{name}ForConditionalGeneration")(config).float()


@pytest.mark.parametrize("name", ["Llava", "Gemma3", "Qwen2VL"])
def test_peft_finds_the_layers_of_a_vision_language_model(name: str, tmp_path: Path) -> None:
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    model = built(name)
    model.save_pretrained(tmp_path / "base")
    layers = {path for path, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    layers -= {path for path in layers if "lm_head" in path}
    with torch.no_grad():
        for path in layers:
            weight = model.get_submodule(path).weight
            weight += 0.1 * torch.randn(len(weight), 2) @ torch.randn(2, weight.shape[1])
    model.save_pretrained(tmp_path / "tuned")
    done = extract(tmp_path / "base", tmp_path / "tuned", tmp_path / "lora", 2)
    assert {one.name for one in done.modules} == layers
    assert "as transformers loads it from 4.52 on" in laid_out(Page(200), lay_extraction, done)
    again = type(model).from_pretrained(tmp_path / "base").float()
    weights = peft.PeftModel.from_pretrained(again, tmp_path / "lora").merge_and_unload().state_dict()
    for path in layers:
        torch.testing.assert_close(
            weights[f"{path}.weight"], model.state_dict()[f"{path}.weight"], rtol=0, atol=1e-4, msg=path
        )


@pytest.mark.parametrize(
    ("config", "note"),
    [
        ({"model_type": "vit"}, "load a vit model under others"),
        ({"model_type": "vision-encoder-decoder", "encoder": {"model_type": "vit"}}, "load a vit model under others"),
        ({"model_type": "clip", "text_config": {"model_type": "clip_text_model"}}, ""),
        ({"model_type": "llama"}, ""),
    ],
)
def test_names_that_peft_may_not_find_are_said(config: object, note: str, changed: Changed, tmp_path: Path) -> None:
    done = extract(*changed({"encoder.layer.0.query.weight": (16, 16)}, config), tmp_path / "lora", 2)
    assert note in " ".join(done.notes)
    assert bool(done.notes) == bool(note)


def test_what_peft_takes_for_experts_is_said(changed: Changed, tmp_path: Path) -> None:
    keys = [f"model.layers.0.mlp.{place}.up_proj.weight" for place in ("experts.0", "experts.1", "shared_experts")]
    done = extract(*changed(dict.fromkeys(keys, (16, 16))), tmp_path / "lora", 2)
    assert done.notes[0].startswith("1 modules outside the experts are called as those are, like ")
