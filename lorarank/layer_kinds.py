"""What kind of layer a stored tensor is the weight of, by its name and shape (floor 0)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

HEAD = re.compile(r"(^|\.)(lm_head|score|classifier|embed_out)\.|^output\.weight$")
"""Output heads; the last is Meta's and llama.cpp's."""

WORDS = r"emb(d|s|ed|eds|edding|eddings)?(_(?!proj|hidden|trans|layer)\w+)?"
"""What the names of embeddings end with: ``tok_emb``, ``embed_tokens``, ``word_embeddings``; Flux's ``x_embedder`` and
ELECTRA's ``embeddings_project`` are linear layers."""

LISTS = r"(\w*embed_tokens|\w*embeddings|\w*embeds_layers)\.\d+"
"""Lists of embeddings, one a codebook: MusicGen's and Bark's."""

EMBEDDING = re.compile(rf"(^|\.)(\w*{WORDS}|{LISTS}|embedder|wte|wpe|shared|relative_attention_bias)$")
"""Ends of paths. A path may lead through a module that is called after an embedding (``time_embedding.linear_1``)."""

LONGEST_END = 100
"""Characters of the last two parts of a path; to match longer ones takes time, and real ones have about thirty."""

ROUTER = re.compile(r"(^|\.)router(\.layer)?\.weight$")
"""What chooses among experts in GPT-OSS and Granite: a parameter of its own module, which PEFT does not adapt."""

STACK = re.compile(r"\.experts\.(?!.*(\.weight|bias)$)|\.(input|output)_linear\.weight$")
"""Of all experts of a layer in one tensor, where it has three dimensions; the last are Granite's and JetMoe's."""

TRANSPOSED = frozenset({"gpt2", "imagegpt", "openai-gpt", "decision_transformer", "clvp", "clvp_decoder"})
"""``model_type`` of models that have Conv1D layers, which keep their weight as (in, out). GPT-BigCode, which has the
same names, is no longer one (transformers ``models/gpt_bigcode/modeling_gpt_bigcode.py``)."""

CONV1D = re.compile(r"(^|\.)(attn|crossattention|mlp)\.(c_attn|q_attn|c_proj|c_fc)\.weight$")
"""Which of their layers; all others are linear ones."""


def kind_of(key: str, shape: Sequence[int]) -> str:
    """Kind of a stored tensor.

    Returns
    -------
    kind : ``linear``, ``embedding``, ``head``, ``router``, ``convolution``; ``experts``, a stack of matrices;
        ``parameter``, a matrix that is no layer's weight; ``""`` for a vector or a number.

    >>> kind_of("mlp.up_proj.weight", (40, 24)), kind_of("time_embedding.linear_1.weight", (32, 16))
    ('linear', 'linear')
    >>> kind_of("tok_emb.weight", (50, 16)), kind_of("attn.in_proj_weight", (48, 16)), kind_of("cls_token", (1, 1, 16))
    ('embedding', 'parameter', '')
    >>> kind_of("mlp.experts.down_proj", (8, 12, 16)), kind_of("mlp.experts.down_proj_bias", (8, 16))
    ('experts', '')
    """
    if stacked(key, shape):
        return "experts"
    weight = key.endswith(".weight")
    if len(shape) < 2 or (not weight and (key.endswith("bias") or sum(size != 1 for size in shape) < 2)):
        return ""
    if len(shape) > 2 and weight:
        return "convolution"
    if words := word_kind(key):
        return words
    if not weight:
        return "parameter"
    return "router" if ROUTER.search(key) else "linear"


def word_kind(key: str) -> str:
    """``embedding`` or ``head`` of what is no linear layer inside the model, by its name; else "".

    >>> word_kind("model.embed_tokens.weight"), word_kind("lm_head.weight"), word_kind("x_embedder.weight")
    ('embedding', 'head', '')
    """
    if HEAD.search(key):
        return "head"
    end = ".".join(key.removesuffix(".weight").rsplit(".", 2)[-2:])
    return "embedding" if len(end) <= LONGEST_END and EMBEDDING.search(end) else ""


def stacked(key: str, shape: Sequence[int]) -> bool:
    """Whether a tensor holds a matrix of every expert.

    >>> stacked("moe.input_linear.weight", (8, 4, 6)), stacked("conv.weight", (8, 4, 6))
    (True, False)
    """
    return len(shape) == 3 and STACK.search(key) is not None


def loaded_stack(name: str, dimensions: int) -> bool:
    """The same of a parameter of a model that transformers has built, which is named by the model's own code.

    >>> loaded_stack("layers.0.mlp.experts.gate_up_proj", 3), loaded_stack("layers.0.mlp.experts.0.up_proj.weight", 2)
    (True, False)
    """
    return dimensions == 3 and "expert" in name.lower()


def conv1d_keys(shapes: Mapping[str, Sequence[int]], config: Mapping[str, Any]) -> frozenset[str]:
    """Which tensors are weights of Conv1D, so that they are (in, out).

    Parameters
    ----------
    shapes : of all tensors by name.
    config : the model's ``config.json``; where it does not tell the kind of model, biases do: they are as long as the
        layer's output.

    >>> shapes = {"h.0.mlp.c_fc.weight": (16, 64), "h.0.mlp.c_proj.weight": (64, 16), "predict.weight": (3, 16)}
    >>> sorted(conv1d_keys(shapes, {"model_type": "gpt2"}))
    ['h.0.mlp.c_fc.weight', 'h.0.mlp.c_proj.weight']
    >>> sorted(conv1d_keys(shapes | {"h.0.mlp.c_fc.bias": (64,)}, {}))
    ['h.0.mlp.c_fc.weight', 'h.0.mlp.c_proj.weight']
    >>> conv1d_keys(shapes, {"model_type": "gpt_bigcode"})
    frozenset()
    """
    found = frozenset(key for key, shape in shapes.items() if len(shape) == 2 and CONV1D.search(key))
    if config.get("model_type"):
        parts = _conv1d_parts(config)
        return frozenset(key for key in found if key.startswith(parts))
    biases = {key: shapes.get(f"{key.removesuffix('.weight')}.bias", ()) for key in found}
    told = {key for key in found if shapes[key][0] != shapes[key][1]}
    turned = any(tuple(biases[key]) == (shapes[key][1],) for key in told)
    plain = any(tuple(biases[key]) == (shapes[key][0],) for key in told)
    return found if turned and not plain else frozenset()


def _conv1d_parts(config: Mapping[str, Any]) -> tuple[str, ...]:
    """What the names in those parts of a model begin with that have Conv1D layers; "" for the whole.

    >>> _conv1d_parts({"model_type": "vision-encoder-decoder", "decoder": {"model_type": "gpt2"}})
    ('decoder.',)
    """
    if str(config.get("model_type")) in TRANSPOSED:
        return ("",)
    nested = {name: part for name, part in config.items() if isinstance(part, dict)}
    parts = [name for name, part in nested.items() if str(part.get("model_type")) in TRANSPOSED]
    return tuple("" if name.endswith("config") else f"{name}." for name in parts)
