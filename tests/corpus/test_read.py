"""Reading: every format and file kind, what is skipped, and an error that names the line."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

from lorarank.corpus import read
from lorarank.errors import CorpusError, MissingExtraError

USER = {"role": "user", "content": "hi"}
ASSISTANT = {"role": "assistant", "content": "hello"}


def one(path):
    [document] = read(path).documents
    return document


@pytest.mark.parametrize(
    ("row", "kind", "prompt", "completion", "messages", "context"),
    [
        ({"text": "abc"}, "text", "", "abc", (), 0),
        ({"text": "abc", "id": 3}, "text", "", "abc", (), 0),
        ({"prompt": "a", "completion": "b"}, "completion", "a", "b", (), 0),
        ({"prompt": "", "completion": "b"}, "completion", "", "b", (), 0),
        ({"prompt": "a", "completion": "b", "text": "c"}, "completion", "a", "b", (), 0),
        ({"prompt": None, "completion": None, "text": "c"}, "text", "", "c", (), 0),
        ({"messages": [USER, ASSISTANT], "text": "c"}, "messages", "", "", (USER, ASSISTANT), 0),
        ({"prompt": [USER], "completion": [ASSISTANT]}, "completion", "", "", (USER, ASSISTANT), 1),
        (
            {"conversations": [{"from": "user", "value": "hi"}, {"from": "assistant", "value": "hello"}]},
            "messages",
            "",
            "",
            (USER, ASSISTANT),
            0,
        ),
        (
            {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]},
            "messages",
            "",
            "",
            (USER, ASSISTANT),
            0,
        ),
        (
            {"messages": [{**USER, "from": "x"}, {**ASSISTANT, "from": "y"}]},
            "messages",
            "",
            "",
            (USER, ASSISTANT),
            0,
        ),
        ({"messages": [{**USER, "name": None}, ASSISTANT]}, "messages", "", "", (USER, ASSISTANT), 0),
    ],
)
def test_formats(write, row, kind, prompt, completion, messages, context):
    document = one(write([row]))
    assert (document.kind, document.prompt, document.completion) == (kind, prompt, completion)
    assert (document.messages, document.context, document.row) == (messages, context, 1)


def test_template_arguments_travel_with_the_row(write):
    tools = [{"type": "function", "function": {"name": "f"}}]
    row = {"messages": [USER, ASSISTANT], "tools": json.dumps(tools), "chat_template_kwargs": {"thinking": False}}
    plain = one(write([{"messages": row["messages"]}]))
    document = one(write([row]))
    assert document.template == {"tools": tools, "thinking": False}
    assert document.key != plain.key


def test_of_two_names_for_a_conversation_the_one_that_is_filled_is_read(write):
    talk = [USER, ASSISTANT]
    rows = [{"messages": None, "conversations": talk}, {"messages": talk, "conversations": None}]
    first, second = read(write([*rows, {"messages": None, "conversations": None}])).documents
    assert first.messages == second.messages == one(write([{"messages": talk}])).messages


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": " \n"}, "empty text"),
        ({"text": None}, "text is null"),
        ({"prompt": "a", "completion": ""}, "empty completion"),
        ({"prompt": "a", "completion": None}, "completion is null"),
        ({"prompt": None, "completion": "a"}, "prompt is null"),
        ({"messages": []}, "empty messages"),
        ({"messages": [USER]}, "no assistant turn (roles: user)"),
        ({"messages": [USER, {"role": "assistant", "content": " "}]}, "empty assistant turn"),
        ({"prompt": [USER], "completion": []}, "empty completion"),
        ({"text": "\ud800"}, "half a surrogate pair, which is not valid Unicode"),
    ],
)
def test_unusable_rows_are_skipped_with_their_line(write, row, reason):
    good = {name: [USER, ASSISTANT] if isinstance(value, list) else "good" for name, value in row.items()}
    data = read(write([good, row, good]))
    assert data.skipped == (f"line 2: {reason}",)
    assert [document.row for document in data.documents] == [1, 3]


@pytest.mark.parametrize(
    ("content", "place", "what"),
    [
        ('{"text": "a"}\n{"text": "b"\n', ", line 2", "not valid JSON"),
        ('{"text": "a"}\n\n{text: 1}\n', ", line 3", "not valid JSON"),
        (b'{"text": "a"}\n{"text": "\xff"}\n', ", line 2", "byte 11 of the line is not UTF-8"),
        ("\ufeff{}".encode("utf-16"), "", "UTF-16"),
        ("", "", "empty"),
        ("\n \n", "", "blank lines"),
        ("3\n", ", line 1", "expected an object, found a number"),
        ('{"instruction": "a", "output": "b"}\n', ", line 1", "found: instruction, output"),
        ('{"prompt": "a"}\n', ", line 1", "found: prompt"),
        ("{}\n", ", line 1", "found: none"),
        ('{"text": 5}\n', ", line 1", "text should be text, but is a number"),
        ('{"prompt": "a", "completion": ["b"]}\n', ", line 1", "completion should be text, but is a list"),
        ('{"prompt": [], "completion": "b"}\n', ", line 1", "completion should be a list of messages, but is text"),
        ('{"messages": "a"}\n', ", line 1", "messages should be a list of messages, but is text"),
        ('{"messages": ["a"]}\n', ", line 1", "turn 1 of messages should be an object, but is text"),
        ('{"messages": [{"content": "a"}]}\n', ", line 1", "turn 1 of messages has no role"),
        ('{"messages": [{"role": "user", "content": 1}]}\n', ", line 1", "should be text, but is a number"),
        ('{"messages": [{"role": "user", "content": [{"type": "image"}]}]}\n', ", line 1", "holds more than text"),
        (
            '{"messages": [{"role": "assistant", "content": "a"}], "tools": "{"}\n',
            ", line 1",
            "tools is text, but not JSON",
        ),
        (
            '{"messages": [{"role": "assistant", "content": "a"}], "tools": 1}\n',
            ", line 1",
            "tools should be a list, but is a number",
        ),
        (
            '{"text": "a"}\n{"prompt": "a", "completion": "b"}\n',
            ", line 2",
            "prompt and completion, but line 1 is text",
        ),
        ('{"text": ""}\n{"text": null}\n', "", "no usable row (2 skipped, the first: line 1: empty text)"),
        ("[" * 100_000, "", "nested too deeply"),
        ('{"text": ' + "1" * 5000 + "}\n", ", line 1", "not valid JSON"),
        ('[\n{"text": "a"},\n{"text": }\n]', ", line 3", "not valid JSON"),
        ("[]", "", "no usable row (there is no row at all)"),
        ('[{"text": "a"}, 4]', ", item 2", "expected an object"),
    ],
)
def test_errors_name_the_line(write, content, place, what):
    path = write(content)
    with pytest.raises(CorpusError) as caught:
        read(path)
    assert caught.value.where == f"{path}{place}"
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_conversational_completion_does_not_mix_with_a_plain_one(write):
    path = write([{"prompt": "a", "completion": "b"}, {"prompt": [USER], "completion": [ASSISTANT]}])
    with pytest.raises(CorpusError, match="line 2: this is prompt and completion in messages, but line 1 is"):
        read(path)


def test_json_array_and_json_lines_under_either_suffix(write):
    lines = '{"text": "a"}\n\n{"text": "b"}\n'
    array = '\ufeff [{"text": "a"},\n {"text": "b"}]'
    sets = [read(write(content, name)) for content in (lines, array) for name in ("a.json", "a.jsonl")]
    assert {data.fingerprint for data in sets} == {sets[0].fingerprint}
    assert [[d.row for d in data.documents] for data in sets] == [[1, 3], [1, 3], [1, 2], [1, 2]]


def test_lines_end_at_newlines_only(write):
    assert one(write('{"text": "a\u2028b\u0085c"}\n')).completion == "a\u2028b\u0085c"


def test_csv(write):
    long = "x" * 200_000
    before = csv.field_size_limit()
    data = read(write(f'\ufeffprompt,completion\r\n"a, ""b""\n2nd",c\r\n\r\nd,\r\n"e",{long}\r\n', "a.csv"))
    assert [(d.prompt, d.completion, d.row) for d in data.documents] == [('a, "b"\n2nd', "c", 2), ("e", long, 6)]
    assert data.skipped == ("line 5: empty completion",)
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("content", "place", "what"),
    [
        ("text\na\nb,c\n", ", line 3", "2 fields where the header has 1"),
        ('text\na\n"b\n\n', ", line 3", "not valid CSV"),
        ("text\na\0b\n", ", line 2", "null byte"),
        (b"text\n\xe9\n", ", line 2", "not UTF-8"),
        ("text,text\na,b\n", ", line 1", "the header names 'text' twice"),
        ("text\n", "", "there is no row at all"),
        ("messages\nhello\n", ", line 2", "messages should be a list of messages, but is text"),
    ],
)
def test_csv_errors(write, content, place, what):
    path = write(content, "a.csv")
    with pytest.raises(CorpusError) as caught:
        read(path)
    assert caught.value.where == f"{path}{place}"
    assert what in str(caught.value)


def test_parquet(tmp_path: Path, write):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"messages": [USER, ASSISTANT], "id": 1}, {"messages": [], "id": 2}]
    path = tmp_path / "a.parquet"
    parquet.write_table(arrow.Table.from_pylist(rows), path)
    data = read(path)
    assert data.documents == read(write([rows[0]])).documents
    assert data.skipped == ("row 2: empty messages",)

    parquet.write_table(arrow.Table.from_pylist([{"question": "a"}]), path)
    with pytest.raises(CorpusError, match=r"a.parquet, row 1: it lacks .* \(found: question\)"):
        read(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorpusError, match="not a readable Parquet file"):
        read(path)


def test_parquet_without_pyarrow_names_its_extra(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(MissingExtraError, match=r"needs the package pyarrow.*pip install 'lorarank\[parquet\]'"):
        read(tmp_path / "a.parquet")


def test_a_folder_stands_for_its_file(tmp_path: Path, write):
    write([{"text": "a"}], "train.jsonl")
    (tmp_path / "meta.txt").write_text("not data")
    assert one(tmp_path).completion == "a"
    write([{"text": "b"}], "val.jsonl")
    assert one(tmp_path).completion == "a"
    assert read(tmp_path, split="val").documents[0].completion == "b"
    with pytest.raises(CorpusError, match=r"one data file for test \(found: train.jsonl, val.jsonl\)"):
        read(tmp_path, split="test")


def test_home_is_known(tmp_path: Path, write, monkeypatch):
    write([{"text": "a"}])
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    assert one("~/train.jsonl").completion == "a"


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("absent.jsonl", "there is no such file"),
        ("folder/absent", "there is no such file"),
        ("data.jsonl.gz", "the suffix '.gz' is not one of .jsonl"),
    ],
)
def test_sources_that_lead_nowhere(tmp_path: Path, write, name, what):
    write(b"\x1f\x8b", "data.jsonl.gz")
    with pytest.raises(CorpusError, match=what):
        read(tmp_path / name)


def test_hub_dataset(monkeypatch):
    asked = []

    def load_dataset(name, *, revision, split):
        asked.append((name, revision, split))
        if split == "nosuch":
            raise ValueError('Unknown split "nosuch".\nShould be one of [train].')
        return [{"text": "a"}, {"text": ""}]

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    data = read("owner/name@abc")
    assert (data.source, len(data.documents), data.skipped) == ("owner/name@abc", 1, ("row 2: empty text",))
    assert asked == [("owner/name", "abc", "train")]
    with pytest.raises(CorpusError, match=r"owner/name: there is no such file, and as a hub dataset .*Unknown split"):
        read("owner/name", split="nosuch")
    with pytest.raises(CorpusError, match=r"data/train.txt.gz: there is no such file\. Give"):
        read("data/train.txt.gz")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'lorarank\[probe\]'"):
        read("owner/name")


def test_key_and_fingerprint_follow_the_content_alone(write):
    first = read(write([{"text": "a"}, {"text": "b"}, {"text": "a", "id": 7}], "one.jsonl"))
    again = read(write([{"id": 1, "text": "a"}, {"text": "b"}, {"text": "a"}], "two.jsonl"))
    other = read(write([{"text": "b"}, {"text": "a"}, {"text": "a"}], "three.jsonl"))
    a, b, twin = (document.key for document in first.documents)
    assert a == twin != b
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert one(write([{"prompt": "", "completion": "a"}], "four.jsonl")).key != a


def test_importing_the_corpus_loads_no_heavy_package():
    heavy = ["datasets", "pandas", "pyarrow", "torch", "transformers"]
    program = f"import sys, lorarank.corpus; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
