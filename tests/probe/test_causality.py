"""Models that see what they should predict are refused, and no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from lorarank.errors import ModelError
from lorarank.probe import ProbeOptions, probe
from lorarank.probe import model as models
from lorarank.probe.causality import looks_ahead, packing
from lorarank.sweep import SweepOptions, sweep

SMALL: dict[str, Any] = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
BERT = {**SMALL, "intermediate_size": 48}
CAUSAL = {
    "gpt2": lambda: transformers.GPT2Config(vocab_size=97, n_embd=32, n_layer=1, n_head=2, bos_token_id=0),
    "mamba": lambda: transformers.MambaConfig(vocab_size=97, hidden_size=16, num_hidden_layers=2, state_size=4),
    "mixtral": lambda: transformers.MixtralConfig(**BERT, num_key_value_heads=1, num_local_experts=2),
    "bloom": lambda: transformers.BloomConfig(vocab_size=97, hidden_size=32, n_layer=1, n_head=2),
    "bert": lambda: transformers.BertConfig(**BERT, is_decoder=True),
}
HYBRID = {
    "lfm2": lambda: transformers.Lfm2Config(
        **{**BERT, "num_hidden_layers": 2}, num_key_value_heads=1, layer_types=["conv", "full_attention"]
    ),
}
AHEAD = {
    "bert": lambda: transformers.BertConfig(**BERT),
    "roberta": lambda: transformers.RobertaConfig(**BERT, pad_token_id=1),
    "xlnet": lambda: transformers.XLNetConfig(vocab_size=97, d_model=32, n_layer=1, n_head=2, d_inner=48),
}


def built(config: Any) -> Any:
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CAUSAL)
def test_a_causal_model_does_not_look_ahead(name: str, dtype: torch.dtype) -> None:
    model = built(CAUSAL[name]())
    assert not looks_ahead(model, dtype)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.get_input_embeddings()._forward_hooks


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("name", "packed"), [("gpt2", True), ("mixtral", True), ("bloom", False), ("lfm2", False)])
def test_only_a_model_that_keeps_documents_apart_is_packed(name: str, packed: bool, dtype: torch.dtype) -> None:
    """In a hybrid of random weights what goes over from one document to the next is less than rounding to bfloat16."""
    assert packing(built({**CAUSAL, **HYBRID}[name]()), dtype, "base") == packed


@pytest.mark.parametrize("name", AHEAD)
def test_an_encoder_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match=r"base: it is not causal.*is_decoder: true in config\.json"):
        packing(built(AHEAD[name]()), torch.float32, "base")


def encoder(folder: Path, tokenizer: Path) -> Path:
    """A BERT with the tokenizer of the tiny model."""
    config = transformers.BertConfig(**{**BERT, "vocab_size": 32}, max_position_embeddings=256)
    transformers.BertForMaskedLM(config).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
    return folder


def test_neither_a_probe_nor_a_sweep_trains_on_one(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    model, how = encoder(tmp_path / "bert", tiny_model), {"tokens": 2_000, "device": "cpu"}
    with pytest.raises(ModelError, match="not causal"):
        probe(ProbeOptions(str(model), str(tiny_data), tmp_path / "run", rank=4, **how))
    assert not (tmp_path / "run" / "log.jsonl").exists()
    with pytest.raises(ModelError, match="not causal"):
        sweep(SweepOptions(str(model), str(tiny_data), tmp_path / "sweep", ranks=(1, 2), **how))
    assert not list((tmp_path / "sweep" / "points").glob("*.json"))


def test_a_decoder_is_not_taken_out_of_its_encoder() -> None:
    with pytest.raises(ModelError, match="an encoder and a decoder"):
        models.skeleton(transformers.BartConfig(), Path("bart"))
