"""A small real tokenizer, trained here, and files written from rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SENTENCES = [
    "The quick brown fox jumps over the lazy dog.",
    "Question: how many eggs are left? Answer: nine eggs are left.",
    "It is unbelievable, believe me; the unbeliever believes nothing.",
    "A lazy dog and the lazy dog: one lazy dog, two lazy dog tails.",
]

MakeTokenizer = Callable[..., PreTrainedTokenizerFast]


@pytest.fixture
def make_tokenizer() -> MakeTokenizer:
    """A byte-level BPE tokenizer; ``around`` is what it adds to a text, such as ``<bos> $A <eos>``."""

    def make(around: str | None = None, template: Any = None) -> PreTrainedTokenizerFast:
        core = Tokenizer(models.BPE())
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
        special = ["<bos>", "<eos>", "<|im_start|>", "<|im_end|>"]
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=380, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
        core.train_from_iterator(SENTENCES * 3, trainer)
        if around:
            ids = [(token, core.token_to_id(token)) for token in special]
            core.post_processor = processors.TemplateProcessing(single=around, special_tokens=ids)
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<bos>", eos_token="<eos>")
        tokenizer.chat_template = template
        return tokenizer

    return make


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write rows as JSONL, or text as it is."""

    def write_file(content: str | bytes | Iterable[Any], name: str = "train.jsonl") -> Path:
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, str):
            path.write_bytes(content.encode())
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in content))
        return path

    return write_file
