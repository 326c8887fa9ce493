"""Held-out loss document by document, and the second moments inside the adapter (floor 2, torch).

Both come from the same passes over the held-out rows. A hook on each ``lora_A`` sees ``h = lora_A·x`` on the way
forward, and on the way back the gradient of the loss in ``h``, which is ``scaling · lora_Bᵀ·g`` for the gradient ``g``
in the layer's output. Their r×r second moments are ``lora_A·C·lora_Aᵀ`` and, over scaling², ``lora_Bᵀ·G·lora_B``:
nothing of size d×d is ever formed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from torch.nn import functional

from lorarank.corpus import Rows
from lorarank.probe.model import ADAPTER, lora_layers
from lorarank.probe.target_tokens import IGNORED, at_targets, can_narrow


@dataclass(frozen=True)
class DocumentLosses:
    """Loss totals per held-out document.

    ``sums`` (documents,) float64 nats, ``counts`` (documents,) int64 target tokens; documents in the order of the
    rows' ``document`` indices.
    """

    sums: NDArray[np.float64]
    counts: NDArray[np.int64]


@dataclass
class Moments:
    """Sums of h·hᵀ and δ·δᵀ per module, float64 on the CPU, and how many tokens went into each."""

    gram_A: dict[str, torch.Tensor] = field(default_factory=dict)
    gram_B: dict[str, torch.Tensor] = field(default_factory=dict)
    tokens_A: int = 0
    tokens_B: int = 0

    def arrays(self) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Module → (gram_A, gram_B), each (r, r) and a mean over its tokens."""
        return {
            name: (
                (gram / max(self.tokens_A, 1)).numpy(),
                (self.gram_B[name] / max(self.tokens_B, 1)).numpy(),
            )
            for name, gram in self.gram_A.items()
        }


def batch_of(rows: Rows, index: slice, device: torch.device) -> dict[str, torch.Tensor]:
    """Model inputs of some rows: ``input_ids``, ``position_ids`` and ``labels`` (rows, length), int64.

    There is no attention mask: positions that start again at 0 tell the model where a document begins, and it lets
    no token look across (see :func:`packing_is_exact`).
    """
    ids = torch.from_numpy(rows.input_ids[index].astype(np.int64))
    labels = torch.where(torch.from_numpy(rows.loss_mask[index]), ids, torch.tensor(IGNORED))
    positions = torch.from_numpy(rows.position_ids[index].astype(np.int64))
    return {k: v.to(device) for k, v in (("input_ids", ids), ("position_ids", positions), ("labels", labels))}


def token_losses(
    model: Any, batch: dict[str, torch.Tensor], dtype: torch.dtype, *, narrow: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of every target token of the batch (targets,) float32, and where they are, (rows, length − 1) bool.

    ``narrow`` says that the model can compute the logits of those alone, see :mod:`lorarank.probe.target_tokens`.
    """
    device = batch["input_ids"].device
    labels = batch["labels"][:, 1:]
    where = labels != IGNORED
    inputs = {"input_ids": batch["input_ids"], "position_ids": batch["position_ids"], "use_cache": False}
    kept = torch.arange(labels.shape[1], device=device)
    if narrow:
        kept = inputs["logits_to_keep"] = at_targets(batch)["logits_to_keep"]
    with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        logits = model(**inputs).logits
    # only the target positions are upcast: at 49k to 256k words the logits are the largest thing in memory
    logits = logits[:, : len(kept)][where[:, kept]].float()
    return functional.cross_entropy(logits, labels[where], reduction="none"), where


def evaluate(
    model: PeftModel,
    rows: Rows,
    *,
    documents: int,
    rows_at_once: int,
    dtype: torch.dtype,
    moments: Moments | None = None,
    gradient_tokens: int = 0,
    tick: Callable[[int], None] = lambda rows_done: None,
) -> DocumentLosses:
    """Loss totals of every document in ``rows``; with ``moments`` also the second moments.

    Parameters
    ----------
    model : the adapted model; its adapter as it is.
    rows : held-out rows, in one piece or packed.
    documents : how many documents ``rows.document`` counts.
    rows_at_once : rows in one forward pass.
    dtype : autocast dtype; float32 switches autocast off.
    moments : filled in place where given.
    gradient_tokens : the first so many tokens also get a backward pass, for ``gram_B``.
    tick : called with the rows done so far.
    """
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    sums, counts = np.zeros(documents), np.zeros(documents, dtype=np.int64)
    watch = _Watch(model, moments) if moments is not None else None
    narrow = can_narrow(model)
    seen = 0
    try:
        with watch if watch is not None else contextlib.nullcontext():
            for start in range(0, len(rows.input_ids), rows_at_once):
                index = slice(start, min(start + rows_at_once, len(rows.input_ids)))
                batch = batch_of(rows, index, device)
                backward = watch is not None and seen < gradient_tokens
                if watch is not None:
                    watch.begin(torch.from_numpy(rows.document[index] >= 0).to(device), backward)
                with torch.set_grad_enabled(backward):
                    losses, where = token_losses(model, batch, dtype, narrow=narrow)
                if backward:
                    losses.sum().backward()
                    model.zero_grad(set_to_none=True)
                document = rows.document[index][:, 1:][where.cpu().numpy()]
                np.add.at(sums, document, losses.detach().cpu().double().numpy())
                np.add.at(counts, document, 1)
                seen += int((rows.document[index] >= 0).sum())
                tick(index.stop)
    finally:
        model.train(training)
    return DocumentLosses(sums, counts)


class _Watch:
    """Hooks on every ``lora_A`` that add to a :class:`Moments` while the block lasts."""

    def __init__(self, model: PeftModel, moments: Moments) -> None:
        self.layers, self.moments = lora_layers(model), moments
        self.real = torch.empty(0, dtype=torch.bool)
        self.backward = False
        self.handles: list[Any] = []

    def begin(self, real: torch.Tensor, backward: bool) -> None:
        """Tell which positions of the coming batch are tokens, and whether a backward pass follows."""
        self.real, self.backward = real, backward
        count = int(real.sum())
        self.moments.tokens_A += count
        self.moments.tokens_B += count if backward else 0

    def __enter__(self) -> None:
        for name, layer in self.layers.items():
            self.handles.append(layer.lora_A[ADAPTER].register_forward_hook(self._hook(name, layer)))

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()

    def _hook(self, name: str, layer: Any) -> Callable[..., None]:
        scaling = float(layer.scaling[ADAPTER])

        def seen(_module: Any, _inputs: Any, hidden: torch.Tensor) -> None:
            _add(self.moments.gram_A, name, self._tokens(hidden.detach()))
            if self.backward and hidden.requires_grad:
                hidden.register_hook(  # type: ignore[no-untyped-call,unused-ignore]
                    lambda g: _add(self.moments.gram_B, name, self._tokens(g) / scaling)
                )

        return seen

    def _tokens(self, values: torch.Tensor) -> torch.Tensor:
        """(tokens, r) of the real tokens, float32; experts may have flattened or routed the batch."""
        values = values.float().reshape(-1, values.shape[-1])
        if len(values) != self.real.numel():
            return values
        return values[self.real.reshape(-1).to(values.device)]  # a base in 4 bits may lie on several GPUs


def _add(grams: dict[str, torch.Tensor], name: str, values: torch.Tensor) -> None:
    gram = (values.T @ values).cpu().double()  # in this order: not every device has float64
    grams[name] = grams[name] + gram if name in grams else gram


LEAK_SHARE = 0.1
"""Documents in one row count as kept apart when what the first one changes is under this share of what it changes where
nothing keeps them apart. Rounding alone was .045 at most, in SmolLM2-135M in bfloat16; without the mask it is 1.
What less goes over :func:`lorarank.probe.causality.looks_back` sees."""


@torch.no_grad()
def packing_is_exact(model: Any, dtype: torch.dtype) -> bool:
    """Whether the model keeps documents in one row apart when positions start again at 0.

    Compares the logits of a short document alone, behind another one in the same row, and behind it as its
    continuation. Architectures without such a mask (state-space layers, older code) get one document per row instead.
    """
    device = next(model.parameters()).device
    words = int(model.config.get_text_config().vocab_size)
    first, second = (torch.arange(a, a + 12, device=device) * 7919 % words for a in (3, 40))
    short, long = torch.arange(12, device=device), torch.arange(24, device=device)

    def logits(ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            out = model(input_ids=ids[None], position_ids=positions[None], use_cache=False).logits[0, -12:]
        return cast(torch.Tensor, out.float())

    training = model.training
    model.eval()
    alone, row = logits(second, short), torch.cat([first, second])
    apart = logits(row, torch.cat([short, short])) - alone
    continued = logits(row, long) - alone
    model.train(training)
    return bool(apart.norm() <= LEAK_SHARE * continued.norm())
