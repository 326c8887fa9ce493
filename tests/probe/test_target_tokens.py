"""The loss and its gradients of target tokens alone are those of all tokens, on whatever model takes the keywords."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import nn

from lorarank.probe.target_tokens import IGNORED, at_targets, can_narrow

SMALL: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
CONFIGS = {
    "llama": lambda: transformers.LlamaConfig(**SMALL),
    "gemma3": lambda: transformers.Gemma3TextConfig(**SMALL, head_dim=16),
    "gpt2": lambda: transformers.GPT2Config(vocab_size=97, n_embd=32, n_layer=1, n_head=2, bos_token_id=0),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2
    ),
    "mixtral": lambda: transformers.MixtralConfig(**SMALL, num_local_experts=2),
}


def built(name: str) -> Any:
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(CONFIGS[name]())


def batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(0, 97, (2, 12), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    labels[0, :7] = IGNORED
    labels[1, :9] = IGNORED
    labels[1, 11] = IGNORED
    return {"input_ids": ids, "labels": labels}


def gradients(model: Any, inputs: dict[str, torch.Tensor]) -> tuple[float, torch.Tensor]:
    model.zero_grad()
    loss = model(**inputs, use_cache=False).loss
    loss.backward()
    return float(loss.detach()), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("name", CONFIGS)
def test_loss_and_gradients_are_the_same(name: str) -> None:
    model = built(name).eval()
    assert can_narrow(model)
    narrow = at_targets(batch())
    assert narrow["logits_to_keep"].tolist() == [6, 7, 8, 9, 10]
    assert model(**narrow, use_cache=False).logits.shape[1] == 5
    whole_loss, whole = gradients(model, batch())
    narrow_loss, found = gradients(model, narrow)
    assert narrow_loss == pytest.approx(whole_loss, rel=1e-6)
    assert (found - whole).norm() < 1e-5 * whole.norm()


class Shifting(nn.Module):
    """A model with code of its own that takes the keywords and shifts the labels all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = built("llama")
        self.config = self.inner.config

    def forward(self, input_ids: torch.Tensor, labels: Any = None, logits_to_keep: Any = 0, **others: Any) -> Any:
        others.pop("shift_labels", None)
        return self.inner(input_ids=input_ids, labels=labels, logits_to_keep=logits_to_keep, **others)


class Plain(nn.Module):
    """A model that knows neither keyword."""

    def forward(self, input_ids: torch.Tensor, labels: Any = None) -> None:
        raise AssertionError("it is not to be called")


def test_a_model_that_would_go_wrong_is_not_narrowed() -> None:
    assert not can_narrow(Shifting())
    assert not can_narrow(Plain())


def test_a_model_on_several_gpus_is_not_narrowed() -> None:
    model = built("llama")
    model.hf_device_map = {"model.embed_tokens": 0, "model.layers.0": 0, "lm_head": 0}
    assert can_narrow(model)
    model.hf_device_map["model.layers.0"] = 1
    assert not can_narrow(model)


def test_a_batch_without_targets_keeps_no_position() -> None:
    ids = torch.arange(6)[None]
    narrow = at_targets({"input_ids": ids, "labels": torch.full_like(ids, IGNORED)})
    assert narrow["logits_to_keep"].shape == (0,)
    assert narrow["labels"].shape == (1, 0)
