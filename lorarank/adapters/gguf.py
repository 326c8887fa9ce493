"""LoRA of llama.cpp: GGUF files with pairs of ``.lora_a`` and ``.lora_b`` (floor 1).

``lora_a`` is (r, in) and ``lora_b`` (out, r), of experts (E, r, in) and (E, out, r); of the embedding of tokens,
``lora_a`` is (tokens, r). Scaling is alpha/r, and 1 where alpha is 0 or missing (ggml-org/llama.cpp
``convert_lora_to_gguf.py``, ``src/llama-adapter.cpp``, ``src/llama-adapter.h``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lorarank.adapters.adapter import Adapter, LoraModule
from lorarank.adapters.candidate import Candidate
from lorarank.adapters.factors import assemble, build, factor_shape
from lorarank.adapters.named_factors import by_side, collect
from lorarank.adapters.peft_config import NOTES, OTHER_METHOD, usable_alpha
from lorarank.adapters.stacks import Stacks, before_last
from lorarank.errors import AdapterError

if TYPE_CHECKING:
    from lorarank.adapters.gguf_file import GgufFile

HUB_FILES = ("*[lL][oO][rR][aA]*.gguf",)
"""What is fetched of an adapter on the hub."""

FACTOR = re.compile(r"(?P<module>.+?)(?:\.weight)?\.lora_(?P<side>[ab])")

ALPHA = "adapter.lora.alpha"

ACTIVATED = "adapter.alora.invocation_tokens"
"""A list that only an activated LoRA has (``gguf-py/gguf/constants.py``)."""

EMBEDDING = "token_embd"

UNSCALED = "No alpha is stored: scaling 1, as llama.cpp takes it."

PERMUTED = (
    "Names and the order of rows in attention are llama.cpp's; ranks and singular values do not depend on either."
)


role_of = by_side(FACTOR)
"""What a tensor is, by its name."""


def recognises(candidate: Candidate) -> bool:
    """Whether it is a GGUF file by its name.

    >>> role_of("blk.0.attn_q.weight.lora_a"), role_of("blk.0.attn_norm.weight")
    (('blk.0.attn_q', 'A'), None)
    """
    return candidate.weights is not None and candidate.weights.suffix == ".gguf"


def read(candidate: Candidate) -> Adapter:
    """Read an adapter of llama.cpp.

    Raises
    ------
    AdapterError
        A damaged file, a model, another kind of adapter, or factors that do not fit or are quantised.
    """
    from lorarank.adapters.gguf_file import GgufFile

    store = candidate.tensors
    if not isinstance(store, GgufFile):
        raise AdapterError(store.path, "no GGUF file")
    _check_kind(store)
    alpha = usable_alpha(store.values.get(ALPHA, 0.0), f"{store.path}: {ALPHA}")
    found, carried = collect(store.tensors, role_of, store.path)
    stacks = Stacks(store)
    modules: list[LoraModule] = []
    for one in found:
        shape_B = factor_shape(store, one.B)
        scaling = alpha / shape_B[-1] if alpha else 1.0
        if len(shape_B) == 3:
            modules += stacks.modules(one, scaling, before_last(one.module))
        else:
            turned, kind = ("A", "embedding") if one.module == EMBEDDING else ("", "")
            modules.append(build(store, one, scaling, transposed=turned, kind=kind))
    notes = [PERMUTED] if alpha else [UNSCALED, PERMUTED]
    if ACTIVATED in store.values:
        notes.append(NOTES["alora_invocation_tokens"])
    return assemble(
        candidate, "gguf", modules, carried, notes=notes, base_model=_base(store.values), config=dict(store.values)
    )


def _check_kind(store: GgufFile) -> None:
    if store.values.get("general.architecture") == "controlvector":
        what = "a control vector, which adds a direction to what layers give"
        raise AdapterError(store.path, what, why="it has no rank of LoRA's kind", do=OTHER_METHOD)
    kind = store.values.get("general.type")
    if kind != "adapter":
        what = "a model" if kind in (None, "model") else f"a file of the type {kind}"
        raise AdapterError(store.path, f"{what} of llama.cpp, not an adapter", do="name the adapter's file")
    method = store.values.get("adapter.type")
    if method != "lora":
        raise AdapterError(store.path, f"an adapter of the type {method} of llama.cpp", why="it is not LoRA")


def _base(values: Mapping[str, Any]) -> str | None:
    """The base model, where the file names it."""
    for key in ("general.base_model.0.repo_url", "general.base_model.0.name"):
        base = values.get(key)
        if isinstance(base, str) and base:
            return base.removeprefix("https://huggingface.co/")
    return None
