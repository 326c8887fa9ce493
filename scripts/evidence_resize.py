"""What a cut does to a real adapter on a real model: logits before and after, beside a dense truncation of PEFT's own.

The adapter is cut to half its rank, and to as many parameters with a rank for each module; both are loaded by PEFT and
their logits on some text compared with those of the whole adapter. The yardstick is what the adapter itself changes.

    python scripts/evidence_resize.py ADAPTER BASE --output data/evidence/resize.json
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from lorarank import adapters
from lorarank.json_files import write_json
from lorarank.resize import ResizeOptions, resize

ROOT = Path(__file__).resolve().parent.parent

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("adapter", type=Path)
parser.add_argument("base", type=Path)
parser.add_argument("--text", type=Path, default=ROOT / "data" / "demo" / "heldout.jsonl")
parser.add_argument("--tokens", type=int, default=256)
parser.add_argument("--origin", default="", help="where the adapter is from, for the record")
parser.add_argument("--output", type=Path, required=True)
given = parser.parse_args()

torch.set_num_threads(1)
tokenizer = AutoTokenizer.from_pretrained(given.base)
text = "\n\n".join(json.loads(line)["text"] for line in given.text.read_text(encoding="utf-8").splitlines())
tokens = torch.tensor(tokenizer(text)["input_ids"][: given.tokens]).reshape(-1, 128)

adapter = adapters.open(given.adapter)
half = max(module.r for module in adapter.modules) // 2
cuts = {
    "half the rank": ResizeOptions(rank=half),
    "half the parameters, a rank for each module": ResizeOptions(params=adapter.parameters // 2, per_module=True),
}


def dense(model: PeftModel, name: str, k: int) -> None:
    """Cut every delta weight of an adapter by a dense SVD in float64, the long way."""
    module: Any
    for module in model.modules():
        if name in getattr(module, "lora_A", {}):
            scaling = module.scaling[name]
            lora_A, lora_B = module.lora_A[name].weight, module.lora_B[name].weight
            U, s, Vt = torch.linalg.svd(scaling * lora_B.double() @ lora_A.double(), full_matrices=False)
            lora_A.data[:], lora_B.data[:] = 0, 0
            lora_A.data[:k] = Vt[:k].float()
            lora_B.data[:, :k] = (U[:, :k] * s[:k] / scaling).float()


@torch.no_grad()
def against(model: PeftModel, name: str | None) -> dict[str, Any]:
    """How the logits with an adapter (``None``: the base) differ from those with the whole one."""
    divergence = same = squares = largest = 0.0
    for row in tokens:
        model.set_adapter("whole")
        whole = model(row[None]).logits[0]
        if name is None:
            with model.disable_adapter():
                other = model(row[None]).logits[0]
        else:
            model.set_adapter(name)
            other = model(row[None]).logits[0]
        p, q = whole.log_softmax(-1), other.log_softmax(-1)
        divergence += float((p.exp() * (p - q)).sum())
        same += float((whole.argmax(-1) == other.argmax(-1)).sum())
        squares += float((whole - other).square().mean(-1).sum())
        largest = max(largest, float((whole - other).abs().max()))
    count = tokens.numel()
    return {
        "kl_nats_per_token": divergence / count,
        "same_top_token": same / count,
        "rms_logit_difference": (squares / count) ** 0.5,
        "largest_logit_difference": largest,
    }


with tempfile.TemporaryDirectory() as folder:
    done = {name: resize(given.adapter, Path(folder) / str(i), how) for i, (name, how) in enumerate(cuts.items())}
    base = AutoModelForCausalLM.from_pretrained(given.base, dtype=torch.float32).eval()
    model = PeftModel.from_pretrained(base, given.adapter, adapter_name="whole")
    model.load_adapter(given.adapter, adapter_name="dense")
    for index in range(len(cuts)):
        model.load_adapter(Path(folder) / str(index), adapter_name=f"cut{index}")
    dense(model, "dense", half)
    found = {
        "base alone": against(model, None),
        "half the rank, by a dense SVD of PEFT's delta weights": against(model, "dense"),
    }
    for index, (name, result) in enumerate(done.items()):
        found[name] = against(model, f"cut{index}") | {
            "r": list(result.r),
            "parameters": result.parameters,
            "energy_dropped": result.dropped,
            "most_dropped_of_a_module": max(module.dropped for module in result.modules),
        }

write_json(
    given.output,
    {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "command": " ".join(["python", "scripts/evidence_resize.py", "ADAPTER", "BASE", "--output", given.output.name]),
        "adapter": given.adapter.name,
        "origin": given.origin,
        "r": sorted({module.r for module in adapter.modules}),
        "parameters": adapter.parameters,
        "base": given.base.name,
        "base_class": type(base).__name__,
        "text": given.text.name,
        "tokens": tokens.numel(),
        "precision": "float32, one thread",
        "versions": {
            "python": sys.version.split()[0],
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "against_the_whole_adapter": found,
    },
)
