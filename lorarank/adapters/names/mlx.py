"""Names of MLX-LM's modules in transformers' models, where they are not the same (floor 1).

MLX-LM calls the body of GPT-2, GPT-J and GPT-NeoX ``model``, and the layers of the last ``h`` (``sanitize`` in
``mlx_lm/models/gpt2.py``, ``gptj.py`` and ``gpt_neox.py``, ml-explore/mlx-lm 0.32); others with ``h`` keep the names of
transformers. The language model within a model of images is ``language_model.model`` there, and in transformers since
4.52 ``model.language_model``, where before it was as in MLX-LM: what tells which is not in the adapter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

GPT = re.compile(
    r"model\.(?P<rest>w[tp]e|h\.[0-9]{1,6}\."
    r"(?:attn\.(?:c_attn|c_proj|[qkv]_proj|out_proj)|mlp\.(?:c_fc|c_proj|fc_in|fc_out)))"
)
"""A module of GPT-2 or GPT-J."""

NEOX = re.compile(
    r"model\.h\.(?P<rest>[0-9]{1,6}\.(?:attention\.(?:query_key_value|dense)|mlp\.dense_(?:h_to_4h|4h_to_h)))"
)

WITHIN = "language_model.model."

DOUBT = (
    "Modules keep MLX's names, which begin with language_model.model.: in transformers since 4.52 they begin with "
    "model.language_model., and PEFT does not find them under the other."
)
"""What to know of an adapter of a language model within another."""


def path(name: str) -> str:
    """The path of a module in transformers' model.

    >>> path("model.h.3.attn.c_attn"), path("model.h.0.mlp.dense_4h_to_h"), path("model.layers.0.mlp.up_proj")
    ('transformer.h.3.attn.c_attn', 'gpt_neox.layers.0.mlp.dense_4h_to_h', 'model.layers.0.mlp.up_proj')
    """
    match = GPT.fullmatch(name)
    if match:
        return f"transformer.{match['rest']}"
    match = NEOX.fullmatch(name)
    return f"gpt_neox.layers.{match['rest']}" if match else name


def is_doubtful(names: Iterable[str]) -> bool:
    """Whether modules are of a language model within another."""
    return any(name.startswith(WITHIN) for name in names)
