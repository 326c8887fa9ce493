"""Rows beyond the model's positions and tokens beyond its embedding are one line, before any weight is loaded."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from lorarank.errors import ModelError, OptionError
from lorarank.probe import ProbeOptions, plan
from lorarank.probe import model as models
from lorarank.probe.limits import positions
from lorarank.sweep import SweepOptions, sweep

SMALL: dict[str, Any] = {"vocab_size": 32, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
CONFIGS = {
    "gpt2": lambda: transformers.GPT2Config(vocab_size=32, n_embd=32, n_layer=1, n_head=2, n_positions=40),
    "gptj": lambda: transformers.GPTJConfig(
        vocab_size=32, n_embd=32, n_layer=1, n_head=2, n_positions=40, rotary_dim=8
    ),
    "opt": lambda: transformers.OPTConfig(
        **SMALL, ffn_dim=48, word_embed_proj_dim=32, max_position_embeddings=40, pad_token_id=1
    ),
    "mpt": lambda: transformers.MptConfig(vocab_size=32, d_model=32, n_layers=1, n_heads=2, max_seq_len=40),
    "llama": lambda: transformers.LlamaConfig(**SMALL, intermediate_size=48, max_position_embeddings=40),
    "bloom": lambda: transformers.BloomConfig(vocab_size=32, hidden_size=32, n_layer=1, n_head=2),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_positions_are_where_torch_would_stop(name: str) -> None:
    config = CONFIGS[name]()
    most = positions(models.skeleton(config, Path(name)))
    assert most == (None if name in ("llama", "bloom") else 40)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()

    def row(length: int) -> None:
        ids = torch.zeros((1, length), dtype=torch.int64)
        model(input_ids=ids, position_ids=torch.arange(length)[None], use_cache=False)

    row(40)
    if most is None:
        row(41)
    else:
        with pytest.raises((IndexError, RuntimeError)):
            row(41)


@pytest.fixture(scope="module")
def learned(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 of 40 positions and too few words for the tiny model's tokenizer: its configuration will do."""
    folder = tmp_path_factory.mktemp("gpt2")
    shutil.copytree(tiny_model, folder, dirs_exist_ok=True)
    (folder / "model.safetensors").unlink()
    CONFIGS["gpt2"]().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "train.jsonl"
    draw = random.Random(0)
    rows = [{"text": " ".join(draw.choice(["red", "blue", "green", "one"]) for _ in range(40))} for _ in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_rows_beyond_the_positions_are_refused(learned: Path, data: Path, tmp_path: Path) -> None:
    how: dict[str, Any] = {"tokens": 500, "batch_tokens": 64, "device": "cpu"}
    given = ProbeOptions(str(learned), str(data), tmp_path / "run", rank=2, row_length=48, **how)
    with pytest.raises(OptionError, match=r"^--row-length 48: the model has 40 positions.* Give --row-length 40 or"):
        plan(given)
    assert plan(ProbeOptions(str(learned), str(data), tmp_path / "run", rank=2, **how)).row_length == 40
    with pytest.raises(OptionError, match="the model has 40 positions"):
        sweep(SweepOptions(str(learned), str(data), tmp_path / "sweep", ranks=(1, 2), row_length=48, **how))


def test_words_without_a_vector_are_refused(learned: Path, data: Path, tmp_path: Path) -> None:
    config = transformers.AutoConfig.from_pretrained(learned)
    config.vocab_size = 8
    shutil.copytree(learned, tmp_path / "few")
    config.save_pretrained(tmp_path / "few")
    given = ProbeOptions(
        str(tmp_path / "few"), str(data), tmp_path / "run", rank=2, tokens=500, batch_tokens=64, device="cpu"
    )
    with pytest.raises(ModelError, match=r"its tokenizer gives token \d+, and its embedding has 8 vectors"):
        plan(given)
