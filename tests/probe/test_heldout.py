"""Held-out losses and moments against the plain way of computing them, one document at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from transformers import AutoTokenizer, MambaConfig, MambaForCausalLM

from lorarank import corpus
from lorarank.probe import model as models
from lorarank.probe.cut import truncated
from lorarank.probe.heldout import Moments, evaluate, packing_is_exact
from lorarank.probe.options import ProbeOptions

F32 = torch.float32
ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.fixture
def adapted(tiny_model: Path) -> PeftModel:
    options = ProbeOptions(str(tiny_model), "x", Path("y"), rank=4, alpha=8)
    base = models.load_base(tiny_model, options, torch.device("cpu"), F32)
    model = models.attach_adapter(base, options, ALL_LINEAR)
    torch.manual_seed(1)
    for layer in models.lora_layers(model).values():
        torch.nn.init.normal_(layer.lora_B["default"].weight, std=0.1)
    return model


@pytest.fixture
def documents(tiny_model: Path, tiny_data: Path) -> tuple[corpus.TokenDocument, ...]:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    return corpus.tokenize(corpus.read(tiny_data).documents[:15], tokenizer, max_length=64).documents


def losses_alone(model: PeftModel, document: corpus.TokenDocument) -> torch.Tensor:
    ids = torch.from_numpy(document.input_ids.astype(np.int64))[None]
    logits = model(input_ids=ids).logits[0, :-1]
    mask = torch.from_numpy(document.loss_mask[1:])
    return functional.cross_entropy(logits[mask], ids[0, 1:][mask], reduction="none")


@pytest.mark.parametrize("packed", [True, False])
def test_losses_are_those_of_each_document_alone(
    adapted: PeftModel, documents: tuple[corpus.TokenDocument, ...], packed: bool
) -> None:
    rows = corpus.pack(documents, row_length=64, seed=3, packed=packed)
    assert (len(rows.input_ids) < len(documents)) == packed
    found = evaluate(adapted, rows, documents=len(documents), rows_at_once=2, dtype=F32)
    adapted.eval()
    for at, document in enumerate(documents):
        alone = losses_alone(adapted, document)
        assert found.counts[at] == len(alone)
        assert found.sums[at] == pytest.approx(float(alone.detach().sum()), rel=1e-5)


class WithoutFloat64(TorchFunctionMode):
    """Values become float64 after they were fetched to the CPU alone: Apple's GPUs have no such type."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[torch.Tensor] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.double:
            assert any(args[0] is one for one in self.fetched), "float64 on the device"
        result = func(*args, **(kwargs or {}))
        if func is torch.Tensor.cpu:
            self.fetched.append(result)
        return result


def test_nothing_is_float64_on_the_device(adapted: PeftModel, documents: tuple[corpus.TokenDocument, ...]) -> None:
    rows, moments = corpus.pack(documents, row_length=64, seed=3), Moments()
    with WithoutFloat64() as watched:
        evaluate(adapted, rows, documents=15, rows_at_once=4, dtype=F32, moments=moments, gradient_tokens=10**9)
    assert len(watched.fetched) > len(moments.gram_A) > 0  # each on the way forward, and the losses


def test_moments_are_those_of_inputs_and_output_gradients(
    adapted: PeftModel, documents: tuple[corpus.TokenDocument, ...]
) -> None:
    moments = Moments()
    rows = corpus.pack(documents, row_length=64, seed=3)
    evaluate(adapted, rows, documents=len(documents), rows_at_once=1, dtype=F32, moments=moments, gradient_tokens=10**9)
    layers = models.lora_layers(adapted)
    inputs: dict[str, list[torch.Tensor]] = {name: [] for name in layers}
    outputs: dict[str, list[torch.Tensor]] = {name: [] for name in layers}

    def remember(name: str):
        def hook(_module, given, output) -> None:
            inputs[name].append(given[0].detach()[0])
            output.register_hook(lambda gradient: outputs[name].append(gradient[0]))

        return hook

    handles = [layer.register_forward_hook(remember(name)) for name, layer in layers.items()]
    adapted.eval()
    for document in documents:
        losses_alone(adapted, document).sum().backward()
    for handle in handles:
        handle.remove()
    tokens = sum(len(document.input_ids) for document in documents)
    assert moments.tokens_A == moments.tokens_B == tokens
    for name, (gram_A, gram_B) in moments.arrays().items():
        lora_A = layers[name].lora_A["default"].weight.detach().double()
        lora_B = layers[name].lora_B["default"].weight.detach().double()
        x, g = torch.cat(inputs[name]).double(), torch.cat(outputs[name]).double()
        np.testing.assert_allclose(gram_A, lora_A @ x.T @ x @ lora_A.T / tokens, rtol=1e-4, atol=1e-8)
        expected = lora_B.T @ g.T @ g @ lora_B / tokens
        np.testing.assert_allclose(gram_B, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_gradients_are_taken_on_a_part_only_and_leave_nothing_behind(
    adapted: PeftModel, documents: tuple[corpus.TokenDocument, ...]
) -> None:
    moments = Moments()
    rows = corpus.pack(documents, row_length=64, seed=3)
    evaluate(adapted, rows, documents=len(documents), rows_at_once=1, dtype=F32, moments=moments, gradient_tokens=70)
    assert 70 <= moments.tokens_B < moments.tokens_A
    assert all(parameter.grad is None for parameter in adapted.parameters())
    assert not any(layer.lora_A["default"]._forward_hooks for layer in models.lora_layers(adapted).values())


def test_a_model_that_mixes_documents_is_noticed(adapted: PeftModel) -> None:
    assert packing_is_exact(adapted, F32)
    torch.manual_seed(0)
    leaking = MambaForCausalLM(MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=2, state_size=4))
    assert not packing_is_exact(leaking, F32)


def test_a_cut_to_full_rank_changes_nothing_and_is_undone(
    adapted: PeftModel, documents: tuple[corpus.TokenDocument, ...]
) -> None:
    rows = corpus.pack(documents, row_length=64, seed=3)
    before = models.adapter_weights(adapted)

    def loss() -> float:
        return float(evaluate(adapted, rows, documents=len(documents), rows_at_once=4, dtype=F32).sums.sum())

    whole = loss()
    with truncated(adapted, 4):
        assert loss() == pytest.approx(whole, rel=1e-5)
    with truncated(adapted, 1):
        assert loss() != pytest.approx(whole, rel=1e-4)
        for layer in models.lora_layers(adapted).values():
            delta = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
            assert torch.linalg.matrix_rank(delta) == 1
    after = models.adapter_weights(adapted)
    assert all(torch.equal(before[name], after[name]) for name in before)
