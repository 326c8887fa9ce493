"""How fast `lorarank audit` is beside other tools and beside the floor, and how much memory it takes.

Whole processes, in alternating order, one thread each (`audit` itself takes up to four processes), compiled, as pip
installs them, on an adapter of 210 modules at r = 64 (78 MB) that is made here; a result is the median over rounds of
the ratio within a round. `upcast` reads the same bytes in numpy and upcasts every tensor to float64, `load` does that
by safetensors' own loading; the floor is `upcast` that throws each tensor away at once. Beside the floor a larger
adapter too, where starting weighs less. The dense route is torch.linalg.svd of the whole 4096×4096
product, as PEFT's conversion and kohya's resize script do it, against our spectrum of the same module. The throughput
is that of `audit -o` on many small adapters, with one process and with more.

    python scripts/bench_audit.py --gradience GRADIENCE --sft SFT --output data/evidence/bench-audit.json
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save_file

from lorarank.json_files import write_json
from lorarank.numerics.linalg import singular_values

SHAPES = {
    "self_attn.q_proj": (576, 576),
    "self_attn.k_proj": (192, 576),
    "self_attn.v_proj": (192, 576),
    "self_attn.o_proj": (576, 576),
    "mlp.gate_proj": (1536, 576),
    "mlp.up_proj": (1536, 576),
    "mlp.down_proj": (576, 1536),
}
"""(out, in) of the linear layers of SmolLM2-135M, thirty layers of them."""

LARGE = {
    "self_attn.q_proj": (4096, 4096),
    "self_attn.k_proj": (1024, 4096),
    "self_attn.v_proj": (1024, 4096),
    "self_attn.o_proj": (4096, 4096),
    "mlp.gate_proj": (14336, 4096),
    "mlp.up_proj": (14336, 4096),
    "mlp.down_proj": (4096, 14336),
}
"""Of Llama-3.1-8B; thirty-two layers at r = 64 are 671 MB."""

EMBEDDING, EMBEDDING_RANK = (152_064, 4096), 128
"""(out, in) of Qwen2.5-7B's embedding: among the largest modules that adapters have."""

UPCAST = """
import sys, numpy as np
from pathlib import Path
path, kept = Path(sys.argv[1]), []
with path.open("rb") as file:
    length = int.from_bytes(file.read(8), "little")
    import json
    header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    for tensor in sorted(header.values(), key=lambda tensor: tensor["data_offsets"][0]):
        begin, end = tensor["data_offsets"]
        upcast = np.frombuffer(file.read(end - begin), dtype=np.float32).astype(np.float64)
        kept.append(upcast)
"""
FLOOR = UPCAST.replace("kept.append(upcast)", "del upcast")
LOAD = """
import sys, numpy as np
from safetensors.numpy import load_file
tensors = {name: tensor.astype(np.float64) for name, tensor in load_file(sys.argv[1]).items()}
"""
LAUNCHER = """
import os, sys, time
begun = time.perf_counter()
null = os.open(os.devnull, os.O_WRONLY)
actions = [(os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, null, 2)]
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=actions)
_, status, usage = os.wait4(child, 0)
seconds, code = time.perf_counter() - begun, os.waitstatus_to_exitcode(status)
print([seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, code])
"""
LORARANK = Path(sys.executable).with_name("lorarank")
"""The command as pip installs it, as the others are run too."""

NOTHING = "import click, numpy, lorarank.audit.adapter, lorarank.report.audit"
TARGETS = {
    "gradience": "at least 10 times as long",
    "sft": "at least 2 times as long",
    "floor": "at most 2 times as long as the floor",
    "dense": "at least 1,000 times as long",
    "memory": "at most the largest module plus 50 MB over the interpreter",
    "help": "at most 0.2 s",
}


def write(folder: Path, shapes: Mapping[str, tuple[int, int]], r: int, seed: int = 0) -> Path:
    """A PEFT adapter with a falling spectrum, float32."""
    random, tensors = np.random.default_rng(seed), {}
    for name, (out_features, in_features) in shapes.items():
        lora_A = random.standard_normal((r, in_features), dtype=np.float32)
        lora_B = random.standard_normal((out_features, r), dtype=np.float32) * np.float32(0.9) ** np.arange(r)
        tensors[f"base_model.model.{name}.lora_A.weight"] = lora_A
        tensors[f"base_model.model.{name}.lora_B.weight"] = lora_B.astype(np.float32)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    types = sorted({name.rpartition(".")[2] for name in shapes})
    config = {"peft_type": "LORA", "base_model_name_or_path": "base", "r": r, "lora_alpha": r, "target_modules": types}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


class Cost(NamedTuple):
    """What a process took: wall seconds, processor seconds, peak MB."""

    seconds: float
    processor: float
    megabytes: float


def run(*command: str | Path) -> Cost:
    """The cost of a process that ends well, its output thrown away.

    A small process starts it: the kernel counts what a process held before it became another program.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    environment["PYTHONPYCACHEPREFIX"] = str(Path(tempfile.gettempdir()) / "compiled")  # the first round fills it
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, *map(str, command)]
    done = subprocess.run(launcher, env=environment, capture_output=True, text=True, check=True)
    seconds, processor, kilobytes, code = json.loads(done.stdout)
    if code:
        raise SystemExit(f"{command} ended with {code}")
    return Cost(seconds, processor, kilobytes / 1024)


def rounds_of(commands: Mapping[str, Sequence[str | Path]], count: int) -> list[dict[str, Cost]]:
    """Every command once a round, in an order that turns round."""
    names = list(commands)
    found = []
    for number in range(count + 1):
        order = names if number % 2 == 0 else names[::-1]
        found.append({name: run(*commands[name]) for name in order})
        print({name: round(cost.seconds, 3) for name, cost in found[-1].items()}, flush=True)
    return found[1:]  # the first warms the file cache


def sparse(folder: Path, modules: int = 1000, side: int = 8192) -> Path:
    """An adapter of 4 GB that takes no room on the disk: zeros that were never written."""
    header, at = {}, 0
    for index in range(modules):
        for factor, shape in (("lora_A", [64, side]), ("lora_B", [side, 64])):
            key = f"base_model.model.layers.{index}.q_proj.{factor}.weight"
            header[key] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + 256 * side]}
            at += 256 * side
    text = json.dumps(header).encode()
    folder.mkdir()
    with (folder / "adapter_model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)
    config = {"peft_type": "LORA", "r": 64, "lora_alpha": 64, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def embedding(folder: Path, dtype: str) -> Path:
    """An adapter of one large module, of float16, bfloat16 or float32 numbers."""
    random, header, at = np.random.default_rng(0), {}, 0
    shapes = {"A": (EMBEDDING_RANK, EMBEDDING[1]), "B": (EMBEDDING[0], EMBEDDING_RANK)}
    data = b""
    for letter, shape in shapes.items():
        numbers = random.standard_normal(shape, dtype=np.float32)
        halves = numbers.view(np.uint32) >> 16  # bfloat16 is the upper half of a float32
        stored: dict[str, Any] = {"F16": numbers.astype(np.float16), "BF16": halves.astype(np.uint16), "F32": numbers}
        data += stored[dtype].tobytes()
        key = f"base_model.model.model.embed_tokens.lora_embedding_{letter}"
        header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [at, len(data)]}
        at = len(data)
    text = json.dumps(header).encode()
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    config = {"peft_type": "LORA", "r": EMBEDDING_RANK, "lora_alpha": 1, "target_modules": ["embed_tokens"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def memory_of_one_module(folder: Path, imports: float) -> dict[str, Any]:
    """Peak of an audit of the large module over the interpreter's, a dtype each."""
    found = {}
    for dtype in ("F16", "BF16", "F32"):
        adapter = embedding(folder / dtype, dtype)
        cost = run(LORARANK, "audit", adapter)
        found[dtype] = {
            "stored_megabytes": round((adapter / "adapter_model.safetensors").stat().st_size / 1e6, 1),
            "over_imports_megabytes": round((cost.megabytes - imports) * 2**20 / 1e6, 1),
        }
    return found


def beside_floor(adapter: Path, rounds: int) -> dict[str, Any]:
    """Ours over the floor on a larger adapter, with one process and with two."""
    weights = adapter / "adapter_model.safetensors"
    audit: list[str | Path] = [LORARANK, "audit", adapter, "--jobs"]
    commands: dict[str, Sequence[str | Path]] = {
        "jobs_1": [*audit, "1"],
        "jobs_2": [*audit, "2"],
        "floor": [sys.executable, "-c", FLOOR, weights],
    }
    found = rounds_of(commands, rounds)
    return {
        "megabytes": round(weights.stat().st_size / 1e6, 1),
        "floor_seconds": round(statistics.median(one["floor"].seconds for one in found), 3),
        **{
            f"{name}_over_floor": round(statistics.median(one[name].seconds / one["floor"].seconds for one in found), 3)
            for name in ("jobs_1", "jobs_2")
        },
    }


def dense_route(rounds: int) -> dict[str, Any]:
    """One 4096×4096 module at r = 64: the dense SVD once, ours often."""
    import torch

    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    lora_A = random.standard_normal((64, 4096), dtype=np.float32)
    lora_B = random.standard_normal((4096, 64), dtype=np.float32) * np.float32(0.9) ** np.arange(64, dtype=np.float32)
    begun = time.perf_counter()
    dense = torch.linalg.svd(torch.from_numpy(lora_B) @ torch.from_numpy(lora_A), full_matrices=False).S
    dense_seconds = time.perf_counter() - begun
    ours = []
    for _ in range(rounds):
        begun = time.perf_counter()
        values = singular_values(lora_A, lora_B)
        ours.append(time.perf_counter() - begun)
    return {
        "dense_seconds": round(dense_seconds, 3),
        "our_milliseconds": round(1000 * statistics.median(ours), 3),
        "ratio": round(dense_seconds / statistics.median(ours)),
        "largest_difference_of_sigma_over_sigma_1": float(np.abs(dense.numpy()[:64] - values).max() / values[0]),
    }


def throughput(folder: Path, count: int, jobs: Sequence[int]) -> dict[str, Any]:
    """Adapters a second on small ones."""
    small = dict.fromkeys(("l.0.q", "l.0.v", "l.1.q", "l.1.v"), (64, 64))
    for index in range(count):
        write(folder / f"{index:05d}", small, 4, index)
    found: dict[str, Any] = {"adapters": count, "modules_each": len(small)}
    for number in jobs:
        output = folder.parent / f"rows-{number}.jsonl"
        cost = run(LORARANK, "audit", folder, "-o", output, "--jobs", str(number))
        assert len(output.read_text().splitlines()) == count
        found[f"jobs_{number}"] = {
            "seconds": round(cost.seconds, 2),
            "a_second": round(count / cost.seconds, 1),
            "a_processor_second": round(count / cost.processor, 1),
        }
        print(number, found[f"jobs_{number}"], flush=True)
    return found


def main() -> None:
    """Measure everything asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gradience", type=Path)
    parser.add_argument("--sft", type=Path)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--small", type=int, default=10_000, help="small adapters for the throughput")
    parser.add_argument("--jobs", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--no-dense", action="store_true")
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        modules = {f"model.layers.{i}.{name}": shape for i in range(30) for name, shape in SHAPES.items()}
        adapter = write(Path(place) / "adapter", modules, 64)
        weights = adapter / "adapter_model.safetensors"
        python = [sys.executable]
        commands: dict[str, Sequence[str | Path]] = {
            "ours": [LORARANK, "audit", adapter, "--format", "json", "--per-module"],
            "ours_table": [LORARANK, "audit", adapter],
            "floor": [*python, "-c", FLOOR, weights],
            "upcast": [*python, "-c", UPCAST, weights],
            "load": [*python, "-c", LOAD, weights],
            "imports": [*python, "-c", NOTHING],
            "help": [LORARANK, "audit", "--help"],
        }
        if given.sft:
            commands["sft"] = [given.sft, "lora", "svd", weights, "--json"]
        if given.gradience:
            commands["gradience"] = [given.gradience, "audit", "--peft-dir", adapter, "--json", "--layers"]
        rounds = rounds_of(commands, given.rounds)
        large = sparse(Path(place) / "sparse")
        bytes_of_large = (large / "adapter_model.safetensors").stat().st_size
        large_cost = run(LORARANK, "audit", large)
        size = round(weights.stat().st_size / 1e6, 1)
        many = throughput(Path(place) / "small", given.small, given.jobs) if given.small else None
        dense = None if given.no_dense else dense_route(50)
        imports = statistics.median(one["imports"].megabytes for one in rounds)
        (Path(place) / "embedding").mkdir()
        one_module = memory_of_one_module(Path(place) / "embedding", imports)
        layers = {f"model.layers.{i}.{name}": shape for i in range(32) for name, shape in LARGE.items()}
        larger = beside_floor(write(Path(place) / "larger", layers, 64), 3)

    def median(value: Callable[[dict[str, Cost]], float]) -> float:
        return round(statistics.median(map(value, rounds)), 3)

    def middle_half(value: Callable[[dict[str, Cost]], float]) -> list[float]:
        low, _, high = statistics.quantiles(map(value, rounds), n=4)
        return [round(low, 3), round(high, 3)]

    result = {
        "command": "python scripts/bench_audit.py --gradience GRADIENCE --sft SFT",
        "adapter": {"modules": len(modules), "r": 64, "megabytes": size},
        "seconds": {name: median(lambda one, n=name: one[n].seconds) for name in commands},  # type: ignore[misc]
        "processor_seconds": {name: median(lambda one, n=name: one[n].processor) for name in commands},  # type: ignore[misc]
        "peak_megabytes": {name: median(lambda one, n=name: one[n].megabytes) for name in commands},  # type: ignore[misc]
        "over_ours": {
            name: {
                "seconds": median(lambda one, n=name: one[n].seconds / one["ours"].seconds),  # type: ignore[misc]
                "middle_half": middle_half(lambda one, n=name: one[n].seconds / one["ours"].seconds),  # type: ignore[misc]
                "processor": median(lambda one, n=name: one[n].processor / one["ours"].processor),  # type: ignore[misc]
            }
            for name in commands
            if name != "ours"
        },
        **{
            f"ours_over_{name}": {
                "seconds": median(lambda one, n=name: one["ours"].seconds / one[n].seconds),  # type: ignore[misc]
                "processor": median(lambda one, n=name: one["ours"].processor / one[n].processor),  # type: ignore[misc]
            }
            for name in ("floor", "upcast", "load")
        },
        "larger_adapter": larger,
        "one_large_module": one_module,
        "ours_over_imports_megabytes": median(lambda one: one["ours"].megabytes - one["imports"].megabytes),
        "largest_module_megabytes_float64": round(8 * 64 * (1536 + 576) / 1e6, 2),
        "sparse_4_gigabytes": {
            "gigabytes": round(bytes_of_large / 1e9, 2),
            "seconds": round(large_cost.seconds, 2),
            "largest_module_megabytes_float64": round(2 * 8 * 64 * 8192 / 1e6, 1),
            "peak_megabytes": round(large_cost.megabytes, 1),
            "over_imports_megabytes": round(large_cost.megabytes - median(lambda one: one["imports"].megabytes), 1),
        },
        "one_4096_module": dense,
        "throughput": many,
        "targets": TARGETS,
        "rounds": len(rounds),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread each",
        "processes_of_ours": min(os.cpu_count() or 1, 4),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    write_json(given.output, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
