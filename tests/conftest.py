"""Run folders and adapters with known truth, and golden files, for every test that needs them."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lorarank import json_files, runs

LLAMA = {"q_proj": (48, 64, 1.0), "k_proj": (32, 64, 0.8), "down_proj": (64, 96, 1.2)}
"""A layer of a small model: type → (out, in) and how large its update is beside the others'."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rebuild-golden", action="store_true", help="write the golden files anew instead of comparing")


def settled(text: str) -> str:
    """Long numbers at eleven digits: in which order numbers are summed, and so the last digits, is numpy's choice, and
    that of the processor."""
    return re.sub(r"[0-9]+\.[0-9]{12,}(?:e[-+][0-9]+)?", lambda number: repr(float(f"{float(number[0]):.11g}")), text)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """``golden(name, text)``: compares with ``golden/name`` beside the test, or writes it with --rebuild-golden."""

    def check(name: str, text: str) -> None:
        path = request.path.parent / "golden" / name
        if request.config.getoption("--rebuild-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert settled(text) == settled(path.read_text(encoding="utf-8")), (
            "run pytest --rebuild-golden if the change is meant"
        )

    return check


def modules_of(layers: int = 2, spectrum: Any = (4.0, 2.0, 1.0, 0.5)) -> dict[str, tuple[int, int, Any]]:
    """Module path → (out, in, σ) of a small model whose modules all have the same spectrum but for its size."""
    return {
        f"model.layers.{layer}.{'mlp' if kind == 'down_proj' else 'self_attn'}.{kind}": (
            out_features,
            in_features,
            tuple(size * value for value in spectrum),
        )
        for layer in range(layers)
        for kind, (out_features, in_features, size) in LLAMA.items()
    }


def planted_factors(
    out_features: int, in_features: int, spectrum: Any, r: int, scaling: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """``lora_A`` (r, in), ``lora_B`` (out, r) float32 whose scaled product has exactly these singular values."""
    random = np.random.default_rng(seed)
    values = np.zeros(r)
    values[: len(spectrum)] = spectrum
    rows = np.linalg.qr(random.standard_normal((in_features, r)))[0].T
    columns = np.linalg.qr(random.standard_normal((out_features, r)))[0]
    return rows.astype(np.float32), (columns * (values / scaling)).astype(np.float32)


def write_adapter(
    folder: Path,
    modules: Mapping[str, tuple[int, int, Any]],
    *,
    r: int = 16,
    alpha: int = 32,
    seed: int = 0,
    config: Mapping[str, Any] | None = None,
    edit: Callable[[dict[str, np.ndarray]], None] = lambda tensors: None,
) -> Path:
    """A PEFT adapter folder with planted spectra; ``edit`` may change the tensors before they are written."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, np.ndarray] = {}
    for index, (name, (out_features, in_features, spectrum)) in enumerate(modules.items()):
        lora_A, lora_B = planted_factors(out_features, in_features, spectrum, r, alpha / r, 1000 * seed + index)
        tensors[f"base_model.model.{name}.lora_A.weight"] = lora_A
        tensors[f"base_model.model.{name}.lora_B.weight"] = lora_B
    edit(tensors)
    save_file(
        {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, folder / "adapter_model.safetensors"
    )
    plain = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "base",
        "r": r,
        "lora_alpha": alpha,
        "target_modules": sorted({name.rpartition(".")[2] for name in modules}),
        "fan_in_fan_out": False,
    }
    (folder / "adapter_config.json").write_text(json.dumps(plain | dict(config or {})), encoding="utf-8")
    return folder


def manifest_of(modules: Mapping[str, tuple[int, int, Any]], r: int, alpha: int) -> runs.Manifest:
    """The manifest of a good run: gain 1 ± 0.01 nats, 120 steps, the learning rate inside the grid."""
    per_rank = sum(out_features + in_features for out_features, in_features, _ in modules.values())
    trials = tuple(runs.LearningRateTrial(rate, 8, loss) for rate, loss in ((3e-4, 2.2), (1e-3, 2.0), (3e-3, 2.4)))
    return runs.Manifest(
        schema=json_files.SCHEMA,
        lorarank="0.1.0",
        versions={"python": "3.11"},
        command=("lorarank", "probe", "base"),
        created="2026-01-01T00:00:00Z",
        base=runs.BaseFacts("base", None, "llama", 1_000_000, "float32", None),
        data=runs.DataFacts(
            "train.jsonl", None, "completion", "f" * 64, 500, 60, 50_000, 1_000, 6000, 2400, 0, 0, 128, True
        ),
        training=runs.TrainingFacts(
            rank=r,
            alpha=alpha,
            target="all-linear",
            target_modules=tuple(sorted({name.rpartition(".")[2] for name in modules})),
            trainable_parameters=r * per_rank,
            learning_rate=1e-3,
            learning_rate_trials=trials,
            schedule="linear",
            optimiser="AdamW",
            steps=120,
            rows_per_step=4,
            batch_tokens=512,
            trained_tokens=61_440,
            epochs=1.2,
            replicates=1,
            seed=0,
            device="cpu",
            precision="float32",
            first_loss=2.5,
            final_loss=1.6,
        ),
        heldout=runs.HeldoutFacts(runs.Loss(2.5, 0.05), (runs.Loss(1.5, 0.04),), (runs.Loss(1.0, 0.01),)),
        wall_seconds={"total": 60.0},
    )


def truncation_of(modules: Mapping[str, Any], r: int, excesses: Mapping[int, float], se: float) -> runs.Truncation:
    """A truncation curve with these excesses, and every type worth a different share of the gain."""
    kinds = sorted({name.rpartition(".")[2] for name in modules})
    return runs.Truncation(
        schema=json_files.SCHEMA,
        metric="loss",
        rank=r,
        documents=60,
        points=tuple(
            runs.TruncationPoint(k, runs.Loss(1.5 + excess, 0.04), runs.Loss(excess, se))
            for k, excess in excesses.items()
        ),
        without=tuple(
            runs.TypeWithout(kind, sum(name.endswith(kind) for name in modules), runs.Loss(0.3 / 10**index, 0.002))
            for index, kind in enumerate(kinds)
        ),
    )


@pytest.fixture
def make_adapter(tmp_path: Path) -> Callable[..., Path]:
    """``make_adapter(name="adapter", modules=..., ...)``: see :func:`write_adapter`."""

    def make(name: str = "adapter", modules: Any = None, **how: Any) -> Path:
        return write_adapter(tmp_path / name, modules_of() if modules is None else modules, **how)

    return make


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """``make_run(...)``: a finished run folder with planted spectra; see the parameters inside."""

    def make(
        modules: Any = None,
        *,
        name: str = "run",
        r: int = 16,
        alpha: int = 32,
        replicates: Any = None,  # seeds of the adapters; equal seeds make equal updates
        earlier: Any = None,  # σ of every module three quarters of the way
        excesses: Any = None,
        excess_se: float = 0.002,
        companion: Any = None,  # loss beyond the probe's at r = 1, and its standard error
        training: Any = None,
        data: Any = None,
        heldout: Any = None,
        edit: Any = lambda tensors: None,
        config: Any = None,
        whitened: bool = False,  # identity moments; otherwise inputs and gradients are white, and all metrics agree
    ) -> Path:
        modules = modules_of() if modules is None else modules
        seeds = (0,) if replicates is None else tuple(replicates)
        folder = tmp_path / name
        for index, seed in enumerate(seeds):
            path = folder / runs.adapter_name(index)
            write_adapter(path, modules, r=r, alpha=alpha, seed=seed, edit=edit, config=config)
        manifest = manifest_of(modules, r, alpha)
        good = manifest.heldout
        each = {"probes": good.probes * len(seeds), "gains": good.gains * len(seeds)}
        manifest = replace(
            manifest,
            training=replace(manifest.training, **({"replicates": len(seeds)} | dict(training or {}))),
            data=replace(manifest.data, **dict(data or {})),
            heldout=replace(good, **(each | dict(heldout or {}))),
        )
        points = {1: 0.2, 2: 0.05, 4: 0.009, 8: 0.002} if excesses is None else excesses
        json_files.write_json(folder / runs.TRUNCATION, truncation_of(modules, r, points, excess_se))
        spectra = {key: tuple(values if earlier is None else earlier) for key, (_, _, values) in modules.items()}
        trajectory = runs.Trajectory(
            json_files.SCHEMA, tuple(runs.TrajectoryPoint(int(120 * f), f, spectra) for f in (0.25, 0.5, 0.75))
        )
        json_files.write_json(folder / runs.TRAJECTORY, trajectory)
        moments = {}
        for index in range(len(seeds)):
            factors = load_file(folder / runs.adapter_name(index) / "adapter_model.safetensors")
            for module in modules:
                A, B = (factors.get(f"base_model.model.{module}.lora_{side}.weight") for side in "AB")
                known = whitened or A is None or B is None
                grams = (np.eye(r), np.eye(r)) if known else (A @ A.T, B.T @ B)
                moments |= dict(zip(runs.moment_keys(index, module), grams, strict=True))
        save_file(moments, folder / runs.MOMENTS)
        if companion is not None:
            excess = runs.Loss(*companion)
            low = runs.Companion(json_files.SCHEMA, 1, runs.Loss(1.5 + excess.mean, 0.04), excess, (excess,) * 4)
            json_files.write_json(folder / runs.COMPANION, low)
        json_files.write_json(folder / runs.MANIFEST, manifest)
        return folder

    return make


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def value(given: Any) -> bytes:
    """A value of GGUF's metadata with its kind: text, whole number, fraction, truth, a list of texts or fractions."""
    if isinstance(given, bytes):
        return given
    if isinstance(given, str):
        return struct.pack("<I", 8) + string(given)
    if isinstance(given, bool):
        return struct.pack("<I?", 7, given)
    if isinstance(given, int):
        return struct.pack("<II", 4, given)
    if isinstance(given, float):
        return struct.pack("<If", 6, given)
    if isinstance(given[0], str):
        return struct.pack("<IIQ", 9, 8, len(given)) + b"".join(map(string, given))
    return struct.pack(f"<IIQ{len(given)}f", 9, 6, len(given), *given)


def gguf(
    tensors: Mapping[str, np.ndarray],
    values: Mapping[str, Any] | None = None,
    *,
    version: int = 3,
    alignment: int = 32,
    kinds: Mapping[str, int] | None = None,
    offsets: Sequence[int] | None = None,
) -> bytes:
    """A GGUF file of an adapter; ``kinds`` and ``offsets`` of the tensors override what is right."""
    values = {"general.type": "adapter", "adapter.type": "lora", **(values or {})}
    known = {"float32": 0, "float16": 1, "float64": 28}
    header = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(values))
    header += b"".join(string(key) + value(given) for key, given in values.items())
    data = b""
    for place, (name, x) in enumerate(tensors.items()):
        data += bytes(-len(data) % alignment)
        header += string(name) + struct.pack(f"<I{x.ndim}Q", x.ndim, *x.shape[::-1])
        header += struct.pack("<I", (kinds or {}).get(name, known.get(x.dtype.name, 0)))
        header += struct.pack("<Q", len(data) if offsets is None else offsets[place])
        data += x.tobytes()
    return header + bytes(-len(header) % alignment) + data


@pytest.fixture(scope="session")
def gguf_bytes() -> Callable[..., bytes]:
    """:func:`gguf`, for tests to make files with."""
    return gguf


@pytest.fixture
def small_model() -> Callable[[str], Any]:
    """``small_model("llama")`` or ``"mixtral"``: two layers of transformers' making, the weights always the same."""

    def build(kind: str) -> Any:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

        sizes = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
        torch.manual_seed(0)
        if kind == "llama":
            return LlamaForCausalLM(LlamaConfig(**sizes, **heads, intermediate_size=24))
        return MixtralForCausalLM(MixtralConfig(**sizes, **heads, intermediate_size=12, num_local_experts=3))

    return build
