"""Mutate small files of every format and open them: nothing but this package's own errors may come out.

Three engines share the seeds, the harness and the limits: ``random`` (structure-aware edits from a seed),
``hypothesis`` (the same edits, drawn by hypothesis) and ``atheris`` (guided by coverage, libFuzzer; needs the package).
A mutation that crashes, takes over two seconds, or more than 500 MB beyond what the process had at its start is kept in
--findings. Counts are added to the summary after every portion, so that any number of runs make one total.

    python scripts/fuzz.py --engine random --mutations 1000000 --jobs 2 --output data/evidence/fuzz.json
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import importlib.metadata
import io
import json
import multiprocessing
import os
import platform
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save

from lorarank import adapters
from lorarank.errors import LorarankError, ResourceError
from lorarank.json_files import write_json

SECONDS, MEGABYTES = 2.0, 500
PORTION = 2_000
A, B = np.ones((4, 6), np.float32), np.ones((6, 4), np.float32)


def archive(value: Any) -> bytes:
    """What ``torch.save`` writes."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def gguf(tensors: Mapping[str, np.ndarray], alpha: float) -> bytes:
    """A GGUF file, version 3: header, metadata, tensor infos, aligned data."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    pairs = [("general.type", 8, text("adapter")), ("adapter.type", 8, text("lora"))]
    pairs.append(("adapter.lora.alpha", 6, struct.pack("<f", alpha)))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs))
    head += b"".join(text(key) + struct.pack("<I", kind) + value for key, kind, value in pairs)
    at = 0
    for name, tensor in tensors.items():
        shape = tensor.shape[::-1]
        head += text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape) + struct.pack("<IQ", 0, at)
        at += -(-tensor.nbytes // 32) * 32
    body = b"".join(t.tobytes().ljust(-(-t.nbytes // 32) * 32, b"\0") for t in tensors.values())
    return head.ljust(-(-len(head) // 32) * 32, b"\0") + body


@dataclass(frozen=True)
class Seed:
    """A small adapter: its files, and which of them is opened ("" opens their folder)."""

    format: str
    files: Mapping[str, bytes]
    opened: str = ""


def seeds() -> list[Seed]:
    """One or more of every format."""
    named: dict[str, Any] = {"m.q.lora_A.weight": A, "m.q.lora_B.weight": B, "head.bias": np.ones(2, np.float16)}
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "rank_pattern": {"v": 2}, "alpha_pattern": {"v": 1}}
    config |= {"target_modules": ["q"], "base_model_name_or_path": "base", "use_rslora": False}
    plain = json.dumps(config).encode()
    shard = {"m.v.lora_A.weight": A[:2], "m.v.lora_B.weight": B[:, :2]}
    homes = dict.fromkeys(named, "adapter_model-00001-of-00002.safetensors")
    homes |= dict.fromkeys(shard, "adapter_model-00002-of-00002.safetensors")
    index = json.dumps({"metadata": {}, "weight_map": homes}).encode()
    core = np.ones((4, 4, 3, 3), np.float32)
    conv_A, conv_B = A[..., None, None], B[..., None, None]
    tensors = {name: torch.from_numpy(tensor) for name, tensor in named.items()}
    mlx = {"fine_tune_type": "lora", "num_layers": 4, "lora_parameters": {"rank": 4, "scale": 20.0, "dropout": 0.0}}
    kohya = {"lora_unet_a.lora_down.weight": conv_A, "lora_unet_a.lora_mid.weight": core}
    kohya |= {"lora_unet_a.lora_up.weight": conv_B, "lora_unet_a.alpha": np.array(2.0, np.float16)}
    hub = {
        "config": {"architecture": "lora", "r": 4, "alpha": 8, "composition_mode": "add"},
        "version": "adapters.1.2.0",
    }
    hub |= {"model_name": "bert-base-uncased", "model_type": "bert", "name": "sst"}
    xlabs = {f"double_blocks.0.processor.qkv_lora1.{side}.weight": x for side, x in (("down", A), ("up", B))}
    processors = {"a.processor.to_q_lora.down.weight": A, "a.processor.to_q_lora.up.weight": B}
    trained = {"layers.0.attention.wq.lora_A.weight": A, "layers.0.attention.wq.lora_B.weight": B}
    trainer = json.dumps({"dim": 6, "lora": {"rank": 4, "scaling": 2.0}}).encode()  # beside the file of the factors
    nested = {"layer_0": {"q": {"lora_A": torch.from_numpy(A), "lora_B": torch.from_numpy(B), "scaling": 2.0}}}
    bare = {"q.parametrizations.weight.0.lora_A": A, "q.parametrizations.weight.0.lora_B": B}
    stem = "lora___lorahyphen___blocks___lorahyphen___0___lorahyphen___qkv"
    parts = {f"{stem}.lora_down.weight": A, f"{stem}.alpha_scale": np.array(0.5, np.float32)}
    parts |= {f"{stem}.lora_up.blocks.{i}.weight": np.ones((3, 2), np.float32) for i in (0, 1)}
    patches = {"q.weight::lora::0": B, "q.weight::lora::1": A, "q.weight::lora::2": np.array(8.0, np.float32)}
    stack_A, stack_B = np.stack([A, A]), np.stack([B, B])
    experts = {
        "e.experts.lora_up_a": stack_A.swapaxes(1, 2).copy(),
        "e.experts.lora_up_b": stack_B.swapaxes(1, 2).copy(),
    }
    tasks = {"q.parametrizations.weight.0.lora_A": stack_A, "q.parametrizations.weight.0.lora_B": stack_B}
    merged = {"h.c_attn.loras.sst.lora_A": A, "h.c_attn.loras.sst.lora_B": B[:, :2].copy()}
    merged_hub = hub | {"config": hub["config"] | {"attn_matrices": ["q", "v"]}}  # type: ignore[operator]
    settings = b"lora_r: 4\nlora_alpha: 16\nlora_dropout: 0.05\nlora_query: false\n"
    fused = {f"q.lora_{side}.{part}": x.T.copy() for part in range(2) for side, x in (("a", A), ("b", B))}
    all_linear = {"target_modules": [], "target_parameters": ["down_proj", "gate.weight"], "rank_pattern": {"x": 2}}
    routed: dict[str, Any] = {
        f"m.{name}.lora_{side}.weight": x for name in ("gate", "experts") for side, x in (("A", A), ("B", B))
    }
    routed |= {f"m.experts.w1.lora_{side}.weight": np.ones(0, np.float32) for side in "AB"}
    matched = {"target_modules": r"m\.gat.", "target_parameters": ["down_proj"]}
    arrays = io.BytesIO()
    halves: dict[str, Any] = {"q.lora_a": A.T, "q.lora_b": B.T.copy(), "k.lora_a": A.T, "k.lora_b": np.float16(B.T)}
    np.savez(arrays, **halves)
    joined = {"h.0.qkv.lora_A": np.ones((6, 6), np.float32), "h.0.qkv.lora_B": np.ones((18, 2), np.float32)}
    minimax = {f"diffusion_model.blocks.0.attn.qkv_proj.lora_{side}.weight": x for side, x in (("A", A), ("B", B))}
    return [
        Seed("peft", {"adapter_config.json": plain, "adapter_model.safetensors": save(named, {"format": "pt"})}),
        Seed("peft", {"adapter_config.json": plain, "adapter_model.bin": archive(tensors)}),
        Seed(
            "peft",
            {
                "adapter_config.json": plain,
                "adapter_model.safetensors.index.json": index,
                "adapter_model-00001-of-00002.safetensors": save(named),
                "adapter_model-00002-of-00002.safetensors": save(shard),
            },
        ),
        Seed("kohya", {"k.safetensors": save(kohya, {"ss_network_dim": "4"})}, "k.safetensors"),
        Seed(
            "diffusers",
            {"pytorch_lora_weights.safetensors": save({"unet.q.lora_A.weight": A, "unet.q.lora_B.weight": B})},
        ),
        Seed("diffusers", {"d.safetensors": save({"unet.q.lora.down.weight": A, "unet.q.lora.up.weight": B})}),
        Seed("attention-processors", {"p.safetensors": save(processors)}, "p.safetensors"),
        Seed(
            "attention-processors",
            {"pytorch_lora_weights.bin": archive({k: torch.from_numpy(v) for k, v in processors.items()})},
        ),
        Seed(
            "ai-toolkit",
            {"t.safetensors": save({"diffusion_model.q.lora_A.weight": A, "diffusion_model.q.lora_B.weight": B})},
        ),
        Seed("xlabs", {"x.safetensors": save(xlabs)}, "x.safetensors"),
        Seed("cloneofsimo", {"c.safetensors": save({"unet:0:down": A, "unet:0:up": B}, {"unet:0:rank": "4"})}),
        Seed("cloneofsimo", {"l.pt": archive([torch.from_numpy(x) for x in (B, A, B, A)])}, "l.pt"),
        Seed(
            "mlx",
            {
                "adapter_config.json": json.dumps(mlx).encode(),
                "adapters.safetensors": save({"q.lora_a": A.T.copy(), "q.lora_b": B.T.copy()}),
            },
        ),
        Seed("mlx", {"adapters.npz": arrays.getvalue()}, "adapters.npz"),
        Seed("pairs", {"j.safetensors": save(joined)}, "j.safetensors"),
        Seed("torchtune", {"adapter_0.safetensors": save({"q.lora_a.weight": A, "q.lora_b.weight": B})}),
        Seed(
            "gguf", {"g.gguf": gguf({"blk.0.attn_q.weight.lora_a": A, "blk.0.attn_q.weight.lora_b": B}, 8.0)}, "g.gguf"
        ),
        Seed(
            "adapterhub",
            {
                "adapter_config.json": json.dumps(hub).encode(),
                "adapter.safetensors": save({"q.loras.sst.lora_A": A, "q.loras.sst.lora_B": B}),
            },
        ),
        Seed("pairs", {"lora.safetensors": save(trained), "params.json": trainer}, "lora.safetensors"),
        Seed("pairs", {"w.safetensors": save({"w_a_0": np.ones((2, 6)), "w_b_0": np.ones((6, 2))})}),
        Seed("pairs", {"h.pt": archive({"weights": nested, "metadata": {"r": 4, "alpha": 8}})}, "h.pt"),
        Seed("pairs", {"s.safetensors": save(bare, {"lora_config": '{"rank": 4, "alpha": 8}'})}, "s.safetensors"),
        Seed("pairs", {"d.safetensors": save(patches)}, "d.safetensors"),
        Seed("pairs", {"c.safetensors": save({"h.lora_linear.a0.weight": A, "h.lora_linear.b0.weight": B})}),
        Seed("torchtune", {"adapter_0.safetensors": save(experts)}),
        Seed(
            "pairs",
            {"j.safetensors": save(tasks), "config.json": b'{"lora_rank": 4, "lora_alpha": 1}'},
            "j.safetensors",
        ),
        Seed(
            "adapterhub",
            {"adapter_config.json": json.dumps(merged_hub).encode(), "adapter.safetensors": save(merged)},
        ),
        Seed("pairs", {"y.safetensors": save(trained), "hyperparameters.yaml": settings}, "y.safetensors"),
        Seed("longcat", {"l.safetensors": save(parts)}, "l.safetensors"),
        Seed("mlx", {"adapter_config.json": json.dumps(mlx).encode(), "adapters.safetensors": save(fused)}),
        Seed(
            "ai-toolkit",
            {
                "adapter_config.json": json.dumps(config | {"lora_alpha": 4}).encode(),
                "adapter_model.safetensors": save({f"diffusion_model.{key}": x for key, x in shard.items()}),
            },
        ),
        Seed(
            "peft",
            {
                "adapter_config.json": json.dumps(config | all_linear).encode(),
                "adapter_model.safetensors": save(routed),
                "automodel_peft_config.json": b'{"moe_rank_scaling": false}',
            },
        ),
        Seed(
            "peft",
            {
                "adapter_config.json": json.dumps(config | matched).encode(),
                "adapter_model.safetensors": save({key: x for key, x in routed.items() if ".gate." in key}),
            },
        ),
        Seed("ai-toolkit", {"h3.safetensors": save(minimax, {"alpha": "16"})}, "h3.safetensors"),
    ]


SEEDS = seeds()
TARGETS = [(number, name) for number, seed in enumerate(SEEDS) for name in seed.files]
"""Which file of which seed is mutated."""

NUMBERS = (
    b"0",
    b"-1",
    b"1e308",
    b"NaN",
    b"1000000000",
    b"18446744073709551615",
    b"0.5",
    b"null",
    b"true",
    b"[]",
    b'"4"',
)
WORDS = (
    b"F32",
    b"F16",
    b"BF16",
    b"F64",
    b"I64",
    b"F8_E4M3",
    b"../x",
    b"\x1b[31m",
    b"\\u0000",
    b"<script>",
    b"lora_A",
    b"lora_up",
)
INTEGERS = tuple(struct.pack("<Q", n) for n in (0, 1, 2**16, 2**31, 2**32 - 1, 2**63, 2**64 - 1))


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One to four edits: bytes, numbers and words of a header, integers, ends, copies of parts."""
    for _ in range(rng.randint(1, 4)):
        if not data:
            return data
        size = len(data)
        # the header is where sizes, shapes and names are
        at = rng.randrange(min(size, 1024)) if rng.random() < 0.8 else rng.randrange(size)
        kind = rng.randrange(9)
        if kind == 0:
            data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
        elif kind == 2:
            data = data[:at] + rng.randbytes(rng.randint(1, 8)) + data[at:]
        elif kind == 3:
            data = data[:at] + data[at + rng.randint(1, 64) :]
        elif kind == 4:
            data = data[:at] if rng.random() < 0.5 else data + rng.randbytes(rng.randint(1, 64))
        elif kind == 5:
            digits = [i for i in range(min(size, 4096)) if 48 <= data[i] <= 57]
            if digits:
                start = end = rng.choice(digits)
                while end < size and 48 <= data[end] <= 57:
                    end += 1
                data = data[:start] + rng.choice(NUMBERS) + data[end:]
        elif kind == 6:
            data = data[:at] + rng.choice(WORDS) + data[at + rng.randint(0, 8) :]
        elif kind == 7:
            data = data[:at] + rng.choice(INTEGERS) + data[at + 8 :]
        else:
            end = min(size, at + rng.randint(1, 128))
            to = rng.randrange(size)
            data = data[:to] + data[at:end] + data[to:]
    if data[:1] != b"{" and b'"dtype"' in data[:2048] and rng.random() < 0.7:
        # a safetensors header whose stated length is right again, or no edit would get past the first check
        end = data.find(b"}}", 8)
        if end > 0:
            length = -(-(end + 2 - 8) // 8) * 8
            data = struct.pack("<Q", length) + data[8 : end + 2].ljust(length) + data[end + 2 :]
    return data


HOSTILE = (0, -1, 1, 2, 3, 64, 10**9, 10**20, 0.5, 1e308, -1e308, True, None, "4", "", "../x", "\x1b[31m")
VALUES: list[Any] = [*HOSTILE, [], {}, [[]]]
DTYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "U8": 1, "F8_E4M3": 1, "BOOL": 1, "C64": 8}


def edited(value: Any, rng: random.Random) -> Any:
    """A JSON value with one thing in it changed, dropped, doubled or renamed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        kind = rng.randrange(6)
        if kind == 0:
            return {k: v for k, v in value.items() if k != key}
        if kind == 1:
            at = rng.randrange(len(key) + 1)
            return {(k[:at] + rng.choice(WORDS).decode() + k[at:] if k == key else k): v for k, v in value.items()}
        if kind == 2:
            return {**value, key + rng.choice((".0", "_2", ".lora_A.weight", "\n")): value[key]}
        return {**value, key: edited(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        return [*value[:at], edited(value[at], rng), *value[at + rng.randint(0, 1) :]]
    return rng.choice(VALUES)


def restructured(data: bytes, rng: random.Random) -> bytes:
    """An edit of what a safetensors header or a JSON file says, well-formed; a header's offsets may be made to fit."""
    if data[:1] == b"{":
        return json.dumps(edited(json.loads(data), rng)).encode("utf-8", "surrogatepass")
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    for _ in range(rng.randint(1, 3)):
        names = [name for name in header if name != "__metadata__" and isinstance(header[name], dict)]
        if names and rng.random() < 0.6:
            entry = dict(header[name := rng.choice(names)])
            if rng.random() < 0.5:
                entry["shape"] = [rng.choice((0, 1, 2, 4, 6, 8)) for _ in range(rng.randint(0, 5))]
            else:
                entry["dtype"] = rng.choice(list(DTYPES))
            header[name] = entry
        else:
            header = edited(header, rng)
            if not isinstance(header, dict):
                break
    if isinstance(header, dict) and rng.random() < 0.7:
        at = 0
        for name, entry in header.items():
            if name != "__metadata__" and isinstance(entry, dict) and str(entry.get("dtype")) in DTYPES:
                shape = entry.get("shape")
                if isinstance(shape, list) and all(type(n) is int and 0 <= n <= 64 for n in shape) and len(shape) < 6:
                    size = int(np.prod(shape, dtype=np.int64)) * DTYPES[str(entry["dtype"])]
                    header[name] = {**entry, "data_offsets": [at, at + size]}
                    at += size
        body = body.ljust(at, b"\x3c")[:at] if at < 10**6 else body
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + body


def mutation(data: bytes, name: str, rng: random.Random) -> bytes:
    """An edit of bytes or, where the file has a structure that can be parsed, of that."""
    if name.endswith((".safetensors", ".json")) and rng.random() < 0.5:
        return restructured(data, rng)
    return mutated(data, rng)


@dataclass
class Tally:
    """What a portion did."""

    mutations: Counter[str] = field(default_factory=Counter)
    opened: int = 0
    refused: int = 0
    slowest: float = 0.0
    megabytes: float = 0.0
    findings: list[dict[str, str]] = field(default_factory=list)


class Slow(BaseException):
    """Raised by the alarm; no reader may catch it."""


def alarm(_signal: int, _frame: object) -> None:
    raise Slow


class Harness:
    """Opens mutated files in a folder of its own and judges what comes out."""

    def __init__(self, findings: Path) -> None:
        self.findings = findings
        self.folder = Path(
            tempfile.mkdtemp(prefix="lorarank-fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        )
        for number, seed in enumerate(SEEDS):
            (self.folder / str(number)).mkdir()
            for name, content in seed.files.items():
                (self.folder / str(number) / name).write_bytes(content)
            self.look(number)  # an untouched seed opens, and everything is imported
        self.start = peak()
        self.tally = Tally()
        signal.signal(signal.SIGALRM, alarm)

    def look(self, number: int) -> None:
        """Open it, and read every module."""
        for module in adapters.open(self.folder / str(number) / SEEDS[number].opened).modules:
            module.factors()

    def judge(self, number: int, name: str, content: bytes) -> bool:
        """One mutation; whether it went as it should."""
        path = self.folder / str(number) / name
        path.write_bytes(content)
        wrong = ""
        begun = time.perf_counter()
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            self.look(number)
            self.tally.opened += 1
        except ResourceError as error:
            wrong = f"asked for too much memory: {error}"
        except LorarankError as error:
            self.tally.refused += 1
            if not str(error).isprintable() or "\n" in str(error):
                wrong = f"a line that is not printable: {str(error)!r}"
        except Slow:
            wrong = f"over {SECONDS:g} seconds"
        except BaseException:
            wrong = traceback.format_exc(limit=-4)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        seconds = time.perf_counter() - begun
        if not wrong and seconds > SECONDS:  # the alarm rang where an exception gets lost, in a callback of gc
            wrong = f"over {SECONDS:g} seconds"
        self.tally.slowest = max(self.tally.slowest, seconds)
        self.tally.megabytes = max(self.tally.megabytes, peak() - self.start)
        self.tally.mutations[SEEDS[number].format] += 1
        if not wrong and self.tally.megabytes > MEGABYTES:
            wrong = f"{self.tally.megabytes:.0f} MB"
            self.start = peak()
        if wrong:
            digest = hashlib.sha256(content).hexdigest()[:12]
            self.findings.mkdir(parents=True, exist_ok=True)
            (self.findings / f"{number}-{digest}-{name}").write_bytes(content)
            self.tally.findings.append({"seed": str(number), "file": name, "sha256": digest, "what": wrong})
        path.write_bytes(SEEDS[number].files[name])
        return not wrong

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def peak() -> float:
    """The most memory this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def by_chance(harness: Harness, mutations: int, seed: int) -> None:
    """Structure-aware edits from a seed."""
    rng = random.Random(seed)
    for _ in range(mutations):
        number, name = rng.choice(TARGETS)
        harness.judge(number, name, mutation(SEEDS[number].files[name], name, rng))


def by_hypothesis(harness: Harness, mutations: int, seed: int) -> None:
    """The same edits, drawn by hypothesis, which tries to shrink what fails."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from hypothesis import strategies as st

    @seeded(seed)
    @settings(
        max_examples=mutations,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),
    )
    @given(st.sampled_from(TARGETS), st.randoms(use_true_random=False))
    def run(target: tuple[int, str], rng: random.Random) -> None:
        number, name = target
        harness.judge(number, name, mutation(SEEDS[number].files[name], name, rng))

    run()


def by_coverage(harness: Harness, mutations: int, seed: int, tell: Callable[[], None]) -> None:
    """libFuzzer: an input is a target's number and the file. It never returns, so ``tell`` is called on the way."""
    import atheris

    for name, module in list(sys.modules.items()):
        if name.startswith("lorarank.adapters"):
            for attribute, value in vars(module).items():
                if callable(value) and getattr(value, "__module__", "") == name and hasattr(value, "__code__"):
                    setattr(module, attribute, atheris.instrument_func(value))
    done = 0

    def one(data: bytes) -> None:
        nonlocal done
        if data:
            number, name = TARGETS[data[0] % len(TARGETS)]
            harness.judge(number, name, data[1:])
            done += 1
            if done % PORTION == 0:
                tell()

    def edit(data: bytes, size: int, number: int) -> bytes:
        rng = random.Random(number)
        if rng.random() < 0.5 and len(data) > 1:
            return (data[:1] + mutated(data[1:], rng))[:size]
        return bytes(atheris.Mutate(data, size))

    corpus = Path(tempfile.mkdtemp(prefix="lorarank-corpus-"))
    for at, (number, name) in enumerate(TARGETS):
        (corpus / str(at)).write_bytes(bytes([at]) + SEEDS[number].files[name])
    arguments = [
        sys.argv[0],
        f"-atheris_runs={mutations}",
        f"-seed={seed + 1}",
        "-max_len=8192",
        "-verbosity=0",
        str(corpus),
    ]
    atheris.Setup(arguments, one, custom_mutator=edit)
    atheris.Fuzz()


def portion(given: tuple[str, int, int, Path]) -> Tally:
    """A portion in this process."""
    engine, mutations, seed, findings = given
    warnings.simplefilter("ignore")
    harness = Harness(findings)
    (by_hypothesis if engine == "hypothesis" else by_chance)(harness, mutations, seed)
    harness.close()
    return harness.tally


def add(output: Path, engine: str, tally: Tally) -> dict[str, Any]:
    """Add a portion to the summary."""
    whole = json.loads(output.read_bytes()) if output.is_file() else {"engines": {}, "formats": {}, "findings": []}
    engines, formats = Counter(whole["engines"]), Counter(whole["formats"])
    engines[engine] += sum(tally.mutations.values())
    formats.update(tally.mutations)
    packages = ("numpy", "ml_dtypes", "safetensors", "torch", "hypothesis")
    whole = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "limits": f"{SECONDS:g} seconds and {MEGABYTES} MB beyond the start, a mutation",
        "mutations": sum(engines.values()),
        "engines": dict(engines),
        "formats": dict(formats),
        "opened": whole.get("opened", 0) + tally.opened,
        "refused": whole.get("refused", 0) + tally.refused,
        "slowest_seconds": round(max(whole.get("slowest_seconds", 0.0), tally.slowest), 3),
        "most_megabytes": round(max(whole.get("most_megabytes", 0.0), tally.megabytes), 1),
        "findings": [*whole["findings"], *tally.findings],
    }
    write_json(output, whole)
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("random", "hypothesis", "atheris"), default="random")
    parser.add_argument("--mutations", type=int, default=20_000)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    begun = time.monotonic()
    if given.engine == "atheris":
        warnings.simplefilter("ignore")
        harness = Harness(given.findings)

        def tell() -> None:
            whole = add(given.output, "atheris", harness.tally)
            harness.tally = Tally()
            print(f"{whole['mutations']:,} mutations, {len(whole['findings'])} findings", flush=True)

        by_coverage(harness, given.mutations, given.seed, tell)
        return
    count = -(-given.mutations // PORTION)
    work = [(given.engine, PORTION, given.seed + number, given.findings) for number in range(count)]
    with multiprocessing.get_context("fork").Pool(given.jobs, maxtasksperchild=25) as pool:
        for done, tally in enumerate(pool.imap_unordered(portion, work), start=1):
            whole = add(given.output, given.engine, tally)
            if done % 10 == 0 or done == count:
                rate = done * PORTION / (time.monotonic() - begun)
                print(
                    f"{whole['mutations']:,} mutations, {rate:,.0f} a second, {len(whole['findings'])} findings",
                    flush=True,
                )


if __name__ == "__main__":
    main()
