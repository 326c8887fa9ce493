"""What the writers of adapter formats take: new factors in the place of a module's old ones (floor 1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from lorarank.adapters.adapter import Adapter, Factors, LoraModule
from lorarank.errors import AdapterError


@dataclass(frozen=True)
class Replacement:
    """The low-rank update to be written for a module: ΔW = ``scaling * lora_B @ lora_A``.

    Attributes
    ----------
    module : whose update it is; name, kind and shape stay.
    r : rows of the new ``lora_A``; at least 1.
    scaling : what the product is multiplied by.
    dtypes : what ``lora_A`` and ``lora_B`` are stored as, e.g. ``("bfloat16", "bfloat16")``.
    read : gives ``lora_A`` (r, in) and ``lora_B`` (out, r), float64, computed at that moment.
    plain : whether two ordinary factors are asked for, even where nothing of it changes.
    baked : whether its scaling was to be multiplied into the factors, even where that was 1.

    >>> module = LoraModule("q", "linear", 2, 3, 2, 0.5, "float32", 10, ("a", "b"), read=lambda: (None, None))
    >>> Replacement(module, 1, 0.5, ("float32", "float32"), lambda: (np.ones((1, 3)), np.ones((2, 1)))).changed
    True
    """

    module: LoraModule
    r: int
    scaling: float
    dtypes: tuple[str, str]
    read: Callable[[], Factors] = field(repr=False, compare=False)
    plain: bool = False
    baked: bool = False

    @property
    def changed(self) -> bool:
        """Whether anything but the names of the tensors will differ from what is stored."""
        return (self.r, self.scaling, self.dtypes) != (self.module.r, self.module.scaling, stored_dtypes(self.module))


def stored_dtypes(module: LoraModule) -> tuple[str, str]:
    """Stored dtypes of ``lora_A`` and ``lora_B``.

    >>> module = LoraModule("q", "linear", 1, 3, 2, 0.5, "float32, float16", 5, ("a", "b"), read=lambda: (None, None))
    >>> stored_dtypes(module)
    ('float32', 'float16')
    """
    names = module.dtype.split(", ")
    return names[0], names[-1]


def is_plain(adapter: Adapter, module: LoraModule) -> bool:
    """Whether two ordinary factors can stand in the place of the stored ones. A grouped convolution or a fused
    projection of old PEFT stores ``lora_B`` without its zeros: its groups have columns of their own, and no other
    factors fit in there. A convolution in Tucker form becomes an ordinary one: its core goes into ``lora_A``.

    >>> module = LoraModule("c", "conv2d", 4, 36, 8, 1.0, "float32", 160, ("a", "b"), read=lambda: (None, None))
    >>> is_plain(Adapter("in", "peft", None, {}, (module,)), module)
    False
    """
    if core(adapter, module) is not None:
        return True
    return module.parameters == module.r * (module.in_features + module.out_features)


def core_key(adapter: Adapter, module: LoraModule) -> str | None:
    """Name of the core between the factors of a convolution in Tucker form (kohya's ``lora_mid``), where it has one."""
    key = module.keys[0].replace(".lora_down.", ".lora_mid.")
    return None if adapter.store is None or key == module.keys[0] or key not in adapter.store.tensors else key


def core(adapter: Adapter, module: LoraModule) -> tuple[int, ...] | None:
    """Shape of that core."""
    key = core_key(adapter, module)
    return None if key is None or adapter.store is None else adapter.store.tensors[key].shape


def kernel(adapter: Adapter, module: LoraModule) -> tuple[int, ...]:
    """What stands behind the first axis of the stored ``lora_A``: ``(in,)``, or ``(channels, height, width)``.

    Raises
    ------
    AdapterError
        A convolution whose stored shape is not known.
    """
    if not module.kind.startswith("conv"):
        return (module.in_features,)
    if adapter.store is None:
        raise AdapterError(f"{adapter.source}: {module.name}", "the kernel of this convolution is not known")
    channels, *window = adapter.store.tensors[module.keys[0]].shape[1:]
    between = core(adapter, module)
    return (channels, *(window if between is None else between[2:]))


def stacks(replacements: Sequence[Replacement]) -> list[list[Replacement]]:
    """Replacements that share their tensors, as the experts of a stack do, together; in the order of the first."""
    found: dict[str | tuple[str, str], list[Replacement]] = {}
    for one in replacements:
        found.setdefault(shared_by(one.module), []).append(one)
    return list(found.values())


def shared_by(module: LoraModule) -> str | tuple[str, str]:
    """What the experts of a stack have in common, their tensors; of any other module its name."""
    return module.name if module.expert is None else module.keys


def stacked(experts: Sequence[Replacement]) -> Factors:
    """The factors of a stack in one pair: ``lora_A`` (E·r, in), an expert's rows together, ``lora_B`` (out, r·E), an
    expert's columns E apart; of a single module its own.

    >>> module = LoraModule("q", "linear", 1, 1, 1, 1.0, "float32", 2, ("a", "b"), read=lambda: (None, None))
    >>> pair = [Replacement(module, 2, 1.0, ("float32",) * 2, lambda x=x: (np.full((2, 1), x), np.full((1, 2), x)))
    ...         for x in (1.0, 2.0)]
    >>> [factor.ravel().tolist() for factor in stacked(pair)]
    [[1.0, 1.0, 2.0, 2.0], [1.0, 2.0, 1.0, 2.0]]
    """
    if len(experts) == 1:
        return experts[0].read()
    module, r, count = experts[0].module, experts[0].r, len(experts)
    lora_A, lora_B = np.empty((count * r, module.in_features)), np.empty((module.out_features, r * count))
    for index, expert in enumerate(experts):
        lora_A[index * r : (index + 1) * r], lora_B[:, index::count] = expert.read()
    return lora_A, lora_B
