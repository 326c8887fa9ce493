"""Names of torchtune's and llama.cpp's modules in transformers' models of a Llama's build (floor 1).

torchtune: ``_FROM_HF`` in ``torchtune/models/convert_weights.py`` and ``torchtune/models/qwen2/_convert_weights.py``.
llama.cpp: ``gguf-py/gguf/tensor_mapping.py``. Both turn the rows of queries and keys of some architectures, which
:func:`~lorarank.adapters.names.pieces.half_turned` turns back: torchtune those of Llama, Mistral and Gemma and not of
Qwen (``tune_to_hf``, ``gemma_tune_to_hf``, ``qwen2_tune_to_hf``); llama.cpp those of ``LlamaModel`` in
``conversion/llama.py``, which Mistral is one of, and of its kin SmolLM3 and Granite.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lorarank.adapters.adapter import LoraModule
from lorarank.adapters.names.base import Base
from lorarank.adapters.names.pieces import Piece, half_turned
from lorarank.errors import AdapterError

ATTENTION = {"q_proj": "self_attn.q_proj", "k_proj": "self_attn.k_proj", "v_proj": "self_attn.v_proj"}

TORCHTUNE = {
    **{f"attn.{name}": path for name, path in ATTENTION.items()},
    "attn.output_proj": "self_attn.o_proj",
    "mlp.w1": "mlp.gate_proj",
    "mlp.w2": "mlp.down_proj",
    "mlp.w3": "mlp.up_proj",
}

GGUF = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_up": "mlp.up_proj",
}

OUTSIDE = {"tok_embeddings": "model.embed_tokens", "token_embd": "model.embed_tokens", "output": "lm_head"}
"""Names outside the layers; both tools call the head the same."""

LAYER = re.compile(r"(?:layers|blk)\.(?P<index>[0-9]{1,6})\.(?P<name>.+)")

TURNED = {
    "torchtune": frozenset({"llama", "mistral", "gemma", "gemma2"}),
    "gguf": frozenset({"llama", "granite", "smollm3"}),
}
"""Format → architectures whose queries and keys have their rows turned."""

PLAIN = {
    "torchtune": frozenset({"qwen2", "qwen3"}),
    "gguf": frozenset({"qwen2", "qwen3", "gemma", "gemma2", "gemma3"}),
}
"""Format → those whose rows are as they were."""

TOOLS = {"torchtune": "torchtune's own export of PEFT's format", "gguf": "the PEFT adapter that it was made from"}


def architecture(form: str, config: Mapping[str, Any], base: Base | None, where: object) -> str:
    """The architecture that an adapter of torchtune or llama.cpp is for.

    Raises
    ------
    AdapterError
        It is none whose names are known, or only the base model can tell.

    >>> architecture("gguf", {"general.architecture": "qwen2"}, None, "lora.gguf")
    'qwen2'
    """
    kind = str(config.get("general.architecture", "")) if form == "gguf" else base.type if base is not None else ""
    if form == "torchtune" and base is None:
        raise AdapterError(
            where,
            "torchtune's names do not say which architecture they are of",
            why="of some it turns the rows of queries and keys",
            do="name the model that it is for with --base MODEL; its config.json is enough",
        )
    if kind not in TURNED[form] | PLAIN[form]:
        known = ", ".join(sorted(TURNED[form] | PLAIN[form]))
        raise AdapterError(
            where,
            f"of the architecture {kind or 'that is not named'}, whose names are not known here (known: {known})",
            do=f"use {TOOLS[form]}",
        )
    return kind


def piece(module: LoraModule, form: str, kind: str, base: Base | None, where: object) -> Piece:
    """The module of transformers that a stored one is.

    Parameters
    ----------
    module : under its stored name.
    form, kind : format, and what :func:`architecture` gives for it.
    base : the model that it is for.
    where : for messages.

    Raises
    ------
    AdapterError
        A name that is not known, experts in a stack, or queries and keys whose number of heads is not known.
    """
    path = _path(module.name, TORCHTUNE if form == "torchtune" else GGUF)
    if path is None or module.expert is not None:
        what = "one of the experts of a stack" if module.expert is not None else "no module that is known here"
        raise AdapterError(f"{where}: {module.name}", what, do=f"use {TOOLS[form]}")
    if kind not in TURNED[form] or not path.endswith(("q_proj", "k_proj")):
        return Piece(path)
    if base is None:
        raise AdapterError(
            f"{where}: {module.name}",
            f"its rows are turned, as those of every {kind} in llama.cpp, and the number of heads is not stored",
            why="turning them back needs it",
            do="name the model that it is for with --base MODEL; its config.json is enough",
        )
    heads = base.heads()[path.endswith("k_proj")]
    if module.out_features % (2 * heads):
        raise AdapterError(
            f"{where}: {module.name}",
            f"{module.out_features} rows are not those of {heads} heads, as {base.path} has",
            do="name the model that it is for with --base MODEL",
        )
    return Piece(path, half_turned(module.out_features, heads))


def _path(name: str, layer: Mapping[str, str]) -> str | None:
    """The path in transformers.

    >>> _path("blk.3.attn_q", GGUF), _path("layers.0.mlp.w1", TORCHTUNE), _path("output", GGUF), _path("blk.0.x", GGUF)
    ('model.layers.3.self_attn.q_proj', 'model.layers.0.mlp.gate_proj', 'lm_head', None)
    """
    match = LAYER.fullmatch(name)
    if match is None:
        return OUTSIDE.get(name)
    inside = layer.get(match["name"])
    return None if inside is None else f"model.layers.{match['index']}.{inside}"
