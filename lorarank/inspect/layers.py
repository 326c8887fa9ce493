"""Everything in a base model that LoRA can be put on, from the headers of its weights (floor 2). No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from lorarank.adapters.adapter import natural_order
from lorarank.adapters.tensors import StoredTensor
from lorarank.layer_kinds import conv1d_keys, kind_of
from lorarank.module_names import module_type

HEAD = re.compile(r"(^|\.)(lm_head|score|classifier|embed_out|cls\.predictions\.decoder|qa_outputs)$|^proj_out$")
"""Paths of output layers of language models and classifiers, which all-linear leaves out."""

EXPERT = re.compile(r"\.experts\.\d+\.")
"""In the path of a matrix that belongs to one expert and is stored by itself."""

LINEAR = frozenset({"linear", "Conv1D"})
"""Kinds that PEFT's "all-linear" takes."""


@dataclass(frozen=True)
class Layer:
    """Something that LoRA can be put on.

    Attributes
    ----------
    name : path of the module; of stacked experts, of the parameter.
    kind : ``linear``; ``Conv1D``, GPT-2's linear layer with its weight as (in, out); ``embedding``; ``conv``;
        ``experts``, a stack of matrices in one parameter, and ``router``, what chooses among them (both are PEFT's
        ``target_parameters``); ``head``, the output layer.
    out_features, in_features : shape of the map, of one expert in a stack.
    stack : matrices in a stack, else 1.

    >>> Layer("model.layers.0.self_attn.q_proj", "linear", 4096, 4096).parameters_per_rank
    8192
    """

    name: str
    kind: str
    out_features: int
    in_features: int
    stack: int = 1

    @property
    def type(self) -> str:
        """Last part of the path; of a router's weight, the last two."""
        return ".".join(self.name.split(".")[-2:]) if self.kind == "router" else module_type(self.name)

    @property
    def parameters_per_rank(self) -> int:
        """Trainable parameters of LoRA on it at r = 1: in + out, for every expert."""
        return self.stack * (self.in_features + self.out_features)


@dataclass(frozen=True)
class Layers:
    """What a model holds.

    Attributes
    ----------
    layers : in the model's order, or of its files by name.
    containers : paths of modules that are no layers but hold some; PEFT refuses to adapt them.
    parameters : of the whole model, tied ones once.
    basis : where it is known from.
    family : key of :data:`lorarank.inspect.targets.RENAMED`, where PEFT's "all-linear" takes in the experts; else "".
    """

    layers: tuple[Layer, ...]
    containers: tuple[str, ...]
    parameters: int
    basis: str
    family: str = ""


def from_headers(tensors: Mapping[str, StoredTensor], config: Mapping[str, Any]) -> Layers:
    """Layers by the names and shapes of stored tensors.

    Parameters
    ----------
    tensors : by name, as :func:`lorarank.model_shapes.read_headers` gives them.
    config : the model's ``config.json``; empty where there is none. It says which weights are stored as (in, out).

    >>> found = from_headers({"h.0.mlp.c_fc.weight": StoredTensor("float32", (64, 256))}, {"model_type": "gpt2"})
    >>> found.layers[0].kind, found.layers[0].out_features, found.containers
    ('Conv1D', 256, ('h', 'h.0', 'h.0.mlp'))
    """
    transposed = conv1d_keys({key: tensor.shape for key, tensor in tensors.items()}, config)
    keys = sorted(tensors, key=natural_order)
    layers = [layer for key in keys if (layer := _layer(key, tensors[key].shape, key in transposed))]
    names = {layer.name for layer in layers}
    return Layers(
        tuple(layers),
        tuple(path for path in parents(names) if path not in names),
        sum(tensor.size for tensor in tensors.values()),
        "the shapes in the weight files",
    )


def _layer(key: str, shape: Sequence[int], transposed: bool) -> Layer | None:
    """The layer that a tensor is the weight of; ``None`` where it is a bias, a norm or anything else."""
    kind, name = kind_of(key, shape), key.removesuffix(".weight")
    if kind == "experts":
        return Layer(key, kind, shape[1], shape[2], shape[0])
    if not kind or name == key:
        return None
    if kind == "convolution":
        return Layer(name, "conv", shape[0], prod(shape[1:]))
    if kind == "head" or HEAD.search(name):
        return Layer(name, "head", *shape)
    if kind == "embedding":
        return Layer(name, kind, shape[1], shape[0])  # it maps words to vectors
    return Layer(name, "Conv1D", shape[1], shape[0]) if transposed else Layer(name, "linear", *shape)


def parents(names: Sequence[str] | set[str]) -> tuple[str, ...]:
    """Paths of all modules that hold one of these, sorted.

    >>> parents(["a.b.c", "a.d"])
    ('a', 'a.b')
    """
    found = {".".join(parts[:end]) for name in names for parts in [name.split(".")] for end in range(1, len(parts))}
    return tuple(sorted(found))
