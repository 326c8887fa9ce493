"""Nothing is gone on with, and no point is used again, where the model behind the same name is another."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from lorarank import runs
from lorarank.errors import ModelError, RunError
from lorarank.probe import ProbeOptions, contents, point, probe
from lorarank.probe.material import gather
from lorarank.sweep import SweepOptions, sweep

TEMPLATE = "{% for message in messages %}{{ message.role }} {{ message.content }} {% endfor %}"


def conversation(words: int) -> list[dict[str, str]]:
    """A question and its answer."""
    return [{"role": "user", "content": "one " * words}, {"role": "assistant", "content": "two three"}]


def zero_the_middle(model: Path) -> None:
    """The last quarter of the weights but for its end: neither the header nor an end of the file."""
    path = model / "model.safetensors"
    content = path.read_bytes()
    begin, end = len(content) * 3 // 4, len(content) - 100
    path.write_bytes(content[:begin] + bytes(end - begin) + content[end:])


def normalise_away(model: Path) -> None:
    """Another normalizer: one word becomes unknown."""
    path = model / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    tokenizer["normalizer"] = {"type": "Replace", "pattern": {"String": "cat"}, "content": "CAT"}
    path.write_text(json.dumps(tokenizer), encoding="utf-8")


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, to be changed."""
    return shutil.copytree(tiny_model, tmp_path / "model")


def options(model: Path, data: Path, output: Path, **more: object) -> ProbeOptions:
    given = {"rank": 4, "tokens": 1000, "batch_tokens": 128, "device": "cpu", **more}
    return ProbeOptions(str(model), str(data), output, **given)  # type: ignore[arg-type]


def test_the_files_are_hashed_whole_and_once(model: Path, tiny_data: Path, tmp_path: Path) -> None:
    material = gather(options(model, tiny_data, tmp_path / "run"))
    contents._sha256_of.cache_clear()
    found = contents.contents(material)
    assert sorted(found) == ["config.json", "model.safetensors", "tokens"]
    for name in ("config.json", "model.safetensors"):
        assert found[name] == hashlib.sha256((model / name).read_bytes()).hexdigest()
    assert contents.contents(material) == found
    assert contents._sha256_of.cache_info().misses == 2
    zero_the_middle(model)
    assert contents.changed(found, contents.contents(material)) == "model.safetensors"
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(b"pickled")
    assert sorted(contents.contents(material)) == ["config.json", "pytorch_model.bin", "tokens"]


def test_a_file_that_cannot_be_read_is_one_line(model: Path, tiny_data: Path, tmp_path: Path) -> None:
    material = gather(options(model, tiny_data, tmp_path / "run"))
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").symlink_to("nowhere")
    with pytest.raises(ModelError, match=r"model\.safetensors: it cannot be read \(No such file"):
        contents.contents(material)


def test_tokenizer_and_template_are_told_by_what_they_make_of_the_data(
    model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    chats = tmp_path / "chats.jsonl"
    chats.write_text("".join(json.dumps({"messages": conversation(words)}) + "\n" for words in range(1, 60)))
    (model / "chat_template.jinja").write_text(TEMPLATE)

    def tokens(data: Path) -> str:
        return contents.contents(gather(options(model, data, tmp_path / "run")))["tokens"]

    text, chat = tokens(tiny_data), tokens(chats)
    (model / "chat_template.jinja").write_text("{# the same #}" + TEMPLATE)
    assert tokens(chats) == chat
    (model / "chat_template.jinja").write_text(TEMPLATE.replace("message.content", "'the ' + message.content"))
    assert tokens(chats) != chat
    assert tokens(tiny_data) == text  # prompts and completions need no template
    normalise_away(model)
    assert tokens(tiny_data) != text


def test_the_tokens_are_the_same_on_every_day(
    model: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chats = tmp_path / "chats.jsonl"
    chats.write_text("".join(json.dumps({"messages": conversation(words)}) + "\n" for words in range(1, 60)))
    (model / "chat_template.jinja").write_text("{{ 'cat ' * strftime_now('%d') | int }}" + TEMPLATE)

    def tokens(day: int) -> str:
        today = SimpleNamespace(now=lambda: datetime.datetime(2026, 11, day))
        monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", today)
        return contents.contents(gather(options(model, chats, tmp_path / "run")))["tokens"]

    assert tokens(1) == tokens(2)


def points(folder: Path) -> dict[str, list[float]]:
    """Losses of every point."""
    return {path.name: json.loads(path.read_text())["sums"] for path in folder.glob("points/*.json")}


@pytest.mark.parametrize(
    ("change", "what"),
    [(zero_the_middle, "model.safetensors"), (normalise_away, "the tokenizer or the chat template")],
)
def test_a_sweep_trains_again_where_the_model_is_another(
    model: Path,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], None],
    what: str,
) -> None:
    said: list[str] = []
    monkeypatch.setattr(point, "ENDS", 16)  # the tiny model has no middle otherwise

    def swept(output: str) -> dict[str, list[float]]:
        given = SweepOptions(
            str(model),
            str(tiny_data),
            tmp_path / output,
            ranks=(1, 2),
            lrs=(3e-3,),
            tokens=1000,
            batch_tokens=128,
            device="cpu",
        )
        sweep(given, announce=said.append)
        return points(tmp_path / output)

    before = swept("one")
    assert swept("one") == before
    assert said == []
    change(model)
    after = swept("one")
    folder = tmp_path / "one" / "points"
    assert said == [f"{folder}: {what} changed since points in it were trained. They are trained again."]
    assert after.keys() == before.keys()
    assert all(after[name] != before[name] for name in before)
    assert after == swept("fresh")


@pytest.mark.parametrize(
    ("change", "what"),
    [(zero_the_middle, r"model\.safetensors"), (normalise_away, "the tokenizer or the chat template")],
)
def test_a_probe_does_not_go_on_with_another_model(
    model: Path, tiny_data: Path, tmp_path: Path, change: Callable[[Path], None], what: str
) -> None:
    given = options(model, tiny_data, tmp_path / "run")

    def interrupt(progress: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        probe(given, report=interrupt)
    again = dataclasses.replace(given, resume=True)
    with pytest.raises(KeyboardInterrupt):  # it goes on
        probe(again, report=interrupt)
    change(model)
    with pytest.raises(RunError, match=f"{what} changed since the run was begun. Resume it as it was, or begin anew"):
        probe(again, report=interrupt)
    kept = given.output / runs.PROGRESS / "options.json"
    begun_long_ago = {k: v for k, v in json.loads(kept.read_text()).items() if k != "contents"}
    kept.write_text(json.dumps(begun_long_ago))
    with pytest.raises(KeyboardInterrupt):  # there is nothing to compare with
        probe(again, report=interrupt)
