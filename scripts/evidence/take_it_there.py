"""A recommendation taken into the tools that train: a short run of TRL, and what axolotl and LLaMA-Factory parse.

Does what a new user would with the run of data/evidence/report: exports it for TRL, completes the file as its
comments say, trains four steps by SFTTrainer on the CPU, loads what was saved by PEFT, and runs audit, estimate and
diagnose on it. Then the exports for axolotl and LLaMA-Factory are completed by a data set and batch sizes and given to
those tools' own parsers, each in the interpreter that has the tool (plain `pip install --no-deps axolotl`, and
`llamafactory omegaconf antlr4-python3-runtime==4.9.3`, beside this environment). Everything happens in a folder of its
own, where RUN, the model and the data stand under the names the commands use.

    OMP_NUM_THREADS=1 python scripts/evidence/take_it_there.py RUN --model MODEL --data train.jsonl \
        --axolotl PYTHON --llamafactory PYTHON
"""

from __future__ import annotations

import argparse
import ast
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from peft import PeftConfig, PeftModel
from transformers import AutoModelForCausalLM

import lorarank
from lorarank import runs
from lorarank.json_files import write_json

ROOT = Path(__file__).resolve().parent.parent.parent
STEPS = 4
FEW_STEPS = (
    f"max_steps={STEPS}, save_steps={STEPS // 2}, logging_steps=1, per_device_train_batch_size=2, max_length=256, "
    'use_cpu=True, bf16=False, report_to="none", '
)
"""What is added to the exported ``SFTConfig`` to stop early, on a CPU."""

DATA_SET = 'load_dataset("json", data_files="train.jsonl", split="train")'
AXOLOTL_DATA = """
datasets: [{path: train.jsonl, ds_type: json, type: {field_instruction: prompt, field_output: completion}}]
sequence_len: 1024
micro_batch_size: 2
gradient_accumulation_steps: 1
num_epochs: 1
output_dir: lora
"""
LLAMAFACTORY_DATA = """
dataset: gsm8k
template: default
cutoff_len: 1024
output_dir: lora
use_cpu: true
"""

AXOLOTL = """
import json, sys, yaml
from importlib.metadata import version
from axolotl.utils.schemas.config import AxolotlInputConfig
given = yaml.safe_load(open(sys.argv[1]))
read = AxolotlInputConfig.model_validate(given)
keys = "adapter lora_r lora_alpha lora_dropout lora_target_modules learning_rate lr_scheduler load_in_4bit".split()
print(json.dumps({
    "version": version("axolotl"),
    "unknown_keys": sorted(set(given) - set(AxolotlInputConfig.model_fields)),
    "read": {name: getattr(read, name) for name in keys if name in given}}, default=str))
"""
LLAMAFACTORY = """
import json, sys
from importlib.metadata import version
from llamafactory.hparams import parser
model, data, training, tuning, _ = parser._parse_args(parser.HfArgumentParser(parser._TRAIN_ARGS), parser.read_args())
parser._verify_model_args(model, data, tuning)
print(json.dumps({
    "version": version("llamafactory"),
    "unknown_keys": [],  # an unknown key is an error of its parser
    "read": {
        **{name: getattr(tuning, name) for name in "lora_rank lora_alpha lora_dropout lora_target".split()},
        **{name: getattr(model, name) for name in "quantization_bit quantization_type double_quantization".split()},
        "finetuning_type": tuning.finetuning_type,
        "learning_rate": training.learning_rate, "lr_scheduler_type": training.lr_scheduler_type}}, default=str))
"""


class Workshop:
    """A folder to work in; every command that is run there is kept as it was typed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commands: list[str] = []

    def run(self, python: str, *arguments: str, shown: str, **environment: str) -> str:
        """Standard output of ``python arguments``; ``shown`` is what a person types for it."""
        paths = {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"} | environment
        done = subprocess.run(
            [python, *arguments], cwd=self.folder, env=os.environ | paths, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(f"{shown} exited with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
        self.commands.append(shown)
        return done.stdout

    def lorarank(self, *arguments: str) -> str:
        """Standard output of ``lorarank arguments``."""
        shown = " ".join(["lorarank", *(f"'{one}'" if "*" in one else one for one in arguments)])
        return self.run(sys.executable, "-m", "lorarank", *arguments, shown=shown)


def completed(exported: str) -> str:
    """The script of ``export --to trl`` with its commented call made real, few steps, and the data named."""
    start = exported.index("# SFTTrainer(")
    lines = exported[start:].splitlines()
    end = next(number for number, line in enumerate(lines) if line.endswith(".train()")) + 1
    call = "\n".join(line.removeprefix("# ") for line in lines[:end])
    script = exported[:start] + call.replace("YOUR_DATA", DATA_SET) + "\n"
    script = script.replace("from peft import", "from datasets import load_dataset\nfrom peft import", 1)
    script = script.replace("SFTConfig(output_dir", f"SFTConfig({FEW_STEPS}output_dir", 1)
    ast.parse(script)
    return script


def trained(shop: Workshop, run: str, model: str) -> dict[str, Any]:
    """Export, complete, train, load, and look at what came out."""
    shop.lorarank("export", run, "--to", "trl", "-o", "train.py")
    script = shop.folder / "train.py"
    script.write_text(completed(script.read_text(encoding="utf-8")), encoding="utf-8")
    shop.commands.append("# its last call uncommented, YOUR_DATA and the few steps filled in: see train.py")
    shop.run(sys.executable, "train.py", shown="python train.py")

    saved = shop.folder / "lora" / f"checkpoint-{STEPS}"
    config = PeftConfig.from_pretrained(str(saved))
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(shop.folder / model), str(saved))
    found = (getattr(layer, "r", None) for layer in loaded.modules())
    ranks = [r["default"] for r in found if isinstance(r, dict)]
    history = json.loads((saved / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]

    audit = shop.lorarank("audit", f"lora/checkpoint-{STEPS}").splitlines()
    path = shop.lorarank("audit", "lora/checkpoint-*").splitlines()
    checkpoints = [f"lora/checkpoint-{step}" for step in (STEPS // 2, STEPS)]
    estimate = json.loads(shop.lorarank("estimate", *checkpoints, "--format", "json"))
    verdict = shop.lorarank("diagnose", "lora").splitlines()[:2]
    return {
        "train.py": script.read_text(encoding="utf-8").splitlines(),
        "losses": [round(line["loss"], 4) for line in history if "loss" in line],
        "loaded_by_peft": {
            "modules": len(ranks),
            "ranks": sorted(set(ranks)),
            "lora_alpha": config.lora_alpha,
            "target_modules": sorted(config.target_modules),
        },
        "audit": audit[:6],
        "audit_of_checkpoints": path[:6],
        "estimate": {
            "kind": estimate["kind"],
            "train_rank": estimate["r"],
            "agreement": None if estimate["replication"] is None else round(estimate["replication"]["agreement"], 4),
        },
        "diagnose": verdict,
    }


def parsed(
    shop: Workshop, run: str, tool: str, python: str, code: str, rest: str, **environment: str
) -> dict[str, Any]:
    """What a tool's own parser made of its export, plain and for a base in 4 bits."""
    found: dict[str, Any] = {}
    for name, options in (("plain", ()), ("qlora", ("--qlora",))):
        path = f"{tool}-{name}.yaml"
        shop.lorarank("export", run, "--to", tool, *options, "-o", path)
        with (shop.folder / path).open("a", encoding="utf-8") as file:
            file.write(rest)
        setting = "".join(f"{key}={value} " for key, value in environment.items())
        shown = f"{setting}python -c PARSER {path}  # the python with {tool}; PARSER as recorded there"
        printed = shop.run(python, "-c", code, path, shown=shown, **environment)
        found[name] = json.loads(printed.splitlines()[-1])
    return {"added": rest.strip().splitlines(), "PARSER": code.strip().splitlines(), **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--axolotl", metavar="PYTHON", required=True)
    parser.add_argument("--llamafactory", metavar="PYTHON", required=True)
    parser.add_argument("--output", type=Path, default=ROOT / "data" / "evidence" / "take-it-there.json")
    given = parser.parse_args()
    run, model = given.run.name, runs.read(given.run).manifest.base.source
    with tempfile.TemporaryDirectory() as folder:
        shop = Workshop(Path(folder))
        for name, path in ((run, given.run), (model, given.model), ("train.jsonl", given.data)):
            link = shop.folder / name  # a model may be named as on the hub, owner/name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
        result = {
            "trl": trained(shop, run, model),
            "axolotl": parsed(shop, run, "axolotl", given.axolotl, AXOLOTL, AXOLOTL_DATA),
            "llamafactory": parsed(
                shop,
                run,
                "llamafactory",
                given.llamafactory,
                LLAMAFACTORY,
                LLAMAFACTORY_DATA,
                DISABLE_VERSION_CHECK="1",
            ),
        }
    assert not re.search(rf"{re.escape(folder)}|{re.escape(str(ROOT))}", json.dumps(result))
    write_json(
        given.output,
        {
            "commands": shop.commands,
            **result,
            "versions": {name: version(name) for name in ("torch", "transformers", "peft", "trl")}
            | {"lorarank": lorarank.__version__, "python": platform.python_version()},
            "machine": f"{platform.machine()}, one thread, no GPU",
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        },
    )


if __name__ == "__main__":
    main()
