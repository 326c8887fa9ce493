"""What an inspection looks like, and the command."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from lorarank.cli import main
from lorarank.inspect import InspectOptions, inspect
from lorarank.report import inspected
from lorarank.report.markdown_text import Markdown
from lorarank.report.page import Page
from lorarank.report.plain import as_csv, laid_out

SHAPES = {
    "transformer.wte.weight": (50, 64),
    "transformer.h.0.attn.c_attn.weight": (64, 192),
    "transformer.h.0.attn.c_proj.weight": (64, 64),
    "transformer.h.0.mlp.c_fc.weight": (64, 256),
    "transformer.h.0.mlp.c_fc.bias": (256,),
    "transformer.h.0.mlp.c_proj.weight": (256, 64),
    "lm_head.weight": (50, 64),
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A GPT-2 of one layer."""
    return make(tmp_path / "gpt2")


def make(folder: Path, extra: str = "") -> Path:
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "gpt2"}', encoding="utf-8")
    tensors = {key: np.zeros(shape, np.float16) for key, shape in SHAPES.items()}
    if extra:
        tensors[f"{extra}.weight"] = np.zeros((4, 4), np.float16)
    save_file(tensors, folder / "model.safetensors")
    return folder


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(main, ["inspect", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_whole_page(model: Path, golden: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parent)
    golden("gpt2.txt", run("gpt2"))
    golden("gpt2-rank.txt", run("gpt2", "--rank", "8", "--target", "c_attn,c_proj", "--modules"))


def test_formats(model: Path) -> None:
    plain = json.loads(run(model, "--format", "json"))
    assert [one["name"] for one in plain["sets"]] == ["qv", "attention", "all-linear"]
    cost = plain["sets"][2]["costs"][4]
    per_rank = (64 + 192) + (64 + 64) + 2 * (64 + 256)
    assert (cost["r"], cost["parameters"], cost["training_bytes"]) == (16, 16 * per_rank, 16 * 16 * per_rank)
    rows = list(csv.DictReader(io.StringIO(run(model, "--format", "csv"))))
    assert [(row["type"], row["kind"]) for row in rows] == [
        ("lm_head", "head"),
        ("c_attn", "Conv1D"),
        ("c_proj", "Conv1D"),
        ("c_fc", "Conv1D"),
        ("c_proj", "Conv1D"),
        ("wte", "embedding"),
    ]
    assert run(model, "--format", "markdown").startswith("**55,808 parameters; LoRA on all-linear")


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("cattn", " Did you mean c_attn?"),
        ("mlp.cfc,cproj", " Did you mean c_fc,c_proj?"),
        ("atention", " Did you mean attention?"),
        ("xyz", ""),
        ("cattn,xyz", ""),
    ],
)
@pytest.mark.parametrize("rank", [(), ("--rank", "8")])
def test_a_pattern_without_a_hit_is_the_headline_and_no_column(
    model: Path, pattern: str, meant: str, rank: tuple[str, ...]
) -> None:
    page = run(model, "--target", pattern, *rank)
    assert page.splitlines()[0] == f"55,808 parameters; {pattern} hits no layer, which PEFT refuses.{meant}"
    assert " 0 B" not in page
    assert "0.00%" not in page
    assert "Linear layers end in: c_attn, c_fc, c_proj." in " ".join(page.split())
    if not rank:
        assert "Memory and disk of all-linear" in page
    assert page.splitlines()[0] in run(model, "--target", pattern, *rank, "--format", "markdown").replace("\\", "")


def test_a_set_that_a_model_has_no_layer_of(tmp_path: Path) -> None:
    save_file({"mlp.up_proj.weight": np.zeros((8, 4), np.float32)}, tmp_path / "model.safetensors")
    page = run(tmp_path, "--target", "qv", "--rank", "2")
    assert page.splitlines()[0] == "32 parameters; no layer is one of qv."
    assert "No layer of the model is one of qv. Linear layers end in: up_proj." in page


def test_a_mixture_of_experts_is_told_in_a_sentence(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = {"model_type": "mixtral", "num_key_value_heads": 2, "num_local_experts": 4, "vocab_size": 50} | sizes
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    page = run(tmp_path)
    assert "parameters; LoRA on all-linear with experts at r = 16 trains " in page.splitlines()[0]
    assert "Memory and disk of all-linear with experts\n" in page
    assert "Hit by all-linear with experts: " in run(tmp_path, "--target", "all-linear")


def test_names_cannot_move_a_cursor(tmp_path: Path) -> None:
    found = inspect(make(tmp_path / "model", "a\x1b[31m\n.q_proj"), InspectOptions(target=r".*q_proj|.*c_attn|.*h.*"))
    for text in (
        laid_out(Page(), inspected.lay, found, all_modules=True),
        laid_out(Markdown(), inspected.lay, found, all_modules=True),
        inspected.to_json(found),
        as_csv(inspected.rows(found)),
    ):
        assert "\x1b" not in text
        assert "31m\n" not in text


def test_a_pattern_is_one_heading_of_a_markdown_table(model: Path) -> None:
    table = run(model, "--target", ".*c_attn|.*c_fc", "--format", "markdown").partition("### LoRA parameters")[2]
    headings, line = table.split("\n")[2:4]
    assert r" .\*c\_attn\|.\*c\_fc " in headings
    assert len(re.findall(r"(?<!\\)\|", headings)) == line.count("|")


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    for arguments in ([tmp_path], [tmp_path / "nowhere"], [tmp_path, "--rank", "0"], [tmp_path, "--target", ","]):
        result = CliRunner().invoke(main, ["inspect", *map(str, arguments)])
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
