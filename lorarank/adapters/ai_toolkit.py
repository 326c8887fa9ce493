"""LoRA of ostris' ai-toolkit, and of others that name factors as ComfyUI reads them (floor 1).

Flux, Wan, Qwen-Image, HunyuanVideo: PEFT's names behind ``transformer.`` or ``diffusion_model.`` and no configuration.
ai-toolkit sets alpha to r for these and stores none (ostris/ai-toolkit ``toolkit/lora_special.py``); where a file
holds alphas all the same, they count (comfyanonymous/ComfyUI ``comfy/weight_adapter/lora.py``).
"""

from __future__ import annotations

from lorarank.adapters.adapter import Adapter
from lorarank.adapters.attention_names import PEFT
from lorarank.adapters.candidate import Candidate
from lorarank.adapters.components import COMFY
from lorarank.adapters.diffusers import read_plain

HUB_FILES = ("*[lL][oO][rR][aA]*.safetensors",)
"""What is fetched of an adapter on the hub."""

UNSCALED = "No alpha is stored: scaling 1, as ComfyUI and diffusers load it."


def recognises(candidate: Candidate) -> bool:
    """Whether the metadata name ai-toolkit, or the tensors have ComfyUI's prefix, with PEFT's names of factors."""
    ours = "ai-toolkit" in candidate.metadata.get("software", "")
    return candidate.has(PEFT, "" if ours else COMFY)


def read(candidate: Candidate) -> Adapter:
    """Read an adapter of ai-toolkit.

    Raises
    ------
    AdapterError
        Factors that do not fit, an unusable alpha, or parts of another method.
    """
    return read_plain(candidate, "ai-toolkit", UNSCALED)
