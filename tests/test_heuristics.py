"""The reference table: every row and number, and the first guess for a model and data."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lorarank import first_guess as guessing
from lorarank import heuristics
from lorarank.capacity import capacity_floor
from lorarank.errors import ModelError, OptionError
from lorarank.first_guess import first_guess
from lorarank.inspect import inspect
from lorarank.inspect.layers import Layer
from lorarank.model_shapes import from_config, read_shapes
from lorarank.report import reference
from lorarank.report.markdown_text import Markdown
from lorarank.report.page import Page
from lorarank.report.plain import laid_out

LLAMA_3_1_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 32,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}


SQUARE = Layer("q_proj", "linear", 4096, 4096)


def write_config(folder: Path, config: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def parameters(folder: Path, r: int, types: tuple[str, ...]) -> int:
    shapes = from_config(folder).types
    return r * sum(shapes[name][1] for name in types)


@pytest.mark.parametrize(
    ("task", "low", "high"),
    [
        ("style", 4, 8),
        ("domain", 8, 16),
        ("classification", 16, 32),
        ("reasoning", 32, 64),
        ("large", 64, 128),
    ],
)
def test_rows(task: str, low: int, high: int) -> None:
    row = heuristics.task_row(task)
    assert (row.low, row.high) == (low, high)
    assert row.label
    assert row.why


def test_the_rows_are_in_the_order_of_the_table() -> None:
    assert list(heuristics.TASKS) == ["style", "domain", "classification", "reasoning", "large"]
    assert heuristics.IN_DOUBT == 16


@pytest.mark.parametrize(
    ("r", "count", "share"),
    [(4, 32_768, "0.2%"), (8, 65_536, "0.4%"), (16, 131_072, "0.8%"), (32, 262_144, "1.6%"), (64, 524_288, "3.1%")],
)
def test_parameters_of_a_square_matrix(r: int, count: int, share: str) -> None:
    assert r * SQUARE.parameters_per_rank == count
    assert f"{count / 4096**2:.1%}" == share


def test_attention_of_a_7b_model_at_16() -> None:
    count = 4 * 32 * 16 * SQUARE.parameters_per_rank
    assert count == 16_777_216
    assert f"{count / 7e9:.2%}" == "0.24%"


def test_llama_3_1_8b_from_its_configuration(tmp_path: Path) -> None:
    folder = write_config(tmp_path, LLAMA_3_1_8B)
    attention, everything = heuristics.LLAMA_TARGETS["q, k, v, o"], heuristics.LLAMA_TARGETS["all linear layers"]
    assert parameters(folder, 16, attention) == 13_631_488  # keys and values are 1024 wide
    assert parameters(folder, 8, everything) == 20_971_520
    # the whole model has 8,030,261,248; norms are left out of the count
    assert from_config(folder).parameters == pytest.approx(8_030_261_248, rel=1e-4)
    assert 8_030_261_248 + 20_971_520 == 8_051_232_768


@pytest.mark.parametrize(
    ("change", "ratio"), [({}, 3.1), ({"num_key_value_heads": 32, "intermediate_size": 11008}, 2.4)]
)  # Llama 3.1 8B, Llama 2 7B
def test_all_linear_layers_about_triple_the_parameters_of_attention(
    tmp_path: Path, change: dict[str, int], ratio: float
) -> None:
    folder = write_config(tmp_path, LLAMA_3_1_8B | change)
    attention, everything = heuristics.LLAMA_TARGETS["q, k, v, o"], heuristics.LLAMA_TARGETS["all linear layers"]
    assert parameters(folder, 1, everything) / parameters(folder, 1, attention) == pytest.approx(ratio, abs=0.05)


def test_conventions_and_the_qlora_base() -> None:
    assert [alpha.name for alpha in heuristics.ALPHA_CONVENTIONS] == ["2r", "r", "16"]  # the first two are recommended
    assert heuristics.LORA_DROPOUT == 0.05
    assert dict(heuristics.QLORA_BASE) == {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": "bfloat16",
        "device_map": "auto",
    }


@pytest.mark.parametrize(
    ("r", "task", "agrees"),
    [
        (8, "style", True),
        (2, "style", True),
        (1, "style", False),
        (16, "style", True),
        (32, "style", False),
        (4, "reasoning", False),
        (16, "reasoning", True),
        (256, "large", True),
    ],
)
def test_a_rank_agrees_within_a_doubling_of_the_row(r: int, task: str, agrees: bool) -> None:
    found = heuristics.compare(r, task)
    assert found.agrees is agrees
    assert str(r) in found.sentence


@pytest.mark.parametrize(
    ("r", "ends"),
    [
        (4, ": 4 is within."),
        (2, " is below it, by one doubling at most."),
        (32, " is above it, by more than one doubling."),
    ],
)
def test_how_far_from_the_row_is_said(r: int, ends: str) -> None:
    assert heuristics.compare(r, "style").sentence.endswith(ends)


def test_no_row_is_forced_on_an_unknown_task() -> None:
    found = heuristics.compare(4, None)
    assert (found.row, found.agrees) == (None, None)
    assert "16" in found.sentence


def test_an_unknown_row_lists_those_there_are() -> None:
    with pytest.raises(OptionError, match="style, domain, classification, reasoning, large"):
        heuristics.task_row("poetry")


def test_the_capacity_floor_by_hand() -> None:
    # 1000 tokens of 2 bits at 2 bits a parameter: 1000 parameters; 100 of them a rank
    floor = capacity_floor(1000, 2 * np.log(2), 100)
    assert (floor.bits_per_token, floor.bits, floor.parameters, floor.rank) == pytest.approx((2, 2000, 1000, 10))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with weights of a small Llama in two files, and no tokenizer."""
    folder = write_config(tmp_path / "model", {"model_type": "llama"})
    weights = {
        "model.embed_tokens.weight": (100, 64),
        "lm_head.weight": (100, 64),
        "model.norm.weight": (64,),
        "model.layers.0.self_attn.q_proj.weight": (64, 64),
        "model.layers.0.self_attn.k_proj.weight": (32, 64),
    }
    more = {"model.layers.1.self_attn.q_proj.weight": (64, 64), "model.layers.1.input_layernorm.weight": (64,)}
    for name, tensors in (("model-1", weights), ("model-2", more)):
        save_file({key: np.zeros(size, np.float16) for key, size in tensors.items()}, folder / f"{name}.safetensors")
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two documents, one of them twice: 4,000 characters of completion, each different."""
    path = tmp_path / "train.jsonl"
    rows = [{"prompt": f"{i}", "completion": str(i) * 2000} for i in (1, 2, 2)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_shapes_come_from_headers_alone(model: Path) -> None:
    shapes = read_shapes(str(model))
    assert dict(shapes.linear) == {
        "model.layers.0.self_attn.q_proj": (64, 64),
        "model.layers.0.self_attn.k_proj": (32, 64),
        "model.layers.1.self_attn.q_proj": (64, 64),
    }
    assert shapes.parameters_per_rank == 128 + 96 + 128
    assert shapes.parameters == 2 * 6400 + 2 * 64 + 2 * 4096 + 2048
    assert dict(shapes.types) == {"q_proj": (2, 256), "k_proj": (1, 96)}


def test_packed_weights_fall_back_to_the_configuration(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "model", LLAMA_3_1_8B)
    save_file({"model.layers.0.self_attn.q_proj.weight": np.zeros((8, 1), np.uint8)}, folder / "model.safetensors")
    assert read_shapes(str(folder)).basis == "config.json"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no model's configuration"),
        ("{", "no model's configuration"),
        ('"x"', "no model's configuration"),
        ('{"model_type": "mamba"}', "mamba"),
        ('{"model_type": "llama"}', "hidden_size"),
        ("[" * 100_000, "nested too deeply"),
        ('{"model_type": ["llama"]}', "no model_type"),
        ('{"model_type": "llama", "text_config": []}', "hidden_size"),
        ('{"model_type": "llama", "hidden_size": NaN, "intermediate_size": 8}', "no number"),
        ('{"model_type": "llama", "hidden_size": Infinity, "intermediate_size": 8}', "no number"),
        ('{"model_type": "llama", "num_hidden_layers": 1000000000}', "1,000,000,000 layers"),
    ],
)
def test_a_configuration_that_does_not_tell(tmp_path: Path, content: str | None, says: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=says):
        read_shapes(str(tmp_path))


def test_a_configuration_that_is_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    for read in (read_shapes, inspect):
        with pytest.raises(ModelError, match="config"):
            read(str(tmp_path))


def stored(shape: str, size: int, dtype: str = "F32") -> bytes:
    """A safetensors file of one layer, ``size`` bytes of it behind a header that may say anything."""
    entry = f'{{"dtype": "{dtype}", "shape": {shape}, "data_offsets": [0, {size}]}}'
    header = f'{{"model.layers.0.self_attn.q_proj.weight": {entry}}}'.encode()
    return struct.pack("<Q", len(header)) + header + bytes(size)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty"),
        (b"\xff" * 20, "no complete safetensors file"),
        (b"\x05" + bytes(7) + b"hello", "no safetensors file"),
        (stored("[-4, 8]", 128), "is no shape"),
        (stored('"12"', 128), "is no shape"),
        (stored(f"[1{'0' * 400}, 8]", 128), "401 digits"),
        (stored("[4, 8]", 64), "both cannot be true"),
        (stored("[4, 8]", 128, "X9"), 'dtype "X9" is unknown'),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
    ],
)
@pytest.mark.parametrize("config", [None, "{", '{"model_type": "nobody-knows"}'])
def test_damaged_headers_are_named(tmp_path: Path, content: bytes, says: str, config: str | None) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    for read in (read_shapes, inspect):
        with pytest.raises(ModelError, match=rf"model\.safetensors.*{says}"):
            read(str(tmp_path))


@pytest.mark.parametrize("content", [b"", stored("[4, 8]", 128, "X9"), b"version https://git-lfs.github.com/spec/v1\n"])
def test_a_damaged_header_falls_back_to_the_configuration(tmp_path: Path, content: bytes) -> None:
    folder = write_config(tmp_path / "model", LLAMA_3_1_8B | {"num_hidden_layers": 1})
    (folder / "model.safetensors").write_bytes(content)
    assert read_shapes(str(folder)).basis == "config.json"
    assert "config.json" in inspect(folder).basis


@pytest.mark.parametrize("rest", [b"", bytes(127), bytes(132)])
def test_a_header_is_enough_whatever_is_behind_it(tmp_path: Path, rest: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(stored("[4, 8]", 128)[:-128] + rest)
    assert dict(read_shapes(str(tmp_path)).linear) == {"model.layers.0.self_attn.q_proj": (4, 8)}
    assert inspect(tmp_path).parameters == 32


def test_a_layer_without_numbers_is_none(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(stored("[0, 5]", 0))
    with pytest.raises(OptionError, match="no linear layer"):
        first_guess(model=str(tmp_path))
    inspect(tmp_path)


@pytest.mark.parametrize(("dtype", "size"), [("I8", 32), ("I32", 128), ("F8_E4M3", 32), ("F8_E8M0", 32), ("F4", 16)])
def test_quantised_weights_of_any_kind_fall_back_to_the_configuration(tmp_path: Path, dtype: str, size: int) -> None:
    folder = write_config(tmp_path / "model", LLAMA_3_1_8B)
    (folder / "model.safetensors").write_bytes(stored("[4, 8]", size, dtype))
    assert read_shapes(str(folder)).basis == "config.json"


def test_a_guess_without_a_tokenizer_counts_characters_and_says_so(
    model: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guessing, "_tokenizer", lambda folder: None)
    guess = first_guess("style", str(model), str(data))
    assert guess.data is not None
    assert (guess.data.documents, guess.data.target_tokens) == (3, 1000)  # the duplicate counts once
    assert "4 characters per token" in guess.data.counted
    assert guess.data.low.rank < guess.data.high.rank == pytest.approx(1000 * 2.6 / np.log(2) / 2 / 352)
    assert guess.r == 8  # the table's start; the floor of 5.3 rounds up to it
    assert any("not a measurement" in sentence for sentence in guess.sentences)


def test_the_capacity_floor_can_raise_the_guess(model: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guessing, "_tokenizer", lambda folder: None)
    monkeypatch.setattr(guessing, "CHARACTERS_PER_TOKEN", 1)
    guess = first_guess("style", str(model), str(data))
    assert guess.r == 32
    assert any("raises it to 32" in sentence for sentence in guess.sentences)


class Letters:
    eos_token, eos_token_id, bos_token, bos_token_id, chat_template = "$", ord("$"), None, None, None

    def __call__(self, texts: list[str], **_: object) -> dict[str, object]:
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}


def test_tokens_are_counted_with_the_models_tokenizer(model: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guessing, "_tokenizer", lambda folder: Letters())
    guess = first_guess(None, str(model), str(data))
    assert guess.data is not None
    assert guess.data.target_tokens == 2 * 2001  # each completion and its end
    assert guess.data.counted == "counted with the model's tokenizer"


def test_of_much_data_the_tokens_of_some_are_counted(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guessing, "_tokenizer", lambda folder: Letters())
    monkeypatch.setattr(guessing, "COUNTED", 300)
    path = tmp_path / "many.jsonl"
    path.write_text("".join(f'{{"prompt": "{i}", "completion": "{i:09}"}}\n' for i in range(300)), encoding="utf-8")
    guess = first_guess(None, str(model), str(path))
    assert guess.data is not None
    assert guess.data.target_tokens == pytest.approx(300 * 10, rel=0.02)
    assert guess.data.counted == "counted with the model's tokenizer in 26 documents, chosen by their hash"


def test_data_needs_a_model(data: Path) -> None:
    with pytest.raises(OptionError, match="Add --model"):
        first_guess(None, None, str(data))


def test_a_model_alone_shows_what_ranks_cost(model: Path) -> None:
    guess = first_guess(None, str(model))
    assert guess.r is None
    assert guess.model is not None
    assert [cost.parameters for cost in guess.model.costs][:3] == [352, 704, 1408]
    text = laid_out(Page(), reference.lay, guess)
    assert "q_proj" in text
    assert "1,408" in text


@pytest.mark.parametrize("task", [None, *heuristics.TASKS])
def test_every_format_says_that_nothing_was_measured(task: str | None) -> None:
    guess = first_guess(task)
    plain = json.loads(reference.to_json(guess))
    assert (plain["measured"], plain["source"]) == (False, "the project's reference table")
    assert len(plain["rows"]) == (5 if task is None else 1)
    for text in (laid_out(Page(), reference.lay, guess), laid_out(Markdown(), reference.lay, guess)):
        assert "not measured" in text.splitlines()[0]
        assert "8" in text


def test_the_whole_table_is_what_it_was(golden: Callable[[str, str], None]) -> None:
    golden("heuristics.txt", laid_out(Page(), reference.lay, first_guess()))
