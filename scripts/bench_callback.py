"""What LoraRankCallback costs a trainer at every=100: the same steps with and without it, side by side, medians.

Each round trains the demo model by transformers' Trainer with and without the callback, in alternating order. The cost
is told twice: by the callback's own clock as a share of the time of a step, and by the difference of the two runs,
which on a machine with other work is mostly noise. Seven trainings of 100 steps: a minute and a half on one idle core.

    OMP_NUM_THREADS=1 python scripts/bench_callback.py --output data/evidence/bench-callback.json
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
from typing import Any

import torch
import transformers
from adapted import load_adapted
from transformers import Trainer, TrainingArguments

from lorarank import LoraRankCallback
from lorarank.json_files import write_json
from lorarank.probe import model as models
from lorarank.probe.material import gather
from lorarank.probe.options import ProbeOptions
from lorarank.probe.training import Ordered, schedule_for

DEMO = Path(__file__).resolve().parent.parent / "data" / "demo"

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--rank", type=int, default=32)
parser.add_argument("--steps", type=int, default=100)
parser.add_argument("--every", type=int, default=100)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--output", type=Path, required=True)
given = parser.parse_args()
warnings.simplefilter("ignore")
transformers.logging.set_verbosity_error()

data = str(DEMO / "train.jsonl")
options = ProbeOptions(str(DEMO / "model"), data, Path("unused"), rank=given.rank, tokens=given.steps * 512)
material = gather(options)
model = load_adapted(material.folder, options, models.choose_device("cpu"), torch.float32)
start = models.adapter_weights(model)
rows = material.rows(0, 0, True)
schedule = schedule_for(rows, rows_per_step=4, tokens=10**7, seed=0).first(given.steps)


class Timed(LoraRankCallback):
    """The callback with a clock around every call."""

    def __init__(self, every: int) -> None:
        super().__init__(every)
        self.seconds = 0.0

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        begun = time.perf_counter()
        super().on_step_end(*args, **kwargs)
        self.seconds += time.perf_counter() - begun


class Clock(transformers.TrainerCallback):
    """Seconds of every step."""

    def __init__(self) -> None:
        self.steps: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.begun = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.steps.append(time.perf_counter() - self.begun)


def trained(callback: Timed | None) -> dict[str, float]:
    """Wall time, the median step, and what the callback took."""
    models.restore_weights(model, start)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=given.steps,
            per_device_train_batch_size=4,
            learning_rate=1e-3,
            use_cpu=True,
            save_strategy="no",
            logging_steps=10,
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        # the clock stops before the callback begins
        callbacks: list[transformers.TrainerCallback] = [clock] if callback is None else [clock, callback]
        trainer = Trainer(model=model, args=arguments, train_dataset=Ordered(rows, schedule), callbacks=callbacks)
        trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
        begun = time.perf_counter()
        trainer.train()
        wall = time.perf_counter() - begun
    return {
        "wall": round(wall, 3),
        "median_step": round(statistics.median(clock.steps), 5),
        "callback": 0.0 if callback is None else round(callback.seconds, 5),
    }


rounds: list[dict[str, Any]] = []
trained(Timed(given.every))  # warms up
for number in range(given.rounds):
    pair: dict[str, Any] = {}
    for name in ("plain", "watched") if number % 2 == 0 else ("watched", "plain"):
        pair[name] = trained(Timed(given.every) if name == "watched" else None)
    pair["share_of_a_step"] = round(pair["watched"]["callback"] / given.steps / pair["watched"]["median_step"], 5)
    pair["wall_ratio"] = round(pair["watched"]["wall"] / pair["plain"]["wall"], 4)
    rounds.append(pair)
    print(pair, flush=True)
result = {
    "model": "data/demo/model",
    "modules": sum(hasattr(module, "lora_A") for module in model.modules()),
    "rank": given.rank,
    "every": given.every,
    "steps": given.steps,
    "rounds": rounds,
    "median_share_of_a_step": statistics.median(entry["share_of_a_step"] for entry in rounds),
    "median_wall_ratio": statistics.median(entry["wall_ratio"] for entry in rounds),
    "target": "at most 0.01 of a step",
    "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, float32",
    "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
}
write_json(given.output, result)
print("share of a step", result["median_share_of_a_step"], "wall", result["median_wall_ratio"])
