"""Logits at the target tokens alone (floor 2, torch).

With prompts that carry no loss, or a vocabulary of hundreds of thousands of words, the head is much of a step's time
and most of its memory, and most of that for positions that nobody looks at.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch

IGNORED = -100
"""The label that carries no loss, as in torch and transformers."""

TOLERANCE = 2e-3
"""By how much the two ways to one loss may differ, as a share of it: the rounding of bf16, and nothing else."""


def at_targets(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The batch with the keywords that make transformers' causal models compute the head and the loss of those
    positions alone that are a target in any of its rows.

    ``labels`` and ``shift_labels`` (rows, positions) int64 are the labels of ``logits_to_keep`` (positions,) int64;
    ``shift_labels`` says to the loss that they are shifted already.

    >>> batch = {"input_ids": torch.tensor([[5, 6, 7]]), "labels": torch.tensor([[-100, -100, 7]])}
    >>> narrow = at_targets(batch)
    >>> narrow["logits_to_keep"], narrow["shift_labels"]
    (tensor([1]), tensor([[7]]))
    """
    following = batch["labels"][:, 1:]
    positions = (following != IGNORED).any(dim=0).nonzero()[:, 0]
    labels = following[:, positions]
    return {**batch, "labels": labels, "shift_labels": labels, "logits_to_keep": positions}


@torch.no_grad()
def can_narrow(model: Any) -> bool:
    """Whether the model takes the keywords of :func:`at_targets` and gives the same loss with them.

    Models of transformers do; one with code of its own may not know them, or may shift the labels once more.
    """
    base = getattr(model, "get_base_model", lambda: model)()
    if len(set((getattr(base, "hf_device_map", None) or {}).values())) > 1:
        return False  # what says which positions to keep would be on one GPU, and the positions on another
    parameters = inspect.signature(base.forward).parameters
    if "logits_to_keep" not in parameters or all(p.kind is not p.VAR_KEYWORD for p in parameters.values()):
        return False
    words = int(model.config.get_text_config().vocab_size)
    ids = (torch.arange(16, device=next(model.parameters()).device) * 7919 % words)[None]
    training = model.training
    model.eval()
    # the words that the model expects: labels that are a place off then show even on a model that knows nothing yet
    labels = torch.full_like(ids, IGNORED)
    labels[:, 1::3] = model(input_ids=ids, use_cache=False).logits.argmax(dim=-1)[:, :-1:3]
    batch = {"input_ids": ids, "labels": labels}
    whole, narrow = (float(model(**inputs, use_cache=False).loss) for inputs in (batch, at_targets(batch)))
    model.train(training)
    return abs(whole - narrow) <= TOLERANCE * abs(whole)
