"""Cut a probe to rank k, train it on for a few steps, and measure: the predictor "cut and healed".

Adds ``healed`` to every data/evidence/pairs/NAME/record.json whose adapter is still in --work: [k, excess over the
uncut probe in nats per token, its standard error] for each k of the ladder below R.

    python scripts/evidence/heal.py --work WORK --model demo=data/demo/model
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import pairs
import torch
from peft import set_peft_model_state_dict
from safetensors.torch import load_file

from lorarank import adapters, runs
from lorarank.json_files import write_json
from lorarank.numerics.linalg import truncated_factors
from lorarank.numerics.paired import paired_difference
from lorarank.probe import ProbeOptions
from lorarank.probe import model as models
from lorarank.probe.planning import truncation_ranks
from lorarank.probe.point import Bench
from lorarank.probe.training import TrainingRun, schedule_for, train

STEPS = 12


def healed(run: runs.Run, options: ProbeOptions, scratch: Path) -> list[list[float]]:
    """The points; each trains STEPS steps from the probe's learning rate down to nothing, on rows in a new order."""
    bench = Bench(options)
    rows = bench.material.rows(0, options.seed + 1, bench.packed)
    order = schedule_for(
        rows, rows_per_step=bench.material.rows_per_step, tokens=options.token_budget, seed=options.seed + 1
    )
    set_peft_model_state_dict(bench.model, load_file(run.adapters[0] / "adapter_model.safetensors"))
    micro = bench.micro_rows
    whole, counts = bench.measured()
    modules = {module.name: module for module in adapters.open(run.adapters[0]).modules}
    names = models.target_names(bench.skeleton, bench.targets)
    points = []
    for k in truncation_ranks(options.rank):
        bench.model = models.attach_adapter(bench.model.unload(), dataclasses.replace(options, rank=k), names)
        for name, layer in models.lora_layers(bench.model).items():
            lora_A, lora_B = truncated_factors(*modules[name].factors(), k)
            lora_B *= modules[name].scaling / layer.scaling[models.ADAPTER]
            with torch.no_grad():
                layer.lora_A[models.ADAPTER].weight.copy_(torch.from_numpy(lora_A))
                layer.lora_B[models.ADAPTER].weight.copy_(torch.from_numpy(lora_B))
        rate = run.manifest.training.learning_rate
        train(bench.model, TrainingRun(rows, order.first(STEPS), rate, micro, bench.dtype), options, scratch)
        sums, _ = bench.measured()
        points.append([k, *paired_difference(sums, whole, counts)])
    return points


if __name__ == "__main__":
    given = pairs.asked(__doc__)
    for pair, path, record in given.lacking("healed"):
        options = given.options(pair)
        record["healed"] = healed(runs.read(options.output), options, given.work / "scratch")
        write_json(path, record)
        print(pair.name, record["healed"], flush=True)
