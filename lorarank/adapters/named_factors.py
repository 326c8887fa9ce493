"""Which tensors of a file belong to one module, by their names (floor 1).

A reader says what the key of a tensor is, and :func:`collect` brings together what belongs to one module.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from lorarank.adapters.adapter import natural_order
from lorarank.adapters.candidate import ending
from lorarank.adapters.peft_keys import WRAPPER
from lorarank.errors import AdapterError

LIKE_A_FACTOR = re.compile(r"lora_(?:embedding_)?(?:[AaBb]|down|up|mid)\d*(?=$|[._])|_?lora\.(?:down|up)\b")
"""A name that must be understood: leaving a factor out would be a wrong answer, not a partial one."""

NO_FACTOR = re.compile(r"(?:bias|magnitude_vector|dora_scale|magnitude)$")
"""Ends of names that :data:`LIKE_A_FACTOR` matches all the same."""

WHOLE = ", and none has one: ai-toolkit's fullrank has whole matrices in the place of factors"
"""What ``lora_down`` may be where there is no ``lora_up`` at all (ostris/ai-toolkit ``toolkit/lora_special.py``)."""

Role = tuple[str, str]
"""The module that a tensor belongs to, and what it is there: ``A``, ``B``, ``mid`` or ``alpha``."""


def by_side(factor: re.Pattern[str]) -> Callable[[str], Role | None]:
    """What a tensor is, by an expression with the groups ``module`` and ``side`` (a or b) for the end of its name.

    >>> by_side(re.compile(r"(?P<module>.+)[.]lora_(?P<side>[ab])"))("layers.0.q.lora_b")
    ('layers.0.q', 'B')
    """

    def role_of(key: str) -> Role | None:
        start, end = ending(key)
        match = factor.fullmatch(end)
        return (start + match["module"], match["side"].upper()) if match else None

    return role_of


class Named(NamedTuple):
    """Keys of the tensors of one module.

    Attributes
    ----------
    module : its name.
    A, B : of the factors.
    mid : of the core between them, where a convolution is in Tucker form.
    alpha : of its alpha, where one is stored.
    """

    module: str
    A: str
    B: str
    mid: str | None = None
    alpha: str | None = None


def collect(
    keys: Iterable[str], role_of: Callable[[str], Role | None], where: object
) -> tuple[list[Named], tuple[str, ...]]:
    """Bring together the tensors of each module.

    Parameters
    ----------
    keys : of all tensors.
    role_of : what a key is, ``None`` where it is no part of a low-rank update.
    where : the file, for messages.

    Returns
    -------
    found : in natural order of the modules.
    carried : keys that are part of none, in natural order.

    Raises
    ------
    AdapterError
        A factor without its partner, one stored twice, or a name that looks like a factor's and has another form.

    >>> role = {"q.down": ("q", "A"), "q.up": ("q", "B"), "q.alpha": ("q", "alpha")}.get
    >>> collect(["q.up", "q.alpha", "q.down", "norm"], role, "lora.safetensors")
    ([Named(module='q', A='q.down', B='q.up', mid=None, alpha='q.alpha')], ('norm',))
    """
    parts: dict[str, dict[str, str]] = {}
    carried: list[str] = []
    for key in keys:
        role = role_of(key)
        if role is None:
            if "lora" in key and LIKE_A_FACTOR.search(key) and not NO_FACTOR.search(key):
                raise AdapterError(f"{where}: {key}", "looks like a LoRA factor, but its name has no known form")
            carried.append(key)
            continue
        module, part = WRAPPER.sub("", role[0]), role[1]
        sides = parts.setdefault(module, {})
        if part in sides:
            raise AdapterError(f"{where}: {key}", f"the same tensor of {module} is stored as {sides[part]} too")
        sides[part] = key
    found = []
    for module, sides in parts.items():
        if "A" in sides and "B" in sides:
            found.append(Named(module, sides["A"], sides["B"], sides.get("mid"), sides.get("alpha")))
        elif set(sides) == {"alpha"}:
            carried.append(sides["alpha"])
        else:
            key = sides.get("A") or sides.get("B") or next(key for part, key in sides.items() if part != "alpha")
            raise AdapterError(
                f"{where}: {key}",
                "a factor without its partner",
                why="the update needs both"
                + ("" if any({"A", "B"} <= one.keys() for one in parts.values()) else WHOLE),
                do="download the file again, or save it again",
            )
    found.sort(key=lambda one: natural_order(one.module))
    return found, tuple(sorted(carried, key=natural_order))
