"""Text whose true rank is known: sampled from a pretrained model plus a ΔW of planted rank in every linear module.

The planted directions are random, all of one size, and that size is set so that the base model loses about
:data:`GAP` nats per token more on the teacher's text than the teacher itself. Rank 0 is the base model's own text,
whole documents of it; a rank below 0 is no teacher at all but uniformly random tokens.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

GAP = 1.0
ROWS, HELDOUT, LENGTH, AT_ONCE, LONGEST = 2_000, 200, 48, 200, 200


def perturbed(model: Any, rank: int, size: float, seed: int) -> None:
    """Add size·‖W‖·U·Vᵀ/√rank to every linear module but the head, U and V with orthonormal columns."""
    generator = torch.Generator().manual_seed(1_000 * rank + seed)
    head = model.get_output_embeddings()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear) and module is not head:
                out, inner = module.weight.shape
                U = torch.linalg.qr(torch.randn(out, rank, generator=generator))[0]
                V = torch.linalg.qr(torch.randn(inner, rank, generator=generator))[0]
                module.weight += size * module.weight.norm() / rank**0.5 * (U @ V.T).to(module.weight.dtype)


@torch.no_grad()
def sampled(model: Any, rows: int, generator: torch.Generator) -> torch.Tensor:
    """(rows, LENGTH) tokens drawn from the model at temperature 1, beginning anywhere in the vocabulary."""
    words = model.config.vocab_size
    tokens = torch.randint(0, words, (rows, 1), generator=generator)
    cache = None
    for _ in range(LENGTH - 1):
        out = model(input_ids=tokens[:, -1:] if cache is not None else tokens, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        drawn = torch.multinomial(torch.softmax(out.logits[:, -1].float(), dim=-1), 1, generator=generator)
        tokens = torch.cat([tokens, drawn], dim=1)
    return tokens


@torch.no_grad()
def own_texts(model: Any, tokenizer: Any, rows: int, generator: torch.Generator) -> list[str]:
    """Whole documents of the model: from one end-of-sequence token to the next, and read back as they were written."""
    end = tokenizer.eos_token_id
    tokens, cache = torch.full((rows, 1), end), None
    for _ in range(LONGEST):
        out = model(input_ids=tokens[:, -1:], past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        drawn = torch.multinomial(torch.softmax(out.logits[:, -1].float(), dim=-1), 1, generator=generator)
        tokens = torch.cat([tokens, drawn], dim=1)
    texts = []
    for row in tokens[:, 1:].tolist():
        whole = row[: row.index(end)] if end in row else []
        text = tokenizer.decode(whole)
        if len(whole) > 1 and tokenizer(text)["input_ids"] == whole:
            texts.append(text)
    return texts


@torch.no_grad()
def loss(model: Any, tokens: torch.Tensor) -> float:
    return float(model(input_ids=tokens, labels=tokens).loss)


def teacher(folder: Path, rank: int, seed: int) -> tuple[Any, dict[str, float]]:
    """The teacher and what is known of it; the size is found by halving the interval on 100 sampled rows."""
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    if rank <= 0:
        return base, {"size": 0.0, "gap": 0.0}
    low, high, gap = 0.0, 2.0, 0.0
    model = base
    for _ in range(8):
        size = (low + high) / 2
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        perturbed(model, rank, size, seed)
        text = sampled(model, 100, torch.Generator().manual_seed(seed))
        gap = loss(base, text) - loss(model, text)
        low, high = (size, high) if gap < GAP else (low, size)
    return model, {"size": size, "gap": gap}


def write(folder: Path, output: Path, rank: int, seed: int) -> tuple[Path, Path]:
    """``train.jsonl`` and ``val.jsonl`` of ``text`` rows, and ``teacher.json``; written once."""
    paths = output / "train.jsonl", output / "val.jsonl"
    if (output / "teacher.json").is_file():
        return paths
    output.mkdir(parents=True, exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model, known = teacher(folder, rank, seed)
    generator = torch.Generator().manual_seed(10_000 + 1_000 * max(rank, 0) + seed)
    for path, rows in zip(paths, (ROWS, HELDOUT), strict=True):
        lines = []
        for _ in range(rows // AT_ONCE):
            if rank == 0:
                lines += [json.dumps({"text": text}) + "\n" for text in own_texts(model, tokenizer, AT_ONCE, generator)]
                continue
            if rank < 0:
                tokens = torch.randint(0, model.config.vocab_size, (AT_ONCE, LENGTH), generator=generator)
            else:
                tokens = sampled(model, AT_ONCE, generator)
            lines += [json.dumps({"text": tokenizer.decode(row)}) + "\n" for row in tokens]
        path.write_text("".join(lines), encoding="utf-8")
    (output / "teacher.json").write_text(json.dumps({"rank": rank, "seed": seed, **known}) + "\n")
    return paths
