"""Shapes of a base model's linear layers without loading it (floor 1): safetensors headers, else the configuration.

Only names and shapes are read, a few kilobytes even of a model of many gigabytes; torch is not needed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lorarank.adapters.safetensors_file import SafetensorsFile
from lorarank.adapters.tensors import FLOATS, StoredTensor
from lorarank.adapters.untrusted import read_json
from lorarank.errors import AdapterError, ModelError, SourceError
from lorarank.layer_kinds import word_kind
from lorarank.module_names import module_type
from lorarank.sources import folder_at, locate

Read = TypeVar("Read")

LLAMA_LIKE = frozenset(
    {"llama", "mistral", "qwen2", "qwen3", "smollm3", "granite", "olmo", "olmo2"}
    | {"gemma", "gemma2", "gemma3", "gemma3_text"}
)
"""``model_type`` of architectures whose layers are q, k, v, o, gate, up and down."""

BUFFER = re.compile(
    r"(^|\.)(attn|crossattention|attention)\.(masked_bias|causal_mask)$|(^|\.)(inv_freq|position_ids|relative_position_index|num_batches_tracked)$"
)
"""Tensors that are no parameters: masks, positions and frequencies of older files, which transformers leaves out on
loading (``_keys_to_ignore_on_load_unexpected`` of its models), and what a batch norm counts."""

CAUSAL_MASK = re.compile(r"(^|\.)(attn|crossattention|attention)\.bias$")
"""GPT-2's and GPT-NeoX's mask, as (1, 1, positions, positions); with one dimension it would be a bias."""

MOST_LAYERS = 10_000
"""Ten times those of the deepest models; each is built, or named."""

NEEDED_FILES = ["config.json", "tokenizer*", "*.model", "vocab*", "merges.txt", "special_tokens_map.json"]
"""What is fetched of a model on the hub: never its weights."""


@dataclass(frozen=True)
class ModelShapes:
    """Linear layers of a base model.

    ``linear`` maps module paths to (out, in), or (in, out) for GPT-2's Conv1D, which stores them so; ``parameters``
    counts all parameters of the model; ``basis`` says where both come from.
    """

    folder: Path
    linear: Mapping[str, tuple[int, int]]
    parameters: int
    basis: str

    @property
    def parameters_per_rank(self) -> int:
        """Σ(out + in) over all linear layers: trainable parameters of LoRA on all of them at r = 1."""
        return sum(sum(shape) for shape in self.linear.values())

    @property
    def types(self) -> Mapping[str, tuple[int, int]]:
        """Last part of the module paths → how many modules end so, and their Σ(out + in)."""
        found: dict[str, tuple[int, int]] = {}
        for name, shape in self.linear.items():
            kind = module_type(name)
            modules, size = found.get(kind, (0, 0))
            found[kind] = (modules + 1, size + sum(shape))
        return found


def read_shapes(model: str) -> ModelShapes:
    """Shapes of the model in a folder, or of a hub id ``owner/name[@revision]`` from its configuration.

    Raises
    ------
    SourceError
        There is no such model.
    ModelError
        Neither the weights' headers nor the configuration tell the shapes.
    """
    folder = folder_at(locate(model, allow_patterns=NEEDED_FILES))
    try:
        tensors = read_headers(folder)
    except ModelError as damaged:
        return instead(from_config, folder, damaged)
    linear = {
        name.removesuffix(".weight"): (tensor.shape[0], tensor.shape[1])
        for name, tensor in tensors.items()
        if name.endswith(".weight") and len(tensor.shape) == 2 and not word_kind(name)
    }
    # packed weights of 4 and 8 bits have other shapes
    if linear and all(tensors[f"{name}.weight"].dtype in FLOATS for name in linear):
        parameters = sum(tensor.size for tensor in tensors.values())
        return ModelShapes(folder, linear, parameters, "the shapes in the weight files")
    return from_config(folder)


def read_headers(folder: Path) -> dict[str, StoredTensor]:
    """All weights in a folder by name, from the headers of its safetensors files.

    Where there are the files that transformers loads, others beside them are left out: some hold the same weights under
    other names. Masks and other constants that older files hold beside the weights are left out as well.

    Raises
    ------
    ModelError
        A header is damaged; whether the weights themselves are there is not looked at.
    """
    usual = sorted({*folder.glob("model.safetensors"), *folder.glob("model-*-of-*.safetensors")})
    files = usual or sorted(folder.glob("*.safetensors"))
    stored = {name: tensor for file in files for name, tensor in _header(file).items()}
    return {name: tensor for name, tensor in stored.items() if not is_buffer(name, tensor.shape)}


def instead(read: Callable[[Path], Read], folder: Path, damaged: ModelError) -> Read:
    """What the configuration tells of a model of which a header is damaged, or of a kind that is not known.

    Raises
    ------
    ModelError
        It tells nothing; what is said is what is wrong with the header.
    """
    try:
        return read(folder)
    except ModelError:
        raise damaged from None


def is_buffer(name: str, shape: Sequence[int]) -> bool:
    """Whether a stored tensor is a mask or another constant, by its name.

    >>> is_buffer("embeddings.position_ids", (1, 512)), is_buffer("h.0.attn.bias", (48,))
    (True, False)
    """
    return bool(BUFFER.search(name) or (len(shape) > 1 and CAUSAL_MASK.search(name)))


def read_configuration(path: Path) -> dict[str, Any]:
    """A ``config.json``, or the part of it about the language model; read as any file of a stranger.

    Raises
    ------
    ModelError
        It is missing, no JSON object of a usual size, or describes more layers than any model has.
    """
    try:
        config = read_json(path)
    except (SourceError, AdapterError) as error:
        what = f"it is no model's configuration ({error.what})"
        raise ModelError(path, what, do="give the folder of a model") from None
    text = config.get("text_config")
    config = text if isinstance(text, dict) else config
    layers = config.get("num_hidden_layers")
    if isinstance(layers, int | float) and layers > MOST_LAYERS:
        raise ModelError(path, f"it describes a model of {layers:,} layers", do="give another copy")
    return config


def config_or_empty(path: Path) -> Mapping[str, Any]:
    """A whole ``config.json``; empty where it cannot be read."""
    try:
        return read_json(path)
    except (SourceError, AdapterError):
        return {}


def from_config(folder: Path) -> ModelShapes:
    """Shapes that follow from ``config.json`` for a Llama-like model.

    Raises
    ------
    ModelError
        The configuration is missing, or of an architecture whose shapes do not follow from it.
    """
    path = folder / "config.json"
    config = read_configuration(path)
    kind = config.get("model_type")
    if not isinstance(kind, str):
        raise ModelError(path, "it is no model's configuration (no model_type)", do="give the folder of a model")
    if kind not in LLAMA_LIKE:
        raise ModelError(
            path,
            f"the shapes of a {kind} model do not follow from its configuration",
            do="give a local folder with its safetensors files",
        )
    try:
        linear, parameters = _llama_shapes(config)
    except (KeyError, TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
        raise ModelError(path, f"a size is missing or no number ({error})", do="give another copy") from None
    return ModelShapes(folder, linear, parameters, "config.json")


def _llama_shapes(config: Mapping[str, Any]) -> tuple[dict[str, tuple[int, int]], int]:
    """Linear layers and the count of all parameters, norms and biases left out (under one in a thousand)."""
    hidden, inner = int(config["hidden_size"]), int(config["intermediate_size"])
    heads = int(config["num_attention_heads"])
    key_heads = int(config.get("num_key_value_heads") or heads)
    head = int(config.get("head_dim") or hidden // heads)
    layer = {
        "self_attn.q_proj": (heads * head, hidden),
        "self_attn.k_proj": (key_heads * head, hidden),
        "self_attn.v_proj": (key_heads * head, hidden),
        "self_attn.o_proj": (hidden, heads * head),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    linear = {
        f"model.layers.{index}.{name}": shape
        for index in range(int(config["num_hidden_layers"]))
        for name, shape in layer.items()
    }
    # Gemma's configurations leave the key out and tie; Llama's leave it out and do not
    tied = bool(config.get("tie_word_embeddings", str(config["model_type"]).startswith("gemma")))
    words = int(config["vocab_size"]) * hidden * (1 if tied else 2)
    return linear, words + sum(out * in_ for out, in_ in linear.values())


def _header(path: Path) -> Mapping[str, StoredTensor]:
    """What a safetensors file says that it holds."""
    try:
        return SafetensorsFile.open(path, whole=False).tensors
    except (SourceError, AdapterError) as error:
        raise ModelError(error.where, error.what, why=error.why, do=error.do or "download it again") from None
