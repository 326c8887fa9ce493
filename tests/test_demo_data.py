"""The demo's model and task are what data/demo/README.md says they are."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

DEMO = Path(__file__).resolve().parent.parent / "data" / "demo"
META = json.loads((DEMO / "meta.json").read_text(encoding="utf-8"))


def rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (DEMO / name).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return pytest.importorskip("transformers").AutoTokenizer.from_pretrained(DEMO / "model")


@pytest.fixture(scope="module")
def model() -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.AutoModelForCausalLM.from_pretrained(DEMO / "model", dtype="float32")


def test_the_demo_fits_in_four_megabytes() -> None:
    assert sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()) <= 4_000_000


@pytest.mark.parametrize(("name", "count"), [("train.jsonl", "task_train"), ("val.jsonl", "task_val")])
def test_every_row_is_a_prompt_and_a_completion(name: str, count: str) -> None:
    task = rows(name)
    assert len(task) == META[count]
    assert all(set(row) == {"prompt", "completion"} and all(row.values()) for row in task)


def test_no_prompt_is_on_both_sides() -> None:
    train, val = ({row["prompt"] for row in rows(name)} for name in ("train.jsonl", "val.jsonl"))
    assert len(train) == META["task_train"]
    assert len(val) == META["task_val"]
    assert not train & val


def test_the_model_is_a_llama_in_bfloat16_that_takes_a_probe_of_rank_64(model: Any) -> None:
    config = json.loads((DEMO / "model" / "config.json").read_text(encoding="utf-8"))
    assert (config["model_type"], config["dtype"]) == ("llama", "bfloat16")
    assert config["num_key_value_heads"] < config["num_attention_heads"]
    assert model.num_parameters() == META["parameters"]
    linear = {name.rpartition(".")[2] for name, _ in model.named_modules() if name.endswith("_proj")}
    assert linear == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert min(min(p.shape) for name, p in model.named_parameters() if "_proj" in name) >= 64


def test_the_stated_loss_is_the_measured_one_and_well_under_the_unigram_entropy(model: Any, tokenizer: Any) -> None:
    torch = pytest.importorskip("torch")
    documents = [[*tokenizer(row["text"])["input_ids"], tokenizer.eos_token_id] for row in rows("heldout.jsonl")]
    documents.sort(key=len)
    losses: list[float] = []
    with torch.no_grad():
        for start in range(0, len(documents), 32):
            batch = documents[start : start + 32]
            # Padding on the right: a causal model's answers before it are the same.
            padded = [ids + [tokenizer.pad_token_id] * (len(batch[-1]) - len(ids)) for ids in batch]
            likelihoods = model(input_ids=torch.tensor(padded)).logits.log_softmax(-1)
            for ids, row in zip(batch, likelihoods, strict=True):
                losses += (-row[range(len(ids) - 1), ids[1:]]).tolist()
    counts = Counter(token for ids in documents for token in ids[1:])
    entropy = -sum(n / len(losses) * math.log(n / len(losses)) for n in counts.values())

    assert sum(losses) / len(losses) == pytest.approx(META["held_out_loss"], abs=2e-3)
    assert entropy == pytest.approx(META["unigram_entropy"], abs=1e-3)
    assert META["held_out_loss"] < META["unigram_entropy"] / 2
    readme = (DEMO / "README.md").read_text(encoding="utf-8")
    assert f"{META['held_out_loss']:.3f} nats" in readme
    assert f"{META['unigram_entropy']:.3f}" in readme


def test_text_survives_the_tokenizer(tokenizer: Any) -> None:
    for text in ("Mira, 34 years.\nRecord: Ä π 漢", rows("train.jsonl")[0]["prompt"]):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_chat_template_marks_what_the_assistant_says(tokenizer: Any) -> None:
    messages = [{"role": "user", "content": "What is 2 + 3?"}, {"role": "assistant", "content": "2 + 3 = 5"}]
    encoded = tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    said = [t for t, mask in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if mask]
    assert tokenizer.decode(said) == "2 + 3 = 5<|end|>"
