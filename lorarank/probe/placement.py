"""Where Trainer trains: on the one device that the model is on (floor 2, torch)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate.utils import patch_environment
from transformers import TrainingArguments

SHARE_OF_16_BITS = 0.275
"""What a matrix in nf4 with double quantisation takes of its size in 16 bits (Dettmers et al. 2023, section 3: 4.127
bits a weight), and a little for what stays in 16 bits."""


class OneDevice(TrainingArguments):  # type: ignore[misc,unused-ignore]
    """Arguments of a Trainer that stays on one device.

    By itself a Trainer in a process of its own moves the model to the first GPU, and where it sees several it puts a
    copy on each and gives every one of them as many rows as the step was to have: other data than was planned.
    """

    chosen: torch.device | None = None

    @property
    def device(self) -> torch.device:
        """The device that was chosen, or Trainer's own."""
        return self.chosen or torch.device(super().device)

    @property
    def n_gpu(self) -> int:
        """GPUs of this process: one at most."""
        return min(1, int(super().n_gpu))


def arguments_on(device: torch.device, **arguments: Any) -> OneDevice:
    """``TrainingArguments(**arguments)`` for a model on ``device``.

    Processes that train together (``accelerate launch``) each have the device that accelerate gave them.
    """
    if world_size() > 1 or not device.index:
        return OneDevice(use_cpu=device.type == "cpu", **arguments)
    with patch_environment(accelerate_torch_device=str(device)):
        made = OneDevice(**arguments)
    made.chosen = device
    getattr(torch, device.type).set_device(device)  # making them set the first; "cuda" without a number is this one now
    return made


def map_of_4_bits(folder: Path, device: torch.device, wanted: str) -> str | dict[str, str]:
    """``device_map`` of a base that is loaded in 4 bits: on ``device``, or spread over all GPUs of this process.

    It is spread where ``--device`` leaves the choice (``wanted``) and the weights would take more than half of the one
    GPU. Layers on several GPUs wait for each other, so that more than one is no faster.
    """
    if wanted == "auto" and device.type == "cuda" and world_size() == 1:
        weights = (path for path in folder.glob("*.safetensors") if not path.name.startswith("consolidated"))
        files = sum(path.stat().st_size for path in weights)  # Mistral's repositories have the same twice
        free, _ = torch.cuda.mem_get_info(device)
        if files * SHARE_OF_16_BITS > free / 2:
            return "auto"
    return {"": str(device)}


def world_size() -> int:
    """Processes that train together (``accelerate launch``)."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
