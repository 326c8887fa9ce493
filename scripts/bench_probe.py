"""What the probe's bookkeeping costs over a bare Trainer + PEFT loop: same model, same rows, same process.

Each round trains the same steps bare and with everything the probe adds while training (log, spectra on the way,
checkpoints), in alternating order, and passes over the held-out rows with and without the moments. The ratio of a
round is (bookkept training + what the moments add) / bare training; the result is the median over rounds.

    python scripts/bench_probe.py MODEL --data TRAIN --val VAL --output data/evidence/bench-probe.json
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import torch
import transformers
from adapted import load_adapted
from transformers import Trainer, TrainingArguments

from lorarank.json_files import write_json
from lorarank.probe import model as models
from lorarank.probe.heldout import Moments, evaluate
from lorarank.probe.material import gather
from lorarank.probe.options import GRADIENT_CLIP, MOMENT_SHARE, WARMUP_SHARE, ProbeOptions
from lorarank.probe.training import Ordered, StepLogFile, TrainingRun, schedule_for, train
from lorarank.probe.unfinished import SNAPSHOTS

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("model")
parser.add_argument("--data", required=True)
parser.add_argument("--val", required=True)
parser.add_argument("--name", default="", help="what to call the model in the result")
parser.add_argument("--rank", type=int, default=64)
parser.add_argument("--tokens", type=int, default=61_440)
parser.add_argument("--rounds", type=int, default=2)
parser.add_argument("--output", type=Path, required=True)
given = parser.parse_args()
warnings.simplefilter("ignore")
transformers.logging.set_verbosity_error()

options = ProbeOptions(given.model, given.data, Path("unused"), val=given.val, rank=given.rank, tokens=given.tokens)
material = gather(options)
device = models.choose_device("auto")
dtype = models.choose_precision(device)
model = load_adapted(material.folder, options, device, dtype)
start = models.adapter_weights(model)
rows, heldout = material.rows(0, 0, True), material.heldout(True)
schedule = schedule_for(rows, rows_per_step=material.rows_per_step, tokens=given.tokens, seed=0)
micro = material.rows_per_step


def bare(folder: Path) -> float:
    """Seconds of a plain Trainer loop that keeps nothing."""
    models.restore_weights(model, start)
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=schedule.steps,
        per_device_train_batch_size=micro,
        learning_rate=1e-3,
        lr_scheduler_type="linear",
        warmup_steps=max(1, round(WARMUP_SHARE * schedule.steps)),
        max_grad_norm=GRADIENT_CLIP,
        optim="adamw_torch",
        bf16=dtype == torch.bfloat16,
        use_cpu=device.type == "cpu",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=Ordered(rows, schedule))
    begun = time.perf_counter()
    trainer.train()
    return time.perf_counter() - begun


def bookkept(folder: Path) -> float:
    """Seconds of the probe's own training of the same rows."""
    models.restore_weights(model, start)
    log = StepLogFile(folder / "log.jsonl", 0, None)
    run = TrainingRun(
        rows,
        schedule,
        1e-3,
        micro,
        dtype,
        folder=folder,
        snapshot_steps=tuple(round(share * schedule.steps) for share in SNAPSHOTS),
        on_step=log.append,
        on_snapshot=lambda step, found: write_json(
            folder / f"{step}.json", {name: values.tolist() for name, values in found.items()}
        ),
    )
    begun = time.perf_counter()
    train(model, run, options, folder)
    return time.perf_counter() - begun


def held_out(moments: Moments | None) -> float:
    """Seconds of a pass over the held-out rows."""
    begun = time.perf_counter()
    evaluate(
        model,
        heldout.rows,
        documents=heldout.pieces,
        rows_at_once=micro,
        dtype=dtype,
        moments=moments,
        gradient_tokens=round(MOMENT_SHARE * given.tokens),
    )
    return time.perf_counter() - begun


rounds = []
held_out(None)  # warms up
for number in range(given.rounds):
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        order = [("bare", bare, one), ("bookkept", bookkept, two)]
        seconds = {name: measure(Path(folder)) for name, measure, folder in (order if number % 2 == 0 else order[::-1])}
    seconds["held_out_plain"], seconds["held_out_moments"] = held_out(None), held_out(Moments())
    added = seconds["held_out_moments"] - seconds["held_out_plain"]
    ratio = (seconds["bookkept"] + added) / seconds["bare"]
    rounds.append({**{name: round(value, 3) for name, value in seconds.items()}, "ratio": round(ratio, 4)})
    print(rounds[-1], flush=True)
result = {
    "model": given.name or Path(given.model).name,
    "rank": given.rank,
    "steps": schedule.steps,
    "tokens": schedule.tokens(rows),
    "rounds": rounds,
    "median_ratio": statistics.median(entry["ratio"] for entry in rounds),
    "target": "at most 1.03",
    "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {dtype}",
    "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
}
write_json(given.output, result)
print("median ratio", result["median_ratio"])
