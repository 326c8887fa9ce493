"""Which modules of a base model get an adapter, and which are left out and why (floor 2, torch)."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from lorarank.errors import ModelError, OptionError, printable
from lorarank.layer_kinds import loaded_stack
from lorarank.module_names import TARGET_SETS, module_type, peft_refuses
from lorarank.probe.options import ProbeOptions

SMALL_SHARE = 0.05
"""What a target set may lack for want of room for the rank, as a share of the numbers in its matrices. Gates and
routers, which map to one number or a few, are far below it; key and value projections are above it, and an answer
without them would be none to the question that was asked."""

TRACE_TOKENS = 24
"""Tokens that are traced through a model without weights."""

Shapes = Mapping[str, tuple[int, int]]
"""Path → (out, in) of linear modules."""


@dataclass(frozen=True)
class Aim:
    """What ``--target`` means in one model.

    Attributes
    ----------
    shapes : path → (out, in) of the modules that get an adapter, in the model's order.
    named : whether they were given by name; what lacks room for the rank is then not left out.
    notes : sentences on what is left out.
    """

    shapes: dict[str, tuple[int, int]]
    named: bool = False
    notes: tuple[str, ...] = ()

    @property
    def tightest(self) -> tuple[str, tuple[int, int]]:
        """The module that says how high a rank can be: the smallest that is not left out for want of room.

        >>> Aim({"q_proj": (64, 64), "k_proj": (16, 64), "gate": (1, 64)}).tightest
        ('k_proj', (16, 64))
        """
        ordered = sorted(self.shapes.items(), key=lambda item: min(item[1]))
        spare = 0.0 if self.named else SMALL_SHARE * sum(out * inner for out, inner in self.shapes.values())
        for name, shape in ordered:
            spare -= shape[0] * shape[1]
            if spare < 0:
                return name, shape
        return ordered[-1]

    def fitting(self, rank: int) -> Aim:
        """Without what has no room for the rank, where that is little.

        Raises
        ------
        OptionError
            It is more than little.
        """
        name, shape = self.tightest
        if rank > min(shape):
            raise OptionError(
                f"--rank {rank}",
                f"{printable(name)} is {shape[0]}×{shape[1]}, so no update of it has a rank above {min(shape)}",
                do=f"give --rank {min(shape)} or less, or leave this module out with --target",
            )
        return self.without([n for n, s in self.shapes.items() if rank > min(s)], f"they have no room for r = {rank}")

    def without(self, names: Collection[str], why: str) -> Aim:
        """Without some modules, and a note that says so.

        >>> Aim({"h.0.q": (8, 8), "h.0.gate": (1, 8)}).without(["h.0.gate"], "they have no room for r = 2").notes
        ('Left out, since they have no room for r = 2: gate (h.0.gate, 1×8).',)
        """
        if not names:
            return self
        gone = {name: shape for name, shape in self.shapes.items() if name in names}
        types = ", ".join(sorted(set(map(module_type, gone))))
        first, (out, inner) = next(iter(gone.items()))
        more = f", {out}×{inner}, the first of {len(gone)}" if len(gone) > 1 else f", {out}×{inner}"
        note = f"Left out, since {why}: {printable(types)} ({printable(first)}{more})."
        kept = {name: shape for name, shape in self.shapes.items() if name not in names}
        return dataclasses.replace(self, shapes=kept, notes=(*self.notes, note))


def resolve_targets(model: Any, options: ProbeOptions) -> Aim:
    """The modules that ``--target`` means and that the rank fits.

    Raises
    ------
    ModelError
        Nothing matches: the message lists the names there are.
    OptionError
        The rank is above the smallest dimension of a module, or PEFT refuses one that was named.
    """
    return aim_at(model, options.target).fitting(options.rank)


def aim_at(model: Any, target: str) -> Aim:
    """The modules that ``--target`` means, whatever the rank.

    Target sets leave out what PEFT refuses. What text never reaches is left out even where it was named: two towers of
    a model often share their names, and an adapter that no gradient reaches would count among the parameters and be
    exported with the others.

    Parameters
    ----------
    model : the model on the meta device, see :func:`reached`.
    target : as in :class:`~lorarank.probe.options.ProbeOptions`.

    Raises
    ------
    ModelError, OptionError
        See :func:`resolve_targets`.
    """
    linear, named = linear_modules(model), target not in TARGET_SETS
    found = Aim(_named(linear, target) if named else {n: s for n, s in linear.items() if TARGET_SETS[target](n)}, named)
    refused = [name for name in found.shapes if peft_refuses(module_type(name), str(model.config.model_type))]
    if named and refused:
        raise OptionError(
            f"--target {module_type(refused[0])}",
            "PEFT refuses it in Mamba models, whose kernels read its weight past any adapter",
            do="leave it out, or give --target all-linear, which does",
        )
    found = found.without(refused, "PEFT refuses them in Mamba models")
    through = reached(model)
    if through is not None:
        found = found.without([name for name in found.shapes if name not in through], "text does not go through them")
    if not found.shapes:
        raise _no_target(f"no linear module that text goes through matches {target}", linear)
    notes = _experts(model) if target == "all-linear" else ()
    return dataclasses.replace(found, notes=(*found.notes, *notes))


def _named(linear: Shapes, target: str) -> dict[str, tuple[int, int]]:
    """The modules with the names in ``target``, which may be last parts of paths or whole ones."""
    wanted = {name.strip() for name in target.split(",") if name.strip()}
    chosen = {n: s for n, s in linear.items() if module_type(n) in wanted or n in wanted}
    missing = wanted - {module_type(n) for n in chosen} - set(chosen)
    if missing:
        what = "is not a linear module" if len(missing) == 1 else "are not linear modules"
        raise _no_target(f"{', '.join(sorted(missing))} {what}", linear)
    return chosen


def linear_modules(model: Any) -> dict[str, tuple[int, int]]:
    """Path → (out, in) of every linear module except the output embedding, in the model's order."""
    head = model.get_output_embeddings()
    found = {}
    for name, module in model.named_modules():
        if module is head:
            continue
        if isinstance(module, nn.Linear):
            found[name] = (module.out_features, module.in_features)
        elif isinstance(module, Conv1D):
            found[name] = (module.weight.shape[1], module.weight.shape[0])
    return found


@torch.no_grad()
def reached(model: Any) -> set[str] | None:
    """Paths of the linear modules that a row of text is passed through; ``None`` where that cannot be traced.

    Only such a module has an adapter that learns: those of a vision tower are not called, nor is ``dt_proj`` of Mamba,
    whose weight is read without calling it. Shapes alone are computed, on the meta device: with weights, experts that
    were not chosen for this row would seem to be out of reach.
    """
    if any(parameter.device.type != "meta" for parameter in model.parameters()):
        return None
    ids = torch.zeros((1, TRACE_TOKENS), dtype=torch.int64, device="meta")
    # most models look into the values of a mask that they make themselves; some take none of four dimensions
    mask = torch.zeros((1, 1, TRACE_TOKENS, TRACE_TOKENS), dtype=torch.bfloat16, device="meta")
    for how in ({"attention_mask": mask, "position_ids": ids}, {}):
        with contextlib.suppress(Exception):  # whatever a model's code makes of values that are not there
            return _called(model, input_ids=ids, use_cache=False, **how)
    return None


def _called(model: Any, **inputs: Any) -> set[str]:
    """Paths of the linear modules that are called where the model is."""
    called: set[str] = set()
    handles = [
        module.register_forward_hook(lambda *_, name=name: called.add(name))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
    ]
    try:
        model(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    return called


def target_names(model: nn.Module, chosen: Collection[str]) -> tuple[str, ...]:
    """Names for ``LoraConfig.target_modules`` that hit exactly ``chosen``: their types where these do, else paths."""
    types = sorted(set(map(module_type, chosen)))
    hit = {n for n, _ in model.named_modules() if any(n == x or n.endswith(f".{x}") for x in types)}
    return tuple(types) if hit == set(chosen) else tuple(chosen)


def _experts(model: Any) -> tuple[str, ...]:
    """A note where experts are stacked in parameters, which are no modules to put an adapter on."""
    stacked = {
        name: parameter.numel() for name, parameter in model.named_parameters() if loaded_stack(name, parameter.dim())
    }
    if not stacked:
        return ()
    share = sum(stacked.values()) / sum(parameter.numel() for parameter in model.parameters())
    return (
        f"Its experts are stacked in parameters ({printable(next(iter(stacked)))}, the first of {len(stacked)}), "
        f"{share:.0%} of the model: a probe adapts linear modules, and what it finds says nothing of them.",
    )


def _no_target(what: str, linear: Shapes) -> ModelError:
    names = ", ".join(sorted({module_type(name) for name in linear})) or "none at all"
    return ModelError("--target", f"{what} of this model", do=f"choose among: {names}")
