"""Make ``data/demo``: a small model pretrained on invented text, and a task that it has not seen.

Run ``.venv/bin/python scripts/make_demo.py``: seven minutes on one free core. The same seed gives the same text and
tokenizer everywhere, and the same weights on the same kind of processor.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import demo_text
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SEED = 20
VOCABULARY = 1024
ROWS, ROW_LENGTH = 16, 128
PEAK_LR, WARMUP = 4e-3, 60
HELD_OUT, TASK_TRAIN, TASK_VAL = 300, 1200, 150
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "<|assistant|>{% generation %}{{ message['content'] }}<|end|>{% endgeneration %}"
    "{% else %}<|user|>{{ message['content'] }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with single digits, trained on the pretraining text alone."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [demo_text.PAD, demo_text.END, demo_text.USER, demo_text.ASSISTANT]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(itertools.islice(demo_text.documents(SEED), 8000), trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        eos_token=demo_text.END,
        pad_token=demo_text.PAD,
        chat_template=CHAT_TEMPLATE,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def make_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A Llama of 1.6 million parameters; its narrowest module, 64 wide, leaves room for a probe of rank 64."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=192,
            intermediate_size=448,
            num_hidden_layers=4,
            num_attention_heads=6,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def token_stream(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> Iterator[int]:
    """The tokens of ``texts``, an end-of-text after each."""
    for text in texts:
        yield from tokenizer(text)["input_ids"]
        yield tokenizer.eos_token_id


def pretrain(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, excluded: Sequence[str], steps: int) -> None:
    """AdamW on rows cut from an endless stream without the ``excluded`` texts; linear warm-up, cosine to nothing."""
    forbidden = frozenset(excluded)
    stream = token_stream(tokenizer, (text for text in demo_text.documents(SEED + 1) if text not in forbidden))
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}], betas=(0.9, 0.98)
    )
    started = time.monotonic()
    model.train()
    for step in range(1, steps + 1):
        rate = PEAK_LR * min(step / WARMUP, 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        rows = torch.tensor(list(itertools.islice(stream, ROWS * ROW_LENGTH))).view(ROWS, ROW_LENGTH)
        loss = model(input_ids=rows, labels=rows).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 0 or step == steps:
            seconds = time.monotonic() - started
            print(f"step {step}/{steps}  loss {loss.item():.3f}  {seconds:.0f} s", file=sys.stderr)


def held_out_loss(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> float:
    """Mean negative log-likelihood, in nats, of every token of each text after its first, the end of text included."""
    total, count = 0.0, 0
    model.train(False)
    with torch.no_grad():
        for text in texts:
            ids = torch.tensor([list(token_stream(tokenizer, [text]))])
            targets = ids.shape[1] - 1
            total += model(input_ids=ids, labels=ids).loss.item() * targets
            count += targets
    return total / count


def unigram_entropy(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> float:
    """Entropy, in nats a token, of the frequencies of those same targets: the least a unigram model can lose."""
    counts = Counter(token for text in texts for token in list(token_stream(tokenizer, [text]))[1:])
    total = sum(counts.values())
    return -sum(n / total * math.log(n / total) for n in counts.values())


def write_rows(path: Path, rows: Iterable[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


README = """# The demo model and its task

Made by `scripts/make_demo.py` (seed {seed}); every word is generated by `scripts/demo_text.py`.

- `model/`: a Llama of {parameters:,} parameters in bfloat16 (4 layers, 192 wide, 6 heads on 2 key-value heads), with
  its byte-level BPE tokenizer of {vocabulary} tokens, pretrained on {pretraining_tokens:,} tokens of invented stories,
  letters, lists, sums and facts.
- `heldout.jsonl`: {held_out_documents} documents of that text which the model never saw. Its loss on them is
  **{held_out_loss:.3f} nats a token; the entropy of their tokens is {unigram_entropy:.3f}**, which is what the best
  model without context would lose.
- `train.jsonl` and `val.jsonl`: {task_train} and {task_val} rows of a task that is not in the pretraining text.
  Somebody arrives at a gate; the completion is the clerk's answer: the code and motto of the guild, the warden and
  region of the town, the market day of that region. Only these rows teach the guilds, wardens and market days.

`meta.json` holds the same figures.
"""


def make(folder: Path, steps: int) -> dict[str, Any]:
    """Write the whole of ``folder`` and return the figures of ``meta.json``."""
    torch.manual_seed(SEED)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    held_out = list(dict.fromkeys(itertools.islice(demo_text.documents(SEED + 2), HELD_OUT)))
    pretrain(model, tokenizer, held_out, steps)

    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)
    model.config.dtype = torch.bfloat16
    model.save_pretrained(folder / "model")
    (folder / "model" / "model.safetensors").chmod(0o644)
    tokenizer.save_pretrained(folder / "model")
    write_rows(folder / "heldout.jsonl", ({"text": text} for text in held_out))

    rows = demo_text.task(SEED + 3)
    unique = {row["prompt"]: row for row in itertools.islice(rows, 2 * (TASK_TRAIN + TASK_VAL))}
    task = list(unique.values())[: TASK_TRAIN + TASK_VAL]
    write_rows(folder / "train.jsonl", task[:TASK_TRAIN])
    write_rows(folder / "val.jsonl", task[TASK_TRAIN:])

    stored = LlamaForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    meta = {
        "seed": SEED,
        "parameters": model.num_parameters(),
        "vocabulary": len(tokenizer),
        "pretraining_tokens": steps * ROWS * ROW_LENGTH,
        "held_out_documents": len(held_out),
        "held_out_loss": round(held_out_loss(stored, tokenizer, held_out), 4),
        "unigram_entropy": round(unigram_entropy(tokenizer, held_out), 4),
        "task_train": TASK_TRAIN,
        "task_val": TASK_VAL,
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(README.format(**meta), encoding="utf-8")
    return meta


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    home = Path(__file__).resolve().parent.parent / "data" / "demo"
    parser.add_argument("--output", type=Path, default=home, help="folder to write (default: data/demo)")
    parser.add_argument("--steps", type=int, default=1000, help="pretraining steps (default: 1000)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    print(json.dumps(make(options.output, options.steps), indent=2))


if __name__ == "__main__":
    main()
