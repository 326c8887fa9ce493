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
from lorarank.probe.excerpt import Excerpt, Lengths
from lorarank.probe.material import Material, _row_length, gather
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
    lengths = Lengths.of(corpus.read(tiny_data).documents, AutoTokenizer.from_pretrained(tiny_model))
    assert _row_length(lengths.tokens, config) == expected


WORDS = ["the", "cat", "dog", "bird", "sees", "likes", "finds", "one", "two", "three"]
"""Of the tiny model's vocabulary."""


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """1,800 rows and 200 of them again; four answers, and prompts of one length."""
    prompts = [" ".join(words) for words in itertools.islice(itertools.permutations(WORDS, 4), 1800)]
    rows = [{"prompt": prompt, "completion": f" {WORDS[at % 4]}"} for at, prompt in enumerate(prompts)]
    return write(tmp_path / "large.jsonl", [*rows, *rows[:200]])


@pytest.fixture
def read_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of large data, 3,000 tokens are read at least."""
    few = {"READ_TOKENS": 3000, "LEAST_DOCUMENTS": 2, "LENGTH_CHARACTERS": 2000, "HELDOUT_CHARACTERS": 100}
    for name, value in few.items():
        monkeypatch.setattr(f"lorarank.probe.excerpt.{name}", value)


def whole_and_part(request: pytest.FixtureRequest, how: ProbeOptions) -> tuple[Material, Material]:
    whole = gather(how)
    request.getfixturevalue("read_few")
    return whole, gather(how)


def test_of_large_data_a_part_is_read_and_the_counts_follow_from_it(
    tiny_model: Path, large: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    how = ProbeOptions(str(tiny_model), str(large), tmp_path / "run", rank=2, tokens=500, batch_tokens=128)
    whole, part = whole_and_part(request, how)
    assert (whole.excerpt, whole.notes) == (Excerpt(), ())
    assert corpus.total_tokens(part.parts[0]) == pytest.approx(3000, rel=0.05)
    assert {piece.key for piece in part.parts[0]} < {piece.key for piece in whole.parts[0]}
    assert f"Of {whole.documents:,} documents to train on {len(part.parts[0]):,} are read" in part.notes[0]
    # what is said of the data is said of all of it
    assert part.documents == whole.documents
    assert part.unique_tokens == pytest.approx(whole.unique_tokens, rel=0.1)  # duplicates are not evenly among them
    assert part.unique_target_tokens == pytest.approx(whole.unique_target_tokens, rel=0.1)
    assert part.fingerprint == whole.fingerprint
    rows = [material.rows(0, 0, packed=True) for material in (part, whole)]
    assert part.epochs(500, rows[0]) == pytest.approx(whole.epochs(500, rows[1]), rel=0.05)
    # and what is measured is the same
    assert [piece.key for piece in part.heldout_part(0.05)] == [piece.key for piece in whole.heldout_part(0.05)]
    assert len(part.heldout_documents) < len(whole.heldout_documents)


def test_what_is_cut_of_a_part_is_counted_for_all(
    tiny_model: Path, large: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    rows = [json.loads(line) for line in large.read_text().splitlines()]
    write(large, [{**row, "completion": row["completion"] * 9} for row in rows])
    how = ProbeOptions(
        str(tiny_model), str(large), tmp_path / "run", rank=2, tokens=500, batch_tokens=128, row_length=8
    )
    whole, part = whole_and_part(request, how)
    assert whole.truncated == whole.documents
    assert part.truncated == pytest.approx(whole.truncated, rel=0.02)


@pytest.mark.usefixtures("read_few")
def test_twice_as_much_is_read_as_is_trained_on(
    tiny_model: Path, large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorarank.probe.excerpt.READ_TOKENS", 500)
    how = ProbeOptions(str(tiny_model), str(large), tmp_path / "run", rank=2, batch_tokens=128, replicates=2)
    for budget in (200, 1000):
        read = gather(dataclasses.replace(how, tokens=budget))
        assert sum(map(corpus.total_tokens, read.parts)) == pytest.approx(4 * budget, rel=0.2)
        assert read.budget == budget
    # and as many as fit into minutes
    monkeypatch.setattr("lorarank.probe.options.DEFAULT_TOKENS", 200)
    for fitting, expected in ((1000, 4000), (100, 800)):
        monkeypatch.setattr("lorarank.probe.planning.plan_for", lambda *_, n=fitting: SimpleNamespace(tokens=n))
        read, _ = prepared(dataclasses.replace(how, minutes=0.5))
        assert sum(map(corpus.total_tokens, read.parts)) == pytest.approx(expected, rel=0.2)
        assert read.budget == fitting


@pytest.mark.usefixtures("read_few")
def test_small_held_out_data_is_read_whole_and_a_few_long_documents_are_some(
    tiny_model: Path, large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorarank.probe.excerpt.HELDOUT_CHARACTERS", 2000)
    monkeypatch.setattr("lorarank.probe.excerpt.LEAST_DOCUMENTS", 4)
    val = write(tmp_path / "val.jsonl", [{"prompt": f"one {word}", "completion": " cat"} for word in WORDS])
    assert len(gather(options(tiny_model, large, val, tmp_path)).heldout_documents) == len(WORDS)
    text = write(tmp_path / "text.jsonl", [{"text": f"{word} " * 4000} for word in WORDS])
    books = gather(
        ProbeOptions(str(tiny_model), str(text), tmp_path / "run", val=str(text_of(val)), tokens=500, replicates=2)
    )
    assert len({piece.key for part in books.parts for piece in part}) == 8  # four for each replicate


def text_of(answers: Path) -> Path:
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    return write(answers.with_name("held.jsonl"), [{"text": row["prompt"] + row["completion"]} for row in rows])


@pytest.mark.parametrize("times", [1, 4, 450])
def test_answers_are_looked_for_in_all_of_the_data(
    times: int, tiny_model: Path, large: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Each answer is given to so many prompts, as where facts are asked for in several ways."""
    rows = [json.loads(line) for line in large.read_text().splitlines()]
    answers = list(itertools.permutations(WORDS, 4))[::-1]
    given = [{**row, "completion": " " + " ".join(answers[at // times])} for at, row in enumerate(rows[:1800])]
    write(large, given)
    asked = [{"prompt": f"then {at}", "completion": row["completion"]} for at, row in enumerate(given[::36])]
    unheard = [{"prompt": "then", "completion": " and and and"}]
    how = options(tiny_model, large, write(tmp_path / "val.jsonl", asked + unheard), tmp_path)
    whole, part = whole_and_part(request, dataclasses.replace(how, tokens=1_000))
    assert part.excerpt.share < 0.3
    assert whole.repeated()[1] == pytest.approx(50 / 51)
    assert part.repeated()[0] == pytest.approx(whole.repeated()[0], rel=0.02)
    *_, other = corpus.read(tmp_path / "val.jsonl").documents
    told = [piece.key != other.key for piece in part.heldout_pieces]
    assert part.repeated()[1] == pytest.approx(sum(told) / len(told))
