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
    return packing_is_exact(model, dtype) and not looks_back(model, dtype)


def looks_ahead(model: Any, dtype: torch.dtype) -> bool:
    """Whether logits depend on later tokens: the gradient of the first half's in the second half's embeddings.

    A mask makes that gradient exactly 0, in any precision. Logits with another second half would have to be compared up
    to rounding, which in bfloat16, where experts share their batch, is as much as what an encoder sees of one token.
    A model whose embeddings cannot be followed to its logits is taken for causal.
    """
    first, second = _gradient(model, dtype, slice(0, TOKENS // 2))
    return second > NOTHING * (first + second)


def looks_back(model: Any, dtype: torch.dtype) -> bool:
    """Whether a document's logits depend on the one before it in its row, where positions start again at 0.

    By the same gradient, which is as exact: 0 in nine kinds of dense models and of experts, and in SmolLM2-135M, in
    float32 and bfloat16, and .0007 to .0013 in LFM2 and Falcon-H1 of random weights, whose convolutions and states run
    on. By logits these change .0005 to .012 of what a continuation does, and SmolLM2 .045 by rounding to bfloat16.
    """
    positions = torch.arange(TOKENS) % (TOKENS // 2)
    first, second = _gradient(model, dtype, slice(TOKENS // 2, TOKENS), positions)
    return first > NOTHING * (first + second)


def _gradient(
    model: Any, dtype: torch.dtype, half: slice, positions: torch.Tensor | None = None
) -> tuple[float, float]:
    """How much the logits of one ``half`` of a row depend on the embeddings of its first and of its second half.

    Sums of absolute values; 0 both where embeddings cannot be followed to the logits. ``positions`` (TOKENS,), where
    they are given.
    """
    embedding = model.get_input_embeddings()
    device = next(model.parameters()).device
    words = int(model.config.get_text_config().vocab_size)
    ids = (torch.arange(TOKENS, device=device) * 7919 % words)[None]
    given = {} if positions is None else {"position_ids": positions.to(device)[None]}
    embedded: list[torch.Tensor] = []

    def follow(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[-1].clone()  # some models scale it in place

    training = model.training
    model.eval()
    handle = embedding.register_forward_hook(follow)
    try:
        with torch.enable_grad(), torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            logits = model(input_ids=ids, use_cache=False, **given).logits
        seen = logits[0, half].float().logsumexp(dim=-1).sum()
        if not embedded or not seen.requires_grad:
            return 0.0, 0.0
        (gradient,) = torch.autograd.grad(seen, embedded[0], allow_unused=True)
    finally:
        handle.remove()
        model.train(training)
    if gradient is None:
        return 0.0, 0.0
    first, second = gradient.reshape(TOKENS, -1).abs().split(TOKENS // 2)  # in XLNet the batch, of one, comes second
    return float(first.sum()), float(second.sum())
