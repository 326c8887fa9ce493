"""A tiny Llama built from a config, a tokenizer trained on a few sentences, and data it can learn a little from."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

torch.set_num_threads(1)  # before any fixture: bits are equal only between runs with as many threads

WORDS = [
    "red",
    "blue",
    "green",
    "one",
    "two",
    "three",
    "four",
    "cat",
    "dog",
    "bird",
    "sees",
    "likes",
    "finds",
    "the",
    "a",
    "and",
    "then",
]


def sentence(random_: random.Random, words: int) -> str:
    return " ".join(random_.choice(WORDS) for _ in range(words))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a two-layer Llama with grouped-query attention, fp32, and its tokenizer."""
    folder = tmp_path_factory.mktemp("tiny-model")
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator([" ".join(WORDS)], trainers.WordLevelTrainer(special_tokens=["[UNK]", "[EOS]"]))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="[EOS]", pad_token="[EOS]")
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        eos_token_id=fast.eos_token_id,
        bos_token_id=None,
        pad_token_id=fast.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prompts of a few words with the same words as completion, sorted: something to learn."""
    path = tmp_path_factory.mktemp("tiny-data") / "train.jsonl"
    random_ = random.Random(0)
    rows = []
    for _ in range(240):
        prompt = sentence(random_, random_.randint(3, 9))
        rows.append({"prompt": prompt, "completion": " " + " ".join(sorted(prompt.split()))})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
