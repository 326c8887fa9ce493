"""Adapters in several files: the index may name nothing but its neighbours."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lorarank import adapters
from lorarank.errors import AdapterError, LorarankError, SourceError

Make = Callable[..., Path]
A, B = np.ones((4, 6), np.float32), np.ones((6, 4), np.float32)


def shards(folder: Path, weight_map: Any, **files: dict[str, np.ndarray]) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4, "lora_alpha": 4}')
    (folder / "adapter_model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    for name, tensors in files.items():
        save_file(tensors, folder / f"{name}.safetensors")
    return folder


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        (None, "lacks its weight_map"),
        ({}, "lacks its weight_map"),
        ({"q.lora_A.weight": "../a.safetensors"}, r"q\.lora_A\.weight: '../a\.safetensors' is no plain name"),
        ({"q.lora_A.weight": "/etc/a.safetensors"}, "is no plain name"),
        ({"q.lora_A.weight": "sub\\a.safetensors"}, "is no plain name"),
        ({"q.lora_A.weight": "C:a.safetensors"}, "is no plain name"),
        ({"q.lora_A.weight": "a\0.safetensors"}, "is no plain name"),
        ({"q.lora_A.weight": "a.bin"}, "is no plain name"),
        ({"q.lora_A.weight": 1}, "1 is no plain name"),
        ({"q.lora_A.weight": "c.safetensors"}, r"c\.safetensors: no such file"),
        ({"q.lora_A.weight": "a.safetensors", "x": "b.safetensors"}, r"x: not in b\.safetensors"),
        ({"q.lora_A.weight": "b.safetensors", "q.lora_B.weight": "a.safetensors"}, "not in [ab]"),
        ({"q.lora_A.weight": "a.safetensors", "v": "d.safetensors"}, r"stored twice, in a\.safetensors and in d"),
    ],
)
def test_bad_indexes(weight_map: Any, message: str, tmp_path: Path) -> None:
    folder = shards(
        tmp_path / "s", weight_map, a={"q.lora_A.weight": A}, b={"q.lora_B.weight": B}, d={"q.lora_A.weight": A}
    )
    with pytest.raises(LorarankError, match=message):
        adapters.open(folder)


def test_shards_through_links_as_in_the_cache_of_the_hub(tmp_path: Path) -> None:
    weight_map = {"q.lora_A.weight": "a.safetensors", "q.lora_B.weight": "b.safetensors"}
    real = shards(tmp_path / "blobs", weight_map, a={"q.lora_A.weight": A}, b={"q.lora_B.weight": B})
    snapshot = tmp_path / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for file in real.iterdir():
        (snapshot / file.name).symlink_to(Path("../../blobs") / file.name)
    (module,) = adapters.open(snapshot).modules
    np.testing.assert_array_equal(module.factors()[1], B)


def test_one_shard_by_itself_is_refused(tmp_path: Path) -> None:
    name = "adapter_model-00001-of-00002"
    folder = shards(tmp_path / "s", {"q.lora_A.weight": f"{name}.safetensors"}, **{name: {"q.lora_A.weight": A}})
    with pytest.raises(AdapterError, match="one shard of several"):
        adapters.open(folder / f"{name}.safetensors")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_is_not_waited_for(make_folder: Make) -> None:
    folder = make_folder()
    (folder / "adapter_config.json").unlink()
    os.mkfifo(folder / "adapter_config.json")
    with pytest.raises(SourceError, match="no regular file"):
        adapters.open(folder)
