"""Names that differ between a base and its fine-tune, and between a file and the loaded model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lorarank.errors import ModelError
from lorarank.fine_tune import compare_models, extract
from lorarank.report.fine_tune import extraction_text, render

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
    assert prefix in render(found, width=200)


def test_a_base_without_its_head_is_the_same_model(changed: Changed, tmp_path: Path) -> None:
    shapes = {"h.0.attn.c_attn.weight": (16, 48), "h.1.attn.c_attn.weight": (16, 48), "ln_f.weight": (16,)}
    base, tuned = changed(shapes, {"model_type": "gpt2"}, name=lambda key: f"transformer.{key}")
    done = extract(base, tuned, tmp_path / "lora", 4)
    assert [one.name for one in done.modules] == [f"transformer.h.{index}.attn.c_attn" for index in range(2)]
    assert "begin with transformer., the base's do not" in extraction_text(done, width=200)
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
