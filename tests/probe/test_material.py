"""Held-out data beside training data: of one kind of loss, and none of it trained on."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoTokenizer

from lorarank import corpus
from lorarank.errors import CorpusError
from lorarank.probe import ProbeOptions, plan
from lorarank.probe.material import _lengths, _row_length, gather
from lorarank.probe.planning import prepared


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
    lengths = _lengths(corpus.read(tiny_data).documents, AutoTokenizer.from_pretrained(tiny_model))
    assert _row_length(lengths, config) == expected


WORDS = "the cat dog bird sees likes finds one two three"
"""Of the tiny model's vocabulary."""


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """2,000 rows, the last tenth of them duplicates; four answers, and prompts of one length."""
    prompts = [" ".join(words) for words in itertools.permutations(WORDS.split(), 4)][:1800]
    rows = [{"prompt": prompt, "completion": f" {WORDS.split()[at % 4]}"} for at, prompt in enumerate(prompts)]
    return write(tmp_path / "large.jsonl", [*rows, *rows[:200]])


def test_of_large_data_a_part_is_read_and_the_counts_follow_from_it(
    tiny_model: Path, large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = ProbeOptions(str(tiny_model), str(large), tmp_path / "run", rank=2, tokens=500, batch_tokens=128)
    whole = gather(how)
    monkeypatch.setattr("lorarank.probe.material.READ_TOKENS", 3000)
    monkeypatch.setattr("lorarank.probe.material.LENGTHS_OF", 100)
    part = gather(how)
    assert (whole.read_share, len(whole.notes)) == (1.0, 0)
    assert part.read_share == pytest.approx(3000 / whole.unique_tokens, rel=0.01)
    assert len(part.parts[0]) == pytest.approx(len(whole.parts[0]) * part.read_share, rel=0.05)
    assert {piece.key for piece in part.parts[0]} < {piece.key for piece in whole.parts[0]}
    assert f"Of {whole.documents:,} documents to train on {len(part.parts[0]):,} are read" in part.notes[0]
    # what is said of the data is said of all of it
    assert part.documents == whole.documents
    assert part.unique_tokens == pytest.approx(whole.unique_tokens, rel=0.02)
    assert part.unique_target_tokens == pytest.approx(whole.unique_target_tokens, rel=0.02)
    assert part.fingerprint == whole.fingerprint
    rows = [material.rows(0, 0, packed=True) for material in (part, whole)]
    assert part.epochs(500, rows[0]) == pytest.approx(whole.epochs(500, rows[1]), rel=0.05)
    # and what is measured is the same
    assert [piece.key for piece in part.heldout_part(0.1)] == [piece.key for piece in whole.heldout_part(0.1)]
    assert len(part.heldout_documents) < len(whole.heldout_documents)


def test_twice_as_much_is_read_as_is_trained_on(
    tiny_model: Path, large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorarank.probe.material.READ_TOKENS", 500)
    how = ProbeOptions(str(tiny_model), str(large), tmp_path / "run", rank=2, batch_tokens=128, replicates=2)
    for budget in (200, 1000):
        read = gather(dataclasses.replace(how, tokens=budget))
        assert sum(map(corpus.total_tokens, read.parts)) == pytest.approx(4 * budget, rel=0.2)
        assert read.budget == budget
    # and as many as fit into minutes
    monkeypatch.setattr("lorarank.probe.options.DEFAULT_TOKENS", 200)
    monkeypatch.setattr("lorarank.probe.planning.plan_for", lambda options, material: SimpleNamespace(tokens=1000))
    read, _ = prepared(dataclasses.replace(how, minutes=0.5))
    assert sum(map(corpus.total_tokens, read.parts)) == pytest.approx(4 * 1000, rel=0.2)
    assert read.budget == 1000
    monkeypatch.setattr("lorarank.probe.planning.plan_for", lambda options, material: SimpleNamespace(tokens=100))
    assert sum(map(corpus.total_tokens, prepared(how)[0].parts)) == pytest.approx(4 * 200, rel=0.2)


@pytest.mark.parametrize(("answers", "grows"), [("four", False), ("each its own", True)])
def test_distinct_answers_of_all_data_follow_from_those_of_a_part(
    answers: str, grows: bool, tiny_model: Path, large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if grows:
        rows = [json.loads(line) for line in large.read_text().splitlines()]
        large = write(large, [{"prompt": "the", "completion": f" {row['prompt']}"} for row in rows])
    val = write(tmp_path / "val.jsonl", [{"prompt": f"one {word}", "completion": " cat"} for word in WORDS.split()])
    how = options(tiny_model, large, val, tmp_path)
    distinct, known = gather(how).repeated()
    monkeypatch.setattr("lorarank.probe.material.READ_TOKENS", 3000)
    followed, still_known = gather(how).repeated()
    assert followed == pytest.approx(distinct, rel=0.02)
    assert known == still_known == (not grows)
    assert (distinct > 1000) == grows
