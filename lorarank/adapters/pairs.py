"""Pairs of factors in a layout of no known tool: read, and what had to be assumed is noted (floor 1).

First PEFT's and diffusers' names of factors, without what else belongs to these formats. Then any other names that two
matrices share but for one word, like ``w_a_000`` and ``w_b_000``: which of their dimensions is the rank shows by its
being shared and narrow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from lorarank.adapters.adapter import Adapter, LoraModule
from lorarank.adapters.attention_names import role_of as plain_role
from lorarank.adapters.candidate import Candidate
from lorarank.adapters.factors import (
    MAGNITUDE,
    alpha_scaling,
    assemble,
    build,
    factor_shape,
    fused_parts,
    is_paddle,
    kept,
)
from lorarank.adapters.foreign import refuse_other_methods
from lorarank.adapters.guessed_pairs import ANY_WORD, guessed, role_by_words
from lorarank.adapters.named_factors import Named, collect
from lorarank.adapters.peft_config import FILE_NAME, NOTES, OTHER_METHOD, usable_alpha
from lorarank.adapters.peft_keys import FACTOR, ROOT, pair, refuse_beside, without_wrappers
from lorarank.adapters.stacks import Stacks
from lorarank.adapters.tensors import Store, read_number
from lorarank.adapters.tool_names import names_of
from lorarank.adapters.trainer_files import FILES, SCALING, scaled
from lorarank.errors import AdapterError, printable

HUB_FILES = (
    "adapter_model.safetensors",
    "*[lL][oO][rR][aA]*.safetensors",
    "peft_model*.safetensors",
    "peft_model.safetensors.index.json",
    *FILES,
)
"""What is fetched of an adapter on the hub."""

ALPHA = re.compile(r"\.(?:lora_)?alpha$")
"""Behind the name of a module (``collect_lora_alphas``, bghira/SimpleTuner
``simpletuner/helpers/training/lora_format.py``)."""

AROUND = re.compile(r"\.parametrizations\.\w+\.[0-9]+$|\.lora$|\.loramodule_\w+$")
"""What torch's parametrizations, OpenDelta and ms-swift put between the name of a module and that of a factor."""

PACKED = re.compile(
    r"\.(?:(?:qkv_proj|out_proj|mlp_fc[12])(?:_context)?|mlp_context_fc[12]"
    r"|attn\.(?:to_qkv|add_qkv_proj|to_out\.0|to_add_out)|(?:img|txt)_mlp\.net\.(?:0\.proj|2))\.lora_(?:down|up)$"
)
"""Factors of nunchaku's for Flux.1 and Qwen-Image, in the order of a GPU's tiles (nunchaku-tech/nunchaku
``nunchaku/lora/flux/nunchaku_converter.py`` and ``nunchaku/lora/qwenimage/nunchaku_converter.py``)."""

STACKED = (
    "Factors of three dimensions hold several updates of a module, of tasks or of experts: each is told by its place "
    "among them. Some models use one of them at a time."
)
"""As of jina-embeddings-v3, which has one for each of five tasks (``modeling_lora.py``)."""

FUSED = (
    "Factors like {} are of a fused projection, as loralib and LitGPT keep them: each part is told by its place among "
    "them. Which outputs it is for is not stored."
)

UNCONFIGURED = (
    f"No {FILE_NAME} lies beside it, so alpha is unknown: scaling 1 is assumed. Ranks and shares of energy of a module "
    "do not depend on it; norms and comparisons with other adapters do."
)


CONVOLUTION = re.compile(r"(?:.+\.)?conv[^.]*")
"""The path of a convolution, by its last name."""

FOLDED = (
    "Modules like {} have {} times the r of others, as a convolution's factors in loralib and stable_lora have, whose "
    "product holds the numbers of its update in another arrangement: it is measured as it is stored."
)
"""(r·k, in·k) and (out·k, r·k) for a kernel of k×k (``ConvLoRA``, microsoft/LoRA ``loralib/layers.py``;
ExponentialML/Text-To-Video-Finetuning ``stable_lora/lora.py``)."""


def recognises(candidate: Candidate) -> bool:
    """Whether the tensors hold a pair of factors under any names."""
    store = candidate.store
    return store is not None and (
        any(map(_is_of_peft, store.tensors))
        or any(map(_is_plain, store.tensors))
        or names_of(store.tensors) is not None
        or role_by_words(store.tensors) is not None
    )


def read(candidate: Candidate) -> Adapter:
    """Read pairs of factors.

    Raises
    ------
    AdapterError
        Factors without a partner, or of which it cannot be told how they fit.
    """
    store = candidate.tensors
    tool = names_of(store.tensors)
    others = [key for key in store.tensors if tool is None or tool.role_of(key) is None]
    refuse_other_methods(store.path, others)
    if any(map(PACKED.search, store.tensors)):
        raise AdapterError(
            store.path,
            "an adapter of nunchaku's, whose factors lie in the order of a GPU's tiles",
            do="take the file that it was converted from",
        )
    named = any(map(_is_of_peft, store.tensors))
    if named:
        found, carried = _of_peft(candidate)
        modules, notes = _scaled(store, found)
    elif tool is not None:
        found, carried = collect(store.tensors, tool.role_of, store.path)
        _refuse_bottlenecks(store, found)
        modules, notes = _scaled(store, found, tool.scalings(carried), tool.note or UNCONFIGURED)
        if tool.alpha is not None:
            modules = [replace(module, scaling=tool.alpha / module.r) for module in modules]
    elif any(map(_is_plain, store.tensors)):
        found, carried = _of_parameters(store)
        modules, notes = _scaled(store, found, {SCALING.sub("", key): key for key in carried if SCALING.search(key)})
        notes += _folded(modules)
    else:
        found, carried = collect(store.tensors, role_by_words(store.tensors) or plain_role, store.path)
        _refuse_bottlenecks(store, found)
        modules, notes = guessed(store, found)
        more = [key for key in carried if len(store.tensors[key].shape) > 2 and ANY_WORD.search(key)]
        if more:
            notes.append(
                f"{len(more)} tensors like {printable(more[0])} are named as factors and are no matrices: carried, not "
                "measured."
            )
    if any(map(MAGNITUDE.search, carried)):
        notes.append(NOTES["use_dora"])
    return assemble(candidate, "pairs", modules, carried, notes=notes, named=named)


def _is_of_peft(key: str) -> bool:
    return "lora_" in key and FACTOR.fullmatch(key) is not None


def _is_plain(key: str) -> bool:
    """Whether it is a factor in PEFT's or diffusers' names.

    >>> _is_plain("q.lora_A"), _is_plain("q.alpha")
    (True, False)
    """
    role = plain_role(key) if "lora" in key else None
    return role is not None and role[1] != "alpha"


def _of_parameters(store: Store) -> tuple[list[Named], tuple[str, ...]]:
    """Factors that are parameters themselves, and what is none."""
    found, carried = collect(store.tensors, plain_role, store.path)
    for key in carried:
        if not (SCALING.search(key) and store.tensors[key].size == 1):
            refuse_beside(key, f"{store.path}", "the tool")
    short = [AROUND.sub("", one.module) for one in found]
    if len(set(short)) == len(found):  # two parametrizations of one weight keep their numbers
        found = [one._replace(module=name) for one, name in zip(found, short, strict=True)]
    return found, carried


def _folded(modules: Sequence[LoraModule]) -> list[str]:
    """A note on the first convolution whose kernel is in its r, where there is one.

    >>> some = [LoraModule(name, "linear", r, 24, 48, 1.0, "float32", 1, ("a", "b"), read=lambda: (None, None))
    ...         for name, r in (("to_q", 4), ("resnets.0.conv1", 12))]
    >>> _folded(some)[0][:53], _folded(some[:1])
    ('Modules like resnets.0.conv1 have 3 times the r of ot', [])
    """
    smallest = min((module.r for module in modules), default=1)
    for module in modules:
        k, rest = divmod(module.r, smallest)
        fits = not rest and module.in_features % k == 0 and module.out_features % k == 0
        if k > 1 and fits and module.kind == "linear" and CONVOLUTION.fullmatch(module.name):
            return [FOLDED.format(printable(module.name), k)]
    return []


def _scaled(
    store: Store,
    found: Sequence[Named],
    scalings: Mapping[str, str] | None = None,
    unscaled: str = UNCONFIGURED,
) -> tuple[list[LoraModule], list[str]]:
    """Modules of factors whose names say how they fit; ``scalings`` are keys of numbers, by the names of modules, and
    ``unscaled`` is the note where nothing tells them."""
    modules: list[LoraModule] = []
    notes: list[str] = []
    stacks = Stacks(store)
    for one in found:
        if _is_stack(store, one):
            modules += stacks.modules(one, alpha_scaling(store, one), partial("{}.{}".format, one.module))
            continue
        parts = fused_parts(store, one)
        if parts > 1:
            modules += stacks.modules(one, 1.0, partial("{}.{}".format, one.module), parts=parts)
            continue
        kind = "embedding" if "lora_embedding_A" in one.A else ""
        way = kept(store, one)
        modules.append(build(store, one, alpha_scaling(store, one, way), transposed=way, kind=kind))
    keys = [scalings.get(one.module) for one in found] if scalings else []
    if keys and None not in keys:
        values = [usable_alpha(read_number(store, key), f"{store.path}: {key}") for key in keys if key]
        modules = [replace(module, scaling=value) for module, value in zip(modules, values, strict=True)]
    else:
        modules, notes = scaled(modules, store, unscaled)
    if any(module.kind == "parameter" for module in modules):
        notes.append(STACKED)
    fused = next((module for module in modules if module.is_part), None)
    if fused is not None:
        notes.append(FUSED.format(printable(fused.keys[0])))
    told = "as Paddle keeps them" if is_paddle(store) else "by their shapes"
    others = [module.keys[0] for module in modules if module.transposed and module.expert is None]
    if others:
        notes.append(f"Factors like {printable(others[0])} are taken as (in, r) and (r, out), {told}.")
    return modules, notes


def _is_stack(store: Store, one: Named) -> bool:
    """Whether factors of three dimensions hold as many updates as the first says; a convolution in one dimension has
    (r, in, k) and (out, r, 1)."""
    shape_A, shape_B = factor_shape(store, one.A), factor_shape(store, one.B)
    if len(shape_A) != 3 or len(shape_B) != 3 or shape_A[0] != shape_B[0]:
        return False
    return shape_A[1] == shape_B[2] > 1 or shape_A[2] == shape_B[1] > 1


def _refuse_bottlenecks(store: Store, found: Sequence[Named]) -> None:
    """Refuse adapters with a function between their two matrices, whose names some LoRAs share: those have biases
    (``HoulsbyAdapterLinear``, speechbrain ``speechbrain/nnet/adapters.py``)."""
    for one in found:
        bias = f"{one.A.removesuffix('.weight')}.bias"
        if "lora" not in one.A.lower() and bias in store.tensors:
            raise AdapterError(
                f"{store.path}: {bias}",
                "a bias, as bottleneck adapters have one and LoRA has none",
                why="what lies between its two matrices is not linear, so their product is no update",
                do=OTHER_METHOD,
            )


def _of_peft(candidate: Candidate) -> tuple[list[Named], tuple[str, ...]]:
    store = candidate.tensors
    pairs, others = pair(store.tensors, str(store.path), candidate.member)
    alphas = {ALPHA.sub("", key).replace(ROOT, "", 1): key for key in others if ALPHA.search(key)}
    found = [Named(without_wrappers(one.module), one.A, one.B, alpha=alphas.get(one.module)) for one in pairs]
    used = {one.alpha for one in found}
    return found, tuple(key for key in others if key not in used)
