"""What the loaded model's own outputs say before anything is trained on it (floor 2, torch)."""

from __future__ import annotations

from typing import Any

import torch

from lorarank.errors import ModelError
from lorarank.probe.heldout import packing_is_exact

TOKENS = 24
"""Long enough for several blocks of anything that looks at neighbours, short enough to cost nothing."""

NOTHING = 1e-6
"""Share of the gradient that would still be none. It is 0 where positions are masked, and was .007 to .012 in encoders
of random weights, which look about the least."""


def packing(model: Any, dtype: torch.dtype, source: str) -> bool:
    """Whether several documents may share a row, of a model that predicts each token from those before it.

    Raises
    ------
    ModelError
        It also looks at those after it, so that no loss it is probed with would mean anything.
    """
    if looks_ahead(model, dtype):
        raise ModelError(
            source,
            "it is not causal: its logits at a position depend on the tokens after it",
            why="it would see the very tokens that it has to predict",
            do="give a causal language model; BERT and its kin are one with is_decoder: true in config.json",
        )
    return packing_is_exact(model, dtype)


def looks_ahead(model: Any, dtype: torch.dtype) -> bool:
    """Whether logits depend on later tokens: the gradient of the first half's in the second half's embeddings.

    A mask makes that gradient exactly 0, in any precision. Logits with another second half would have to be compared up
    to rounding, which in bfloat16, where experts share their batch, is as much as what an encoder sees of one token.
    A model whose embeddings cannot be followed to its logits is taken for causal.
    """
    embedding = model.get_input_embeddings()
    device = next(model.parameters()).device
    words = int(model.config.get_text_config().vocab_size)
    ids = (torch.arange(TOKENS, device=device) * 7919 % words)[None]
    embedded: list[torch.Tensor] = []

    def follow(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[-1].clone()  # some models scale it in place

    training = model.training
    model.eval()
    handle = embedding.register_forward_hook(follow)
    try:
        with torch.enable_grad(), torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            logits = model(input_ids=ids, use_cache=False).logits
        first = logits[0, : TOKENS // 2].float().logsumexp(dim=-1).sum()
        if not embedded or not first.requires_grad:
            return False
        (gradient,) = torch.autograd.grad(first, embedded[0], allow_unused=True)
    finally:
        handle.remove()
        model.train(training)
    if gradient is None:
        return False
    later = gradient.reshape(TOKENS, -1)[TOKENS // 2 :]  # in XLNet the batch, which is of one, comes second
    return bool(later.abs().sum() > NOTHING * gradient.abs().sum())
