"""Pairs under names of no known tool: told by the one word in which two names differ, and by their shapes (floor 1)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from math import prod

from lorarank.adapters.adapter import LoraModule
from lorarank.adapters.factors import build, factor_shape
from lorarank.adapters.named_factors import Named, Role
from lorarank.adapters.tensors import Store, StoredTensor
from lorarank.adapters.trainer_files import scaled
from lorarank.errors import AdapterError, printable

WORDS = (
    ("lora_down", "lora_up"),
    ("lora_A", "lora_B"),
    ("lora_a", "lora_b"),
    ("adapter.linear_in", "adapter.linear_out"),  # Megatron and NeMo
    ("linear_in", "linear_out"),  # theirs with q, k and v apart: adapter.adapter_q.linear_in
    ("linear_a", "linear_b"),
    ("lora.A", "lora.B"),  # minimind
    ("matrix_A", "matrix_B"),  # SwissArmyTransformer
    ("lora_right_weight", "lora_left_weight"),  # DeepSpeed-Chat
    ("adaptor.A", "adaptor.B"),  # Llama 3.2 in 4 bits (meta-llama/llama-models models/llama3/quantization/loader.py)
    ("loraA", "loraB"),
    ("lora_in", "lora_out"),
    ("lora1", "lora2"),
    ("lora_1", "lora_2"),
    ("w_a", "w_b"),
)
"""Words that tell the factors of a module apart: of the one that is applied first, of the other."""

VAGUE_WORDS = (("down", "up"), ("A", "B"), ("a", "b"))
"""Words that other tensors have in their names too: believed where they pair all matrices of a file, and where those
are small beside their products."""

ANY_WORD = re.compile(
    rf"(?<![A-Za-z0-9])(?:{'|'.join(re.escape(word) for words in WORDS for word in words)})(?![A-Za-z0-9])"
)
"""Any of those that are certain, in a name."""

SMALL = 4
"""How many times as many numbers as the pairs their products must have, where words are vague. The two layers
of an MLP that is k times as wide as its model pair as well, and their products have k/2: 2 as a rule, 3.6 in Arcee's
models (7.2 times as wide by ``ArceeConfig`` of transformers). Of a LoRA of r = 16 on layers of 1024 it is 32."""

MOST_GUESSED = 20_000
"""Tensors of a file whose names are searched for words; what no tool writes is small."""

LONGEST_GUESSED = 200
"""Characters of such names."""

OF_ONE_WAY = re.compile(r"(?:^|[._])w_a(?=$|[._])")
"""Names that are always of a factor (r, in)."""

NARROW = 2
"""How many times the rank has to fit into the two other dimensions, where nothing but a word tells of a factor."""

ASSUMED = "A layout of no known tool: scaling 1 is assumed, and names of modules are what the names of factors share."


def role_by_words(tensors: Mapping[str, StoredTensor]) -> Callable[[str], Role | None] | None:
    """What a tensor is by the one word that it and its partner differ in; ``None`` where there are no partners."""
    if len(tensors) > MOST_GUESSED:
        return None
    for words in (*WORDS, *VAGUE_WORDS):
        roles = _roles(tensors, words)
        matrices = [key for key, tensor in tensors.items() if len(tensor.shape) > 1]
        sides = {side for _, side in roles.values()}
        if sides == {"A", "B"} and (words in WORDS or all(key in roles for key in matrices)):
            names = {name for name, side in roles.values() if side == "A"}
            if names & {name for name, side in roles.values() if side == "B"}:
                return roles.get if words in WORDS or _are_small(tensors, roles) else None
    return None


def _are_small(tensors: Mapping[str, StoredTensor], roles: Mapping[str, Role]) -> bool:
    """Whether pairs are small beside their products, all of them together.

    >>> some = {"up_proj": StoredTensor("float32", (64, 16)), "down_proj": StoredTensor("float32", (16, 64))}
    >>> _are_small(some, {"up_proj": ("proj", "B"), "down_proj": ("proj", "A")})
    False
    """
    pairs: dict[str, dict[str, tuple[int, ...]]] = {}
    for key, (name, side) in roles.items():
        pairs.setdefault(name, {})[side] = tensors[key].shape
    stored = whole = 0
    for shapes in pairs.values():
        stored += sum(map(prod, shapes.values()))
        way = _transposed(shapes["A"], shapes["B"]) if len(shapes) == 2 else None
        if way is not None:
            whole += shapes["A"]["A" not in way] * shapes["B"]["B" in way]
    return 0 < SMALL * stored <= whole


def _roles(tensors: Mapping[str, StoredTensor], words: tuple[str, str]) -> dict[str, Role]:
    """The matrices that have one of two words in their names, by what is left of the name without it.

    >>> some = {"w_a_000": StoredTensor("float32", (4, 64)), "w_b_000": StoredTensor("float32", (64, 4))}
    >>> _roles(some, ("w_a", "w_b"))
    {'w_a_000': ('w_000', 'A'), 'w_b_000': ('w_000', 'B')}
    """
    either = re.compile(rf"(?<![A-Za-z0-9])(?:({re.escape(words[0])})|({re.escape(words[1])}))(?![A-Za-z0-9])")
    roles: dict[str, Role] = {}
    for key, tensor in tensors.items():
        matches = list(either.finditer(key)) if len(tensor.shape) == 2 and len(key) <= LONGEST_GUESSED else []
        if matches:
            match = matches[-1]
            left, right = key[: match.start()], key[match.end() :].removesuffix(".weight")
            name = left + ("w" if words[0] == "w_a" else "") + right
            name = re.sub(r"([._:/-])[._:/-]+", r"\1", name).strip("._:/-")
            roles[key] = name or "module", "A" if match[1] else "B"
    return roles


def guessed(store: Store, found: Sequence[Named]) -> tuple[list[LoraModule], list[str]]:
    """Modules of factors whose shapes have to say how they fit."""
    modules: list[LoraModule] = []
    kinds: dict[str, Named] = {}
    ways = [_transposed(factor_shape(store, one.A), factor_shape(store, one.B)) for one in found]
    for one, told in zip(found, ways, strict=True):
        way = _as_others(store, one, ways) if told is None else told
        if way is None:
            raise AdapterError(
                f"{store.path}: {one.A}",
                f"its shape {factor_shape(store, one.A)} and the shape {factor_shape(store, one.B)} of {one.B} "
                "share no dimension that is a rank",
                why="no known tool names factors so, and nothing else tells how they fit",
            )
        kinds.setdefault(way, one)
        modules.append(build(store, one, 1.0, transposed=way))
    modules, notes = scaled(modules, store, ASSUMED)
    if notes != [ASSUMED]:
        notes.append("Names of modules are what the names of factors share.")
    for way, one in kinds.items():
        form_A, form_B = "(in, r)" if "A" in way else "(r, in)", "(r, out)" if "B" in way else "(out, r)"
        key_A, key_B = printable(one.A), printable(one.B)
        notes.append(f"Names like {key_A} are taken for lora_A, {form_A}, and like {key_B} for lora_B, {form_B}.")
    return modules, notes


def _as_others(store: Store, one: Named, ways: Sequence[str | None]) -> str | None:
    """How a pair is stored whose shared dimension is not narrow, by what the other pairs of the file say, or by names
    that are always of one way: ``w_a`` is (r, in), with r = 512 beside 768 in the best of MathieuNlp/Sam_LoRA."""
    told = {way for way in ways if way is not None}
    if not told and OF_ONE_WAY.search(one.A):
        told = {""}
    if len(told) != 1:
        return None
    (way,) = told
    r_A = factor_shape(store, one.A)[1 if "A" in way else 0]
    r_B = factor_shape(store, one.B)[0 if "B" in way else 1]
    return way if r_A == r_B else None


def _transposed(shape_A: tuple[int, ...], shape_B: tuple[int, ...]) -> str | None:
    """Letters of the factors that are stored the other way round; ``None`` where no shared dimension is narrow.

    >>> _transposed((4, 64), (64, 4)), _transposed((64, 4), (4, 48)), _transposed((4, 64), (4, 48))
    ('', 'AB', 'B')
    >>> _transposed((8, 8), (8, 8)) is None
    True
    """
    for way, axis_A, axis_B in (("", 0, 1), ("AB", 1, 0), ("A", 1, 1), ("B", 0, 0)):
        r = shape_A[axis_A]
        if r == shape_B[axis_B] and NARROW * r <= min(shape_A[1 - axis_A], shape_B[1 - axis_B]):
            return way
    return None
