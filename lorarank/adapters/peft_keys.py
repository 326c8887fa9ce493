"""Tensor names of PEFT's LoRA, and which of them belong together (floor 1)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from lorarank.adapters.adapter import natural_order
from lorarank.errors import AdapterError

FACTOR = re.compile(
    r"(?P<module>.+?)\.(?:(?P<linear>lora_[AB])(?:\.(?P<name>[^.]+))?\.weight"
    r"|(?P<embedding>lora_embedding_[AB])(?:\.(?P<other>[^.]+))?)"
)
"""``module.lora_A.weight`` or ``module.lora_embedding_A``, with the adapter's name in between where it was kept."""

LIKE_A_FACTOR = re.compile(r"(?:^|\.)lora_(?:embedding_)?[AB](?:\.|$)")
"""A name that must be understood: leaving a factor out would be a wrong answer, not a partial one."""

BESIDE = re.compile(
    r"\.(?:loranew_\w+|lora_(?!(?:A|B|embedding_A|embedding_B|magnitude_vector|bias|alpha|(?:monteclora|velora)_\w+)"
    r"(?:\.|$))\w+)(?:\.[^.]+)?(?:\.weight)?$"
)
"""A tensor that PEFT stores beside no LoRA: forks put a matrix between the factors, or a second pair beside them. What
a name begins with is a module, ``lora_unet_`` among them."""

WRAPPER = re.compile(r"(?:^|(?<=\.))(?:_fsdp_wrapped_module|_orig_mod|_checkpoint_wrapped_module)\.")
"""Path components that FSDP, torch.compile and activation checkpointing put in."""

ROOT = "base_model.model."
"""What PEFT puts before the path of a module."""

PARALLEL = re.compile(r"(?:module\.)+")
"""What data-parallel training and Megatron put before everything, once a wrapper."""


class Pair(NamedTuple):
    """The two factors of one module.

    Attributes
    ----------
    module : its path, wrappers and ``base_model.model.`` taken off; ``.base_layer`` is still in it.
    embedding : whether they are ``lora_embedding_A`` and ``lora_embedding_B``.
    A, B : keys of the two tensors.
    """

    module: str
    embedding: bool
    A: str
    B: str


def pair(keys: Iterable[str], where: str, member: str | None = None) -> tuple[list[Pair], list[str]]:
    """Pair the factors among the keys of a store.

    Parameters
    ----------
    keys : of all tensors.
    where : the file, for messages.
    member : the adapter whose factors are meant, where the names of several are in the keys.

    Returns
    -------
    pairs : in natural order of their modules.
    others : keys that are no factors, in natural order.

    Raises
    ------
    AdapterError
        A factor without its partner, one stored twice, factors of several adapters and no ``member`` among them, or
        a name that looks like a factor's and has another form.

    >>> pairs, others = pair(["base_model.model.q.lora_A.weight", "q.lora_B.weight", "head.bias"], "file")
    >>> pairs[0], others
    (Pair(module='q', embedding=False, A='base_model.model.q.lora_A.weight', B='q.lora_B.weight'), ['head.bias'])
    """
    matches = _of_member({key: FACTOR.fullmatch(key) if "lora_" in key else None for key in keys}, where, member)
    parallel = all(PARALLEL.match(key) for key, match in matches.items() if match)
    found: dict[tuple[str, bool], dict[str, str]] = {}
    others: list[str] = []
    for key, match in matches.items():
        if match is None:
            refuse_beside(key, where, "the fork of PEFT")
            if not key.endswith("bias") and LIKE_A_FACTOR.search(key):
                raise AdapterError(f"{where}: {key}", "looks like a LoRA factor, but its name is not one PEFT gives")
            others.append(key)
            continue
        side = (match["linear"] or match["embedding"])[-1]
        module = WRAPPER.sub("", match["module"])
        module = (PARALLEL.sub("", module, count=1) if parallel else module).replace(ROOT, "", 1)
        sides = found.setdefault((module, match["embedding"] is not None), {})
        if side in sides:
            raise AdapterError(f"{where}: {key}", f"the same factor is stored as {sides[side]} too")
        sides[side] = key
    for sides in found.values():
        if len(sides) == 1:
            ((side, key),) = sides.items()
            raise AdapterError(
                f"{where}: {key}",
                f"lora_{side} without its lora_{'B' if side == 'A' else 'A'}",
                why="the update needs both",
                do="download the file again, or save it again",
            )
    order = sorted(found, key=lambda place: (natural_order(place[0]), place[1]))
    return [Pair(*place, found[place]["A"], found[place]["B"]) for place in order], sorted(others, key=natural_order)


def refuse_beside(key: str, where: str, trainer: str) -> None:
    """Refuse a tensor that is a part of the update and no factor of it.

    Raises
    ------
    AdapterError
        It is one by its name; ``trainer`` is what can merge it.
    """
    if BESIDE.search(key):
        raise AdapterError(
            f"{where}: {key}",
            "a part of the update that PEFT's LoRA does not have",
            why="ΔW is more than lora_B @ lora_A",
            do=f"merge it with {trainer} that trained it",
        )


def _of_member(
    matches: dict[str, re.Match[str] | None], where: str, member: str | None
) -> dict[str, re.Match[str] | None]:
    """What belongs to one adapter: its factors, and all that is no factor of another."""
    adapters = {match["name"] or match["other"] or "" for match in matches.values() if match}
    named = ", ".join(sorted(name or "one without a name" for name in adapters))
    if member is not None and member not in adapters:
        raise AdapterError(where, f"holds no adapter named {member} (found: {named or 'none'})")
    if member is None and len(adapters) > 1:
        first = min(name for name in adapters if name)
        raise AdapterError(
            where,
            f"holds the factors of several adapters ({named})",
            do=f"name one as if it were a file in it, like {where}/{first}",
        )
    if member is None:
        return matches
    others = adapters - {member}
    return {
        key: match
        for key, match in matches.items()
        if (not others & set(key.split(".")[-2:]) if match is None else (match["name"] or match["other"]) == member)
    }


def without_wrappers(module: str) -> str:
    """The path in the base model of a module that PEFT itself wraps again.

    >>> without_wrappers("attn.base_layer.out_proj"), without_wrappers("mlp.experts.base_layer")
    ('attn.out_proj', 'mlp.experts')
    """
    return ".".join(part for part in module.split(".") if part != "base_layer")
