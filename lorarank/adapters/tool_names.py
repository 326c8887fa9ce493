"""Names of factors that one tool alone has, and that say for sure what each is (floor 1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from lorarank.adapters.candidate import ending
from lorarank.adapters.named_factors import Role
from lorarank.adapters.trainer_files import SCALING


class ToolNames(NamedTuple):
    """How a tool names factors.

    Attributes
    ----------
    pattern : for the end of a name, with the groups ``module`` and ``part``, and ``name`` for what belongs to the
        module and stands elsewhere.
    parts : what is what, by ``part``.
    mark : the end of a name that a file of theirs has, or one of several.
    before : what is put before the path of a module.
    alpha : of all modules, where the tool has but one.
    note : on the scaling, where the tool stores none.
    """

    pattern: re.Pattern[str]
    parts: Mapping[str, str]
    mark: str | tuple[str, ...]
    before: str = ""
    alpha: float | None = None
    note: str = ""

    def role_of(self, key: str) -> Role | None:
        """What a tensor is, by its name.

        >>> CANDLE.role_of("h.0.lora_linear.a1.weight"), CANDLE.role_of("h.0.lora_linearb1.weight")
        (('h.0.lora_linear.1', 'A'), ('h.0.lora_linear.1', 'B'))
        >>> LAYERDIFFUSE.role_of("mid.to_q.weight::lora::0"), LLAMA_ADAPTER.role_of("layers.0.lora_wq_l1.weight")
        (('mid.to_q', 'B'), ('layers.0.wq', 'A'))
        """
        start, end = ending(key)
        match = self.pattern.fullmatch(end)
        if match is None:
            return None
        module, name = (start + match["module"]).removeprefix(self.before), match.groupdict().get("name")
        return f"{module}.{name}" if name else module, self.parts[match["part"]]

    def scalings(self, keys: Iterable[str]) -> Mapping[str, str]:
        """Names of modules → keys of the numbers that their products are multiplied by.

        >>> HCP.scalings(["lora:mid.to_q.___.alpha", "mid.norm.weight"])
        {'mid.to_q': 'lora:mid.to_q.___.alpha'}
        """
        return {SCALING.sub("", key).removeprefix(self.before): key for key in keys if SCALING.search(key)}


CANDLE = ToolNames(
    re.compile(r"(?P<module>(?:.+\.)?lora_[a-z_]+?)\.?(?P<part>[ab])(?P<name>[0-9]{1,4})\.weight"),
    {"a": "A", "b": "B"},
    "a0.weight",
)
"""candle-lora numbers the layers of a struct from 0, and saves them without a dot before the letter
(EricLBuehler/candle-lora ``candle-lora/src/loralinear.rs``). LyCORIS' GLoRA has ``a1`` and ``a2``, and no ``a0``."""

LAYERDIFFUSE = ToolNames(
    re.compile(r"(?P<module>.+?)(?:\.weight)?::lora::(?P<part>[012])"),
    {"0": "B", "1": "A", "2": "alpha"},
    "::lora::0",
)
"""In the order of ComfyUI's patches (huchenlei/ComfyUI-layerdiffuse ``lib_layerdiffusion/utils.py``)."""

LLAMA_ADAPTER = ToolNames(
    re.compile(r"(?P<module>.+?)\.lora_(?P<name>w[a-z0-9]+)_l(?P<part>[12])\.weight"),
    {"1": "A", "2": "B"},
    "_l1.weight",
)
"""OpenGVLab/LLaMA-Adapter ``imagebind_LLM/llama/llama.py``."""

DEEPSPEED = ToolNames(
    re.compile(r"(?P<module>.+)\.lora_weight_(?P<part>[12])\.weight"), {"1": "A", "2": "B"}, "lora_weight_1.weight"
)
"""``OptimizedLinear`` (microsoft/DeepSpeed ``deepspeed/linear/optimized_linear.py``)."""

LORA_PYTORCH = ToolNames(
    re.compile(r"(?P<module>.+)\.lora_module\.(?P<part>in|out)_proj"), {"in": "A", "out": "B"}, "lora_module.in_proj"
)
"""fkodom/lora-pytorch ``lora_pytorch/modules/linear.py``."""

MINDPET = ToolNames(
    re.compile(r"(?P<module>.+)\.mindpet_delta_lora_(?P<part>[ab])"), {"a": "A", "b": "B"}, "mindpet_delta_lora_a"
)
"""MindFormers' (mindspore-lab/mindpet ``mindpet/delta/lora.py``)."""

SPEECHBRAIN = ToolNames(
    re.compile(r"(?P<module>.+)\.adapter_(?P<part>down|up)_proj\.weight"),
    {"down": "A", "up": "B"},
    "adapter_down_proj.weight",
)
"""speechbrain/speechbrain ``speechbrain/nnet/adapters.py``; its bottlenecks have biases."""

HCP = ToolNames(
    re.compile(r"(?P<module>.+)\.___\.layer\.(?P<part>W_down|W_up|lora_down\.weight|lora_up\.weight)"),
    {"W_down": "A", "W_up": "B", "lora_down.weight": "A", "lora_up.weight": "B"},
    (".___.layer.W_down", ".___.layer.lora_down.weight"),
    before="lora:",
)
"""HCP-Diffusion's plugins of a layer, whose ``alpha`` is alpha/r already (IrisRainbowNeko/HCP-Diffusion
``hcpdiff/models/lora_base_patch.py``; older files have torch's layers for factors)."""

CASCADE = ToolNames(
    re.compile(r"(?P<module>weights\.[0-9]{1,4})\.lora_(?P<part>down|up)"),
    {"down": "A", "up": "B"},
    ".lora_down",
    alpha=1.0,
    note="Modules are counted, as Stable Cascade's own code does: alpha is 1 there, and scaling 1/r.",
)
"""Stability-AI/StableCascade ``modules/lora.py``."""

LORA_LAYER = ToolNames(
    re.compile(r"(?P<module>.+)\.lora_layer\.(?P<part>down|up)\.weight"),
    {"down": "A", "up": "B"},
    ".lora_layer.down.weight",
    note="No alpha is stored: scaling 1, as layers of diffusers with a LoRA in them take it.",
)
"""Saved with the layers that they lie in, by trainers of ControlNets (``LoRACompatibleLinear``, huggingface/diffusers
``models/lora.py``; xyfJASON/ctrlora ``scripts/tool_extract_weights.py``, HighCWu/control-lora-v2)."""

TOOLS = (
    CANDLE,
    LAYERDIFFUSE,
    LLAMA_ADAPTER,
    DEEPSPEED,
    LORA_PYTORCH,
    MINDPET,
    SPEECHBRAIN,
    HCP,
    CASCADE,
    LORA_LAYER,
)


def names_of(keys: Iterable[str]) -> ToolNames | None:
    """The tool whose mark there is among the names of tensors.

    >>> names_of(["lora_linear.a0.weight", "lora_linear.b0.weight"]) is CANDLE, names_of(["lora_unet_x.a1.weight"])
    (True, None)
    """
    for key in keys:
        for tool in TOOLS:
            if key.endswith(tool.mark) and tool.role_of(key) is not None:
                return tool
    return None
