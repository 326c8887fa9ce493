"""Which file of a model's folder its weights are in (floor 3)."""

from __future__ import annotations

from pathlib import Path

from lorarank.adapters.components import PARTS
from lorarank.adapters.store import INDEX_SUFFIX, PICKLES_INDEX, open_store
from lorarank.adapters.tensors import Store
from lorarank.errors import ModelError

STEMS = ("model", "diffusion_pytorch_model")
"""What transformers and diffusers call their files; both save their variants (``.fp16``) beside the plain ones."""

FILES = tuple(f"{stem}{suffix}" for stem in STEMS for suffix in (".safetensors", INDEX_SUFFIX))
"""In the order in which they look for them."""

PICKLES = ("pytorch_model.bin", f"pytorch_model{PICKLES_INDEX}")
"""Where there is no safetensors file."""

PIPELINE = "model_index.json"

CONFIG = "config.json"

HUB_FILES = [CONFIG, "*.safetensors", f"*{INDEX_SUFFIX}"]
HUB_PICKLES = [*PICKLES, "pytorch_model-*.bin"]


def open_weights(path: Path) -> Store:
    """The tensors of a model: of a file, or of the one in a folder that its library loads.

    Raises
    ------
    SourceError, AdapterError
        A file cannot be read, or is damaged.
    ModelError
        There is none, or more than one.
    """
    if path.is_file():
        return open_store(path)
    for name in FILES:
        if (path / name).is_file():
            return open_store(path / name)
    others = sorted(path.glob("*.safetensors"))
    if len(others) == 1:
        return open_store(others[0])
    pickles = [path / name for name in PICKLES if (path / name).is_file()]
    if pickles and not others:
        return open_store(pickles[0])
    if (path / PIPELINE).is_file():
        part = next((part for part in PARTS if (path / part).is_dir()), "unet")
        raise ModelError(path, "a pipeline of several models", do=f"name the folder of one, like {path / part}")
    if len(others) > 1:
        raise ModelError(path, f"{len(others):,} safetensors files, and none is {FILES[0]}", do="name one of them")
    raise ModelError(path, f"has neither {FILES[0]} nor {FILES[1]}", do="save the model as safetensors")
