"""Which file of a folder is the adapter's, and which are fetched from the hub."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lorarank import adapters
from lorarank.adapters.candidate import Candidate, tensor_files
from lorarank.audit.expand import expand
from lorarank.errors import AdapterError, SourceError

Make = Callable[..., Path]
A, B = np.ones((4, 6), np.float32), np.ones((8, 4), np.float32)
PAIR = {"unet.q.lora_A.weight": A, "unet.q.lora_B.weight": B}


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["a.safetensors"], "a.safetensors"),
        (["a.safetensors", "b.pt"], "a.safetensors"),
        (["a.safetensors", "b.gguf"], "a.safetensors"),
        (["a.safetensors", "b.safetensors"], None),
        (["a.gguf", "b.pt"], None),
        (["a.gguf"], "a.gguf"),
        (["lora.ckpt"], "lora.ckpt"),
        (["a.safetensors", "pytorch_lora_weights.safetensors"], "pytorch_lora_weights.safetensors"),
        (["pytorch_lora_weights.bin", "pytorch_lora_weights.safetensors"], "pytorch_lora_weights.safetensors"),
        (["0000100_adapters.safetensors", "adapters.safetensors"], "adapters.safetensors"),
        (["adapters.safetensors", "adapter_model.bin"], "adapter_model.bin"),
        (["adapter_model.safetensors", "optimizer.pt", "rng_state_0.pth", "scheduler.pt"], "adapter_model.safetensors"),
        (["model.safetensors", "training_args.bin", "lora.safetensors"], "lora.safetensors"),
        (["model.safetensors.index.json", "model-00001-of-00002.safetensors", "pytorch_model.bin"], None),
        (["lora-00001-of-00002.safetensors", "lora.safetensors.index.json"], "lora.safetensors.index.json"),
        (
            ["consolidated.safetensors", "lora.safetensors", "master_weights.pt", ".lora.safetensors"],
            "lora.safetensors",
        ),
        (["model.safetensors", "model-lora.safetensors"], "model-lora.safetensors"),
        (["model-lora-merged.safetensors", "style.safetensors"], "style.safetensors"),
        (["scheduler_style.safetensors"], "scheduler_style.safetensors"),
        (["optimizer.pt", "optimizers.safetensors"], "optimizers.safetensors"),
        (["README.md", "a.npz"], None),
    ],
)
def test_the_file_of_a_folder(names: list[str], chosen: str | None, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).touch()
    assert Candidate(tmp_path).weights == (None if chosen is None else tmp_path / chosen)


def test_a_folder_stands_for_the_files_that_may_be_its_adapter(tmp_path: Path) -> None:
    none = ("consolidated.safetensors", "diffusion_model.safetensors", "master_weights.pt", "model-ema.pt", "scaler.pt")
    for name in ("a.safetensors", "b.gguf", "model_lora.pt", ".c.safetensors", "optimizer_1.bin", "model.ckpt", *none):
        (tmp_path / name).touch()
    files = [str(path) for path in tensor_files(tmp_path)]
    assert files == [str(tmp_path / name) for name in ("a.safetensors", "b.gguf", "model_lora.pt")]
    assert expand([str(tmp_path)]) == expand([str(tmp_path / "*")]) == files


@pytest.mark.parametrize(
    "name",
    [
        "model-alice.safetensors",
        "model_bob.pt",
        "model-000010.safetensors",
        "model.style.safetensors",
        "consolidated_style.safetensors",
        "master_weights_style.safetensors",
        "scheduler_style.safetensors",
        "optimizer_style.safetensors",
        "scaler2.safetensors",
        "training_args_style.safetensors",
        "rng_states.safetensors",
    ],
)
def test_a_file_that_begins_like_what_is_no_adapter_may_be_one(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    assert Candidate(tmp_path).weights == tmp_path / name
    assert expand([str(tmp_path)]) == expand([str(tmp_path / "*")]) == [str(tmp_path / name)]


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "model.fp16.safetensors",
        "model.fp16-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "pytorch_model-00001-of-00002.bin",
        "diffusion_pytorch_model.non_ema.safetensors",
        "model_ema.pt",
        "model-lora-merged.safetensors",
        "consolidated.00.pth",
        "consolidated-00001-of-00002.safetensors",
        "master_weights-00001-of-00001.safetensors",
        "optimizer-00001-of-00001.safetensors",
        "optimizer_0.bin",
        "scheduler_1.bin",
        "training_args.bin",
        "rng_state_0.pth",
    ],
)
def test_models_and_what_trainers_keep_are_no_adapters(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    assert Candidate(tmp_path).weights is None
    (tmp_path / "a.safetensors").touch()
    assert expand([str(tmp_path)]) == [str(tmp_path / "a.safetensors")]


@pytest.mark.parametrize("name", ["unet.q.lora_A.weight", "controlnet_down_blocks.0.weight"])
def test_a_file_named_as_a_diffusion_model_is_an_adapter_where_it_holds_factors(name: str, tmp_path: Path) -> None:
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    save_file({name: A, name.replace("_A", "_B"): B}, path)
    assert Candidate(tmp_path).weights == (path if "lora" in name else None)
    assert not any(fnmatch(path.name, pattern) for pattern in adapters.hub_files())
    save_file(PAIR, tmp_path / "lora.safetensors")
    assert Candidate(tmp_path).weights == tmp_path / "lora.safetensors"


def test_shards_of_any_layout(tmp_path: Path) -> None:
    homes = {}
    for i, (key, tensor) in enumerate(PAIR.items()):
        homes[key] = f"pytorch_lora_weights-0000{i + 1}-of-00002.safetensors"
        save_file({key: tensor}, tmp_path / homes[key])
    index = tmp_path / "pytorch_lora_weights.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": homes}))
    for path in (tmp_path, index):
        assert adapters.open(path).format == "diffusers"
    with pytest.raises(AdapterError, match="one shard of several"):
        adapters.open(tmp_path / homes["unet.q.lora_A.weight"])
    index.write_text(json.dumps({"weight_map": dict.fromkeys(PAIR, "../a.safetensors")}))
    with pytest.raises(AdapterError, match="is no plain name of a"):
        adapters.open(tmp_path)


def test_a_symbolic_link_is_followed_and_a_broken_one_named(tmp_path: Path) -> None:
    save_file(PAIR, tmp_path / "blob")
    (tmp_path / "snapshot").mkdir()
    link = tmp_path / "snapshot" / "lora.safetensors"
    link.symlink_to(tmp_path / "blob")
    assert len(adapters.open(tmp_path / "snapshot").modules) == 1
    (tmp_path / "blob").unlink()
    with pytest.raises((AdapterError, SourceError), match=r"no adapter in it|no such file"):
        adapters.open(tmp_path / "snapshot")
    with pytest.raises(SourceError, match="a symbolic link that leads nowhere"):
        adapters.open(link)


def test_a_name_behind_what_is_no_adapter(tmp_path: Path) -> None:
    (tmp_path / "README.md").touch()
    with pytest.raises(AdapterError, match=r"README\.md: no file of an adapter"):
        adapters.open(tmp_path / "README.md" / "default")
    with pytest.raises(SourceError, match="no such file or folder"):
        adapters.open(tmp_path / "default")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("adapter_weights.onnx_adapter", "ONNX Runtime"),
        ("model.lora_weights.npy", "TensorRT-LLM"),
        ("megatron_gpt_peft_lora_tuning.nemo", "NeMo"),
        ("gemma.lora.h5", "Keras"),
        ("lora_model_state.pdparams", "Paddle"),
    ],
)
def test_files_of_other_formats_are_named(name: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").touch()
    (tmp_path / name).write_bytes(b"123")
    for opened in (tmp_path / name, tmp_path):
        with pytest.raises(AdapterError, match=rf"{re.escape(name)}: .*{what}.* Convert it to PEFT's layout"):
            adapters.open(opened)


@pytest.mark.parametrize(
    ("name", "fetched"),
    [
        ("adapter_config.json", True),
        ("adapter_model.safetensors", True),
        ("adapter_0.pt", True),
        ("adapters.safetensors", True),
        ("pytorch_lora_weights.safetensors", True),
        ("my-LoRA_v2.safetensors", True),
        ("style.Lora.gguf", True),
        ("model-00001-of-00030.safetensors", False),
        ("pytorch_model.bin", False),
        ("model.Q4_K_M.gguf", False),
    ],
)
def test_models_on_the_hub_are_not_fetched(name: str, fetched: bool) -> None:
    assert any(fnmatch(name, pattern) for pattern in adapters.hub_files() + adapters.hub_files(pickled=True)) == fetched


@pytest.mark.parametrize("form", ["lora_unet_q.lora_{}.weight", "unet.q.lora.{}.weight", "unet:0:{}", "0.{}"])
def test_reading_any_layout_needs_numpy_alone(form: str, make_file: Make) -> None:
    path = make_file({form.format("down"): np.ones((2, 20)), form.format("up"): np.ones((18, 2))})
    code = (
        "import sys; from lorarank import adapters; [m.factors() for m in adapters.open(sys.argv[1]).modules]; "
        "print({'torch', 'scipy', 'safetensors', 'huggingface_hub', 'peft', 'diffusers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("name", ["adapter_model.bin", "lora.gguf", "adapters.npz", "adapter_config.json"])
def test_pointers_of_git_lfs_in_the_place_of_any_file(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4202\n")
    with pytest.raises(AdapterError, match=rf"{re.escape(name)}: a pointer of Git LFS, no .*with: git lfs pull"):
        adapters.open(tmp_path)
