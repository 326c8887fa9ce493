"""Held-out data beside training data: of one kind of loss, and none of it trained on."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoTokenizer

from lorarank import corpus
from lorarank.errors import CorpusError
from lorarank.probe import ProbeOptions, plan
from lorarank.probe.material import _row_length, gather


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def options(model: Path, data: Path, val: Path, folder: Path) -> ProbeOptions:
    return ProbeOptions(
        str(model), str(data), folder / "run", val=str(val), rank=2, tokens=500, batch_tokens=128, device="cpu"
    )


@pytest.fixture
def chatty(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model with a chat template."""
    folder = tmp_path / "chatty"
    folder.mkdir()
    for path in tiny_model.iterdir():
        (folder / path.name).symlink_to(path)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}[EOS]{% endgeneration %}"
        "{% else %}{{ m.content }} {% endif %}{% endfor %}"
    )
    for path in folder.glob("tokenizer*"):
        path.unlink()
    tokenizer.save_pretrained(folder)
    return folder


def test_text_beside_answers_is_refused(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in tiny_data.read_text().splitlines()]
    text = write(tmp_path / "text.jsonl", [{"text": row["prompt"] + row["completion"]} for row in rows[:20]])
    for data, val in ((tiny_data, text), (text, tiny_data)):
        with pytest.raises(CorpusError, match=r"the held-out data is .*, and that to train on .*same fields") as caught:
            gather(options(tiny_model, data, val, tmp_path))
        assert str(caught.value).startswith(str(val))


def test_answers_of_two_shapes_share_no_row_and_are_told_of(chatty: Path, tiny_data: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in tiny_data.read_text().splitlines()]
    turns = [
        [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]
        for row in rows[:20]
    ]
    val = write(tmp_path / "val.jsonl", [{"messages": two} for two in turns])
    given = options(chatty, tiny_data, val, tmp_path)
    material = gather(given)
    assert material.documents == len(rows) - 20
    shapes, both = material.notes
    assert shapes.startswith("Held-out data is messages, and that to train on prompt and completion: ")
    assert both == "Documents left out of training because they are held out too: 20."
    assert {shapes, both} <= set(plan(given).notes)


def test_documents_without_a_token_to_predict_are_told_of(
    tiny_model: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.eos_token = None  # so that one word is one token, and nothing follows it
    monkeypatch.setattr("lorarank.probe.model.load_tokenizer", lambda folder: tokenizer)
    texts = [json.loads(line)["completion"] for line in tiny_data.read_text().splitlines()]
    data = write(tmp_path / "data.jsonl", [{"text": text} for text in [*texts[20:], "cat"]])
    val = write(tmp_path / "val.jsonl", [{"text": text} for text in [*texts[:20], "dog"]])
    material = gather(options(tiny_model, data, val, tmp_path))
    assert material.notes == ("Documents left out because they have no token to predict: 2.",)
    assert material.documents == len(texts) - 20


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"max_position_embeddings": 40}, 40),
        ({"max_seq_len": 30}, 30),
        ({"max_position_embeddings": -1}, 128),
        ({}, 128),
    ],
)
def test_automatic_rows_are_no_longer_than_the_positions(
    tiny_model: Path, tiny_data: Path, sizes: dict[str, int], expected: int
) -> None:
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(**sizes))  # the second is MPT's, the third XLNet's
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    assert _row_length(corpus.read(tiny_data).documents, tokenizer, config) == expected
