"""Which tensor of a fine-tune is which of its base (floor 3).

Names differ where one of the two was saved without its head (transformers leaves its ``base_model_prefix`` out then),
or from inside another module: of Lightning, of torch.compile, of a data-parallel one. Old files of BERT's call the
weight of a norm gamma.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lorarank.adapters.tensors import StoredTensor

OLD_NORMS = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))
"""Ends of names of TensorFlow's days, which transformers renames when it loads them."""

WRAPPERS = re.compile(r"((module|_orig_mod|_fsdp_wrapped_module|base_model\.model)\.)+")
"""Prefixes that modules around a model add: no model that is loaded has them."""

WHOLE = re.compile(
    r"(lm_head|score|classifier|embed_out|cls|qa_outputs|model|transformer|gpt_neox|bert|roberta|distilbert|albert"
    r"|electra|deberta|esm|vit|dinov2|wav2vec2)\."
)
"""What some names of a model with its head begin with, so that a prefix before them is of a module around it: heads,
and each ``base_model_prefix`` that is frequent."""

MOST_PARTS = 6
"""Of a prefix."""


@dataclass(frozen=True)
class Pairing:
    """Names of tensors, and the keys that they have in both models.

    Attributes
    ----------
    base, tuned : name → key, of all tensors of either.
    note : with what prefix the names of one of them begin and those of the other do not, and what was made of it; ""
        where there is none.
    """

    base: Mapping[str, str]
    tuned: Mapping[str, str]
    note: str = ""


def pair_names(base: Mapping[str, StoredTensor], tuned: Mapping[str, StoredTensor]) -> Pairing:
    """Pair the tensors of two models by name, with a prefix more or less where only that makes matrices meet.

    The names are those of the side that a model has when it is loaded: with the prefix where that is of a base saved
    without its head, without it where a module was around the model.

    >>> shape = StoredTensor("float32", (4, 4))
    >>> found = pair_names({"h.0.c.weight": shape}, {"transformer.h.0.c.weight": shape})
    >>> found.base
    {'transformer.h.0.c.weight': 'h.0.c.weight'}
    >>> found.note
    "those of the fine-tune begin with transformer., the base's do not; here all do"
    >>> pair_names({"h.0.c.weight": shape}, {"module.h.0.c.weight": shape}).tuned
    {'h.0.c.weight': 'module.h.0.c.weight'}
    """
    first: Mapping[str, str] = _by_name(base)
    second: Mapping[str, str] = _by_name(tuned)
    alike = sum(name in second and _same(base[key], tuned[second[name]]) for name, key in first.items())
    in_tuned, in_base = _prefix(base, first, tuned, second), _prefix(tuned, second, base, first)
    if max(in_tuned[1], in_base[1]) <= alike:
        return Pairing(first, second)
    if in_tuned[1] >= in_base[1]:
        prefix = in_tuned[0]
        first, second, done = _joined(first, second, prefix)
        return Pairing(first, second, f"those of the fine-tune begin with {prefix}, the base's do not{done}")
    prefix = in_base[0]
    second, first, done = _joined(second, first, prefix)
    return Pairing(first, second, f"those of the base begin with {prefix}, the fine-tune's do not{done}")


def _joined(
    short: Mapping[str, str], long: Mapping[str, str], prefix: str
) -> tuple[Mapping[str, str], Mapping[str, str], str]:
    """Both with the names of a model that is loaded, and what became of the prefix, as the end of a sentence."""
    if not WRAPPERS.fullmatch(prefix) and not any(WHOLE.match(name) for name in short):
        return {f"{prefix}{name}": key for name, key in short.items()}, long, "; here all do"
    bare = {name: name.removeprefix(prefix) for name in long}
    return short, {name if bare[name] in long else bare[name]: key for name, key in long.items()}, "; here none do"


def _by_name(keys: Iterable[str]) -> dict[str, str]:
    """Name → key; a name as of today where no other tensor has it."""
    known = set(keys)
    found = {}
    for key in keys:
        name = key
        for old, new in OLD_NORMS:
            if key.endswith(old) and f"{key.removesuffix(old)}{new}" not in known:
                name = f"{key.removesuffix(old)}{new}"
        found[name] = key
    return found


def _same(one: StoredTensor, other: StoredTensor) -> bool:
    """Whether they are matrices of one shape."""
    return len(one.shape) > 1 and one.shape == other.shape


def _prefix(
    short: Mapping[str, StoredTensor],
    short_names: Mapping[str, str],
    long: Mapping[str, StoredTensor],
    long_names: Mapping[str, str],
) -> tuple[str, int]:
    """What most matrices of ``long`` have before the name of one in ``short``, and how many.

    "" where two are as good.
    """
    counts: Counter[str] = Counter()
    for name, key in long_names.items():
        at = -1
        for _ in range(MOST_PARTS):
            at = name.find(".", at + 1)
            if at < 0:
                break
            rest = name[at + 1 :]
            if rest in short_names and _same(long[key], short[short_names[rest]]):
                counts[name[: at + 1]] += 1
    best = counts.most_common(2)
    if not best or (len(best) > 1 and best[0][1] == best[1][1]):
        return "", 0
    return best[0]
