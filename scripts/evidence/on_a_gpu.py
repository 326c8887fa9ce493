"""How long all pairs would take on a GPU, reckoned from what the host has to do; writes data/evidence/on-a-gpu.json.

A GPU has done a step of models this small before the host has handed out the next, so the host sets the time. What it
does is measured here: the probe's own training and measuring, of models with the pairs' layers but all widths at 64,
on rows of 8 tokens, of which a step has one. Times the steps and the passes that the pairs took. No GPU is used.

    python scripts/evidence/on_a_gpu.py --model demo=data/demo/model --model smollm2=FOLDER --model gemma3=FOLDER
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import os
import platform
import sys
import tempfile
import warnings
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import pairs
import torch
from bakeoff import EVIDENCE
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from lorarank.json_files import write_json
from lorarank.probe import ProbeOptions, probe
from lorarank.probe.options import batch_tokens_for
from lorarank.sweep import read

DEMO = pairs.HERE / "data" / "demo"
WIDTH, ROW, STEPS = 64, 8, 200


@dataclasses.dataclass(frozen=True)
class Host:
    """Seconds that a training step and a pass over one batch take where matrices have next to no work."""

    step: float
    a_pass: float


def thin(model: str, folder: Path) -> Path:
    """A model of the same layers, as thin as they come, with the demo's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(DEMO / "model")
    config = AutoConfig.from_pretrained(model)
    config.update(
        {
            "hidden_size": WIDTH,
            "intermediate_size": WIDTH,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": WIDTH // 2,
            "vocab_size": len(tokenizer),
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    tokenizer.save_pretrained(folder)
    return folder


def host(model: str, work: Path) -> Host:
    """What it takes of the host, by a probe's own clock."""
    options = ProbeOptions(
        str(thin(model, work / "thin")),
        str(DEMO / "train.jsonl"),
        work / "run",
        val=str(DEMO / "val.jsonl"),
        rank=4,
        tokens=STEPS * ROW,
        companion=False,
        lr=1e-3,
        batch_tokens=ROW,
        row_length=ROW,
    )
    manifest = probe(options).manifest
    seconds = manifest.wall_seconds
    return Host(
        seconds["training-0"] / manifest.training.steps, seconds["heldout-base"] / manifest.data.heldout_documents
    )


def work_of(pair: pairs.Pair) -> tuple[float, float]:
    """Steps and passes that a pair took, of its sweep and its probe; a GPU passes over as many tokens as a step has."""
    found, cost = read(pairs.KEPT / pair.name), pairs.read_record(pairs.record_of(pair))["cost"]
    of_sweep, of_probe = batch_tokens_for(pair.tokens), batch_tokens_for(pair.probed_tokens)
    steps = found.trained_tokens / of_sweep + cost["trained"] / of_probe
    return steps, (found.points + 1) * cost["point"] / of_sweep + cost["measured"] / of_probe


def main() -> None:
    """Measure the host, and multiply."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", required=True, metavar="NAME=FOLDER")
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    hosts = {}
    for name, model in (one.split("=", 1) for one in parser.parse_args().model):
        with tempfile.TemporaryDirectory() as work:
            hosts[name] = host(model, Path(work))
        print(name, hosts[name], flush=True)
    steps: defaultdict[str, float] = defaultdict(float)
    passes: defaultdict[str, float] = defaultdict(float)
    minutes = {}
    for pair in pairs.PAIRS:
        trained, measured = work_of(pair)
        steps[pair.model] += trained
        passes[pair.model] += measured
        minutes[pair.name] = (trained * hosts[pair.model].step + measured * hosts[pair.model].a_pass) / 60
    longest = max(minutes, key=minutes.__getitem__)
    write_json(
        EVIDENCE / "on-a-gpu.json",
        {
            "command": "python scripts/evidence/on_a_gpu.py --model NAME=FOLDER",
            "machine": f"{platform.machine()}, one thread, no GPU",
            "date": datetime.date.today().isoformat(),
            "load_average": os.getloadavg()[0],
            "models": {
                name: {
                    "step_milliseconds": round(1000 * one.step, 1),
                    "pass_milliseconds": round(1000 * one.a_pass, 1),
                    "steps": round(steps[name]),
                    "passes": round(passes[name]),
                }
                for name, one in hosts.items()
            },
            "pairs": len(minutes),
            "minutes_one_after_another": round(sum(minutes.values()), 1),
            "minutes_of_the_longest": {"pair": longest, "minutes": round(minutes[longest], 1)},
        },
    )


if __name__ == "__main__":
    main()
