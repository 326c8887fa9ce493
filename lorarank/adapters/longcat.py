"""LoRA of LongCat-Video: kohya's words, a separator of its own for dots, and layers in parts (floor 1).

Keys are ``lora___lorahyphen___blocks___lorahyphen___0…``. ``lora_down`` (n·r, in) has r rows for each of the n parts
that a layer's outputs are in (queries, keys and values), ``lora_up.blocks.0`` (out/n, r) and so on are theirs, and
``alpha_scale`` is alpha/r already (meituan-longcat/LongCat-Video ``longcat_video/modules/lora_utils.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import partial

from lorarank.adapters.adapter import Adapter, LoraModule, Stored
from lorarank.adapters.candidate import Candidate
from lorarank.adapters.factors import assemble, build, dtype_of, factor_shape
from lorarank.adapters.named_factors import Named, Role, collect
from lorarank.adapters.peft_config import usable_alpha
from lorarank.adapters.tensors import Store, read_finite, read_number
from lorarank.errors import AdapterError

HUB_FILES = ("*[lL][oO][rR][aA]*.safetensors",)
"""What is fetched of an adapter on the hub."""

DOT = "___lorahyphen___"
"""What stands for a dot."""

FACTOR = re.compile(r"(?P<stem>[^.]+)\.lora_(?P<side>down|up)(?:\.blocks\.(?P<part>[0-9]{1,2}))?\.weight")

SCALE = ".alpha_scale"

UNSCALED = "No scale is stored for {} of {} modules: scaling 1 is assumed."

IN_PARTS = "Layers like {} are in {} parts with factors of their own; each is a module here, numbered."


def recognises(candidate: Candidate) -> bool:
    """Whether any tensor is named as LongCat-Video names factors."""
    return any(DOT in key and FACTOR.fullmatch(key) is not None for key in candidate.keys)


def role_of(key: str) -> Role | None:
    """What a tensor is, by its name; the ``lora_up`` of a part beyond the first is ``B1`` and so on.

    >>> role_of("lora___lorahyphen___blocks___lorahyphen___0.lora_up.blocks.2.weight")
    ('blocks.0', 'B2')
    """
    match = FACTOR.fullmatch(key)
    if match is None:
        return None
    part = int(match["part"] or 0)
    return _path(match["stem"]), ("A" if match["side"] == "down" else "B") + (str(part) if part else "")


def _path(stem: str) -> str:
    return stem.replace(DOT, ".").removeprefix("lora.")


def read(candidate: Candidate) -> Adapter:
    """Read an adapter of LongCat-Video.

    Raises
    ------
    AdapterError
        Factors that do not fit, or an unusable scale.
    """
    store = candidate.tensors
    found, carried = collect(store.tensors, role_of, store.path)
    further = _further(store.tensors)
    scales = {_path(key.removesuffix(SCALE)): key for key in carried if key.endswith(SCALE)}
    modules: list[LoraModule] = []
    notes: list[str] = []
    for one in found:
        key = scales.get(one.module)
        scaling = 1.0 if key is None else usable_alpha(read_number(store, key), f"{store.path}: {key}")
        ups = [one.B, *further.get(one.module, ())]
        modules += [build(store, one, scaling)] if len(ups) == 1 else _parts(store, one, ups, scaling)
        if len(ups) > 1 and not notes:
            notes.append(IN_PARTS.format(one.module, len(ups)))
    unscaled = sum(one.module not in scales for one in found)
    if unscaled:
        notes.append(UNSCALED.format(unscaled, len(found)))
    used = {scales.get(one.module) for one in found}
    return assemble(candidate, "longcat", modules, [key for key in carried if key not in used], notes=notes)


def _further(keys: Iterable[str]) -> dict[str, list[str]]:
    """Path of a layer → the ``lora_up`` of its parts beyond the first, in their order."""
    found: dict[str, dict[int, str]] = {}
    for key in keys:
        path, side = role_of(key) or ("", "A")
        if side[1:]:
            found.setdefault(path, {})[int(side[1:])] = key
    return {path: [parts[part] for part in sorted(parts)] for path, parts in found.items()}


def _parts(store: Store, one: Named, ups: Sequence[str], scaling: float) -> list[LoraModule]:
    """A module for each part of a layer."""
    shape_A = factor_shape(store, one.A)
    r, rest = divmod(shape_A[0], len(ups))
    modules = []
    for part, key in enumerate(ups):
        shape_B = factor_shape(store, key)
        if rest or len(shape_A) != 2 or len(shape_B) != 2 or shape_B[1] != r or f".blocks.{part}." not in key:
            raise AdapterError(
                f"{store.path}: {one.A}",
                f"its shape {shape_A} does not fit the shape {shape_B} of {key}, part {part} of {len(ups)}",
                why="the update is their product",
            )
        modules.append(
            LoraModule(
                name=f"{one.module}.{part}",
                kind="linear",
                r=r,
                in_features=shape_A[1],
                out_features=shape_B[0],
                scaling=scaling,
                dtype=dtype_of(store, one.A, key),
                parameters=r * (shape_A[1] + shape_B[0]),
                keys=(one.A, key),
                read=partial(_part, store, one.A, key, slice(part * r, (part + 1) * r)),
            )
        )
    return modules


def _part(store: Store, down: str, up: str, rows: slice) -> Stored:
    return read_finite(store, down)[rows].copy(), read_finite(store, up)
