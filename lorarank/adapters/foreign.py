"""What an adapter is that no reader takes: one sentence that says so (floor 1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from lorarank.adapters.peft_config import FILE_NAME
from lorarank.adapters.safetensors_file import SafetensorsFile
from lorarank.errors import AdapterError

NOT_LORA: Sequence[tuple[str, str]] = (
    (r"\.hada_w[12]", "a LoHa of LyCORIS, whose update is an elementwise product of two low-rank products"),
    (r"\.lokr_(w|t)[12]", "a LoKr of LyCORIS, whose update is a Kronecker product"),
    (r"\.ia3_l\b|\.on_input$", "an (IA)³, which rescales activations"),
    (r"\.b?oft_", "an OFT, which multiplies the weights by rotations"),
    (r"\.vera_lambda", "a VeRA, whose factors are random and shared"),
)
"""Part of a tensor's name → what the file is: methods whose update is no product of two trained factors."""

LAYOUTS: Sequence[tuple[str, str]] = (
    (r"_lora\.(down|up)\.", "a LoRA in the layout of old diffusers attention processors"),
    (r"\.lora\.(down|up)\.|\.lora_linear_layer\.", "a LoRA in diffusers' layout (lora.down, lora.up)"),
    (r"\.lora_(down|up|mid)\.", "a LoRA in kohya's layout (lora_down, lora_up)"),
    (r":(down|up)$", "a LoRA in cloneofsimo's layout"),
    (r"\.lora_[ab]$", "a LoRA in MLX's layout (lora_a, lora_b)"),
    (r"\.lora_[ab]\.weight$", "a LoRA in torchtune's layout (lora_a, lora_b)"),
    (r"^(transformer|unet|text_encoder\w*)\..*\.lora_[AB]\.", "a LoRA of a diffusion model with PEFT's factor names"),
    (r"\.lora_[AB]\.", f"a LoRA with PEFT's factor names and no {FILE_NAME} beside it"),
)
"""Part of a tensor's name → what the file is: LoRA as other tools write it."""

FOREIGN_SUFFIXES = {
    ".pt": "a pickle of another tool, which is not unpacked",
    ".pth": "a pickle of another tool, which is not unpacked",
    ".ckpt": "a pickle of another tool, which is not unpacked",
    ".bin": f"a file of torch without {FILE_NAME} beside it",
    ".gguf": "a GGUF file of llama.cpp",
    ".npz": "an archive of numpy arrays",
}

TENSOR_SUFFIXES = (".safetensors", *FOREIGN_SUFFIXES)

PEFT_LAYOUT = f"convert it to PEFT's layout ({FILE_NAME} and adapter_model.safetensors)"

MOST_LISTED = 5
MOST_SEEN = 1000
"""Entries of a folder that are looked at."""


def declined(path: Path) -> AdapterError:
    """Say what a folder or file is that no reader takes.

    Returns
    -------
    error : to raise.

    Raises
    ------
    SourceError, AdapterError
        The file cannot be read, or is damaged.
    """
    if path.is_dir():
        return _declined_folder(path)
    if path.suffix == ".safetensors":
        return _declined_tensors(path, SafetensorsFile.open(path).tensors)
    what = FOREIGN_SUFFIXES.get(path.suffix, "no file of an adapter")
    return AdapterError(path, what, do="name an adapter's folder, its .safetensors file, or a hub id")


def _declined_folder(folder: Path) -> AdapterError:
    entries = sorted(islice(folder.iterdir(), MOST_SEEN))
    inside = [entry.name for entry in entries if (entry / FILE_NAME).is_file()]
    files = [entry for entry in entries if entry.suffix in TENSOR_SUFFIXES and entry.is_file()]
    if inside:
        what = f"holds no {FILE_NAME} itself, but {_listed(inside)} in it {'does' if len(inside) == 1 else 'do'}"
        return AdapterError(folder, what, do=f"name {folder / inside[0]}" + (", or another" if inside[1:] else ""))
    if (folder / "config.json").is_file():
        return AdapterError(folder, "a model's folder (config.json), not an adapter's")
    if len(files) == 1:
        return declined(files[0])
    if files:
        what = f"holds no {FILE_NAME}, but {len(files)} files of tensors: {_listed([file.name for file in files])}"
        return AdapterError(folder, what, do="name one of them")
    found = _listed([entry.name for entry in entries]) or "nothing"
    return AdapterError(folder, f"no adapter in it (found: {found})", do=f"name the folder that holds {FILE_NAME}")


def _declined_tensors(path: Path, keys: Iterable[str]) -> AdapterError:
    keys = list(keys)
    for pattern, what in NOT_LORA:
        if any(re.search(pattern, key) for key in keys):
            return AdapterError(path, what, why="it has no rank of LoRA's kind")
    for pattern, what in LAYOUTS:
        if any(re.search(pattern, key) for key in keys):
            return AdapterError(path, what, why="r and alpha are read from PEFT's layout only", do=PEFT_LAYOUT)
    return AdapterError(
        path, f"its {len(keys)} tensors have names of no known adapter ({_listed(keys) or 'none'})", do=PEFT_LAYOUT
    )


def _listed(names: Sequence[str]) -> str:
    """The first few names and how many there are beyond them.

    >>> _listed(list("abcdefg"))
    'a, b, c, d, e and 2 more'
    """
    rest = len(names) - MOST_LISTED
    return ", ".join(names[:MOST_LISTED]) + (f" and {rest} more" if rest > 0 else "")
