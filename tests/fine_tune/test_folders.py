"""Folders as transformers, diffusers and others write them, and what is said where there is nothing to compare."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lorarank.errors import AdapterError, ModelError
from lorarank.fine_tune import compare_models, extract

Changed = Callable[..., tuple[Path, Path]]

Q = "model.layers.0.self_attn.q_proj.weight"
SHAPES = {Q: (16, 16), "lm_head.weight": (20, 16)}


def test_diffusers_names_its_files_otherwise(changed: Changed) -> None:
    base, tuned = changed(SHAPES)
    stem = "diffusion_pytorch_model"
    shutil.copy(base / "model.safetensors", base / f"{stem}.fp16.safetensors")
    (base / "model.safetensors").rename(base / f"{stem}.safetensors")
    where = {}
    for index, (key, tensor) in enumerate(load_file(tuned / "model.safetensors").items(), start=1):
        where[key] = f"{stem}-0000{index}-of-00002.safetensors"
        save_file({key: tensor}, tuned / where[key])
    (tuned / "model.safetensors").unlink()
    (tuned / f"{stem}.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    assert len(compare_models(base, tuned).updates) == 2


def test_a_pickle_is_read_where_there_is_nothing_else(changed: Changed) -> None:
    torch = pytest.importorskip("torch")
    base, tuned = changed(SHAPES)
    tensors = load_file(tuned / "model.safetensors")
    torch.save({key: torch.from_numpy(tensor) for key, tensor in tensors.items()}, tuned / "pytorch_model.bin")
    (tuned / "model.safetensors").unlink()
    assert len(compare_models(base, tuned).updates) == 2


def test_pickles_in_shards_are_read_where_there_is_nothing_else(changed: Changed) -> None:
    torch = pytest.importorskip("torch")
    base, tuned = changed(SHAPES)
    before = compare_models(base, tuned)
    where = {}
    for index, (key, tensor) in enumerate(load_file(tuned / "model.safetensors").items(), start=1):
        where[key] = f"pytorch_model-0000{index}-of-00002.bin"
        torch.save({key: torch.from_numpy(tensor)}, tuned / where[key])
    (tuned / "model.safetensors").unlink()
    (tuned / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": where}))
    assert [update.norm for update in compare_models(base, tuned).updates] == [one.norm for one in before.updates]
    where[Q] = "../pytorch_model.bin"
    (tuned / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": where}))
    with pytest.raises(AdapterError, match=r"q_proj\.weight: '.*' is no plain name of a \.bin file"):
        compare_models(base, tuned)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("model_index.json", "unet/x"), r"a pipeline of several models\. Name the folder of one, like .*/unet"),
        (("a.safetensors", "b.safetensors"), r"2 safetensors files, and none is model\.safetensors\. Name one of them"),
        (("x.txt",), r"has neither model\.safetensors nor model\.safetensors\.index\.json"),
    ],
)
def test_a_folder_without_one_model_says_what_to_name(
    files: tuple[str, ...], message: str, changed: Changed, tmp_path: Path
) -> None:
    base, _ = changed(SHAPES)
    for name in files:
        (tmp_path / "other" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "other" / name).write_bytes(b"")
    with pytest.raises(ModelError, match=message):
        compare_models(base, tmp_path / "other")


def test_an_adapter_is_no_fine_tune(changed: Changed, tmp_path: Path) -> None:
    base, _ = changed(SHAPES)
    (tmp_path / "lora").mkdir()
    factors = {f"base_model.model.{Q.removesuffix('weight')}lora_{side}.weight": np.ones((16, 2)) for side in "AB"}
    save_file(factors, tmp_path / "lora" / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=r"lora: it is an adapter, no model\. Audit it without --base"):
        compare_models(base, tmp_path / "lora")


def test_packed_weights_are_said_to_be_the_cause(changed: Changed) -> None:
    base, tuned = changed(SHAPES)
    packed = {key: np.zeros(shape, np.int8) for key, shape in SHAPES.items()}
    save_file(packed, tuned / "model.safetensors")
    with pytest.raises(ModelError, match=r"no matrix can be compared, stored as int8\. Name copies in plain floats"):
        compare_models(base, tuned)


def test_llama_cpp_has_names_of_its_own(gguf_bytes: Callable[..., bytes], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in ("base.gguf", "tuned.gguf"):
        keys = ("token_embd", "blk.0.attn_q", "output")
        tensors = {f"{key}.weight": random.standard_normal((32, 32)).astype(np.float32) for key in keys}
        (tmp_path / name).write_bytes(gguf_bytes(tensors, {"general.architecture": "llama"}))
    done = extract(tmp_path / "base.gguf", tmp_path / "tuned.gguf", tmp_path / "lora", 2)
    assert [one.name for one in done.modules] == ["blk.0.attn_q"]
    assert "llama.cpp" in done.notes[0]


def test_a_change_in_the_head_alone_is_no_mix_up(changed: Changed, tmp_path: Path) -> None:
    base, tuned = changed(SHAPES, same="q_proj")
    with pytest.raises(ModelError, match=r"no linear layer differs .*, only embeddings, heads, norms and biases do"):
        extract(base, tuned, tmp_path / "lora", 2)
    with pytest.raises(ModelError, match="Check which is which"):
        extract(base, base, tmp_path / "lora", 2)
