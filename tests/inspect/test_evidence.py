"""The page that the README shows is the one that is printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from lorarank.cli import main

pytest.importorskip("transformers")

SHOWN = Path(__file__).resolve().parents[2] / "data" / "evidence" / "inspect" / "llama-3.1-8b.txt"
LLAMA_3_1_8B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 32,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}


def test_the_page_shown_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "llama-3.1-8b"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA_3_1_8B), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["inspect", "llama-3.1-8b", "--rank", "16"])
    assert result.exit_code == 0
    assert result.stdout == SHOWN.read_text(encoding="utf-8")
