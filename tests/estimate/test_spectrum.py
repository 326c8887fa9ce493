"""Spectra of an adapter's modules, against dense algebra, in the three metrics."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lorarank import adapters, runs
from lorarank.errors import NumericsError, OptionError, RunError
from lorarank.spectrum import measure, of_module, of_modules

Make = Callable[..., Path]
NAME = "model.layers.1.self_attn.q_proj"


def root(gram: np.ndarray) -> np.ndarray:
    """The symmetric square root."""
    values, vectors = np.linalg.eigh(gram)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


@pytest.fixture
def adapter(make_adapter: Make) -> adapters.Adapter:
    return adapters.open(make_adapter(modules={NAME: (20, 30, (4.0, 2.0, 1.0))}, r=4))


def moments(path: Path, **arrays: np.ndarray) -> Path:
    key_A, key_B = runs.moment_keys(0, NAME)
    keys = {"gram_A": key_A, "gram_B": key_B}
    save_file({keys[name]: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
    return path


def test_what_was_planted_comes_back(adapter: adapters.Adapter) -> None:
    (found,) = measure(adapter)
    assert found.singular_values == pytest.approx([4, 2, 1, 0], abs=1e-5)
    assert found.singular_values.dtype == np.float64
    assert (found.module, found.type, found.layer) == (NAME, "q_proj", 1)
    assert (found.out_features, found.in_features, found.r, found.scaling) == (20, 30, 4, 8)
    assert (found.parameters, found.parameters_per_rank) == (200, 50)


def test_metrics_are_those_of_the_dense_matrices(adapter: adapters.Adapter, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    inputs, gradients = random.standard_normal((30, 90)), random.standard_normal((20, 70))
    C, G = inputs @ inputs.T / 90, gradients @ gradients.T / 70
    lora_A, lora_B = adapter.modules[0].factors()
    delta = adapter.modules[0].scaling * lora_B @ lora_A
    path = moments(tmp_path / "m.safetensors", gram_A=lora_A @ C @ lora_A.T, gram_B=lora_B.T @ G @ lora_B)
    (activation,) = measure(adapter, metric="activation", moments=path)
    (loss,) = measure(adapter, metric="loss", moments=path)
    dense = np.linalg.svd(delta @ root(C), compute_uv=False)[:3]
    assert activation.singular_values[:3] == pytest.approx(dense, rel=1e-6)
    dense = np.linalg.svd(root(G) @ delta @ root(C), compute_uv=False)[:3]
    assert loss.singular_values[:3] == pytest.approx(dense, rel=1e-6)


@pytest.mark.parametrize("count", [1, 7])  # alone, and with others
def test_factors_that_have_nan_are_not_kept(count: int, make_adapter: Make) -> None:
    def edit(tensors: dict[str, np.ndarray]) -> None:
        for tensor in tensors.values():
            tensor[:] = np.nan

    planted = {f"layers.{i}.q_proj": (2000, 3000, (1.0,)) for i in range(count)}
    found = adapters.open(make_adapter(modules=planted, r=4, edit=edit)).modules
    tracemalloc.start()
    try:
        spectra = of_modules(found)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(spectra) == count
    assert kept < 4 * 2000 * found[0].r  # less than one factor


def test_many_modules_are_measured_as_each_alone_is(make_adapter: Make) -> None:
    """In their order, whether a module's core is one of several, has to be looked at alone, or cannot be measured."""

    def edit(tensors: dict[str, np.ndarray]) -> None:
        stem = "base_model.model.layers.{}.q_proj.lora_{}.weight"
        tensors[stem.format(4, "A")][0, 0] = np.nan
        tensors[stem.format(6, "B")][:] = 0
        for layer in (8, 9, 10):  # of another rank
            tensors[stem.format(layer, "A")] = tensors[stem.format(layer, "A")][:2].copy()
            tensors[stem.format(layer, "B")] = tensors[stem.format(layer, "B")][:, :2].copy()

    planted = {f"layers.{i}.q_proj": (20 + i, 30, (4.0, 3.0, 2.0, 1.0 if i % 5 else 1e-9)) for i in range(20)}
    pattern = {"rank_pattern": {f"layers.{layer}.q_proj": 2 for layer in (8, 9, 10)}}
    found = adapters.open(make_adapter(modules=planted, r=4, edit=edit, config=pattern)).modules
    seen: list[tuple[int, int]] = []
    spectra = of_modules(found, progress=lambda done, total: seen.append((done, total)))
    assert [module.r for module in found].count(2) == 3
    for module, values in zip(found, spectra, strict=True):
        if module.name == "layers.4.q_proj":
            assert isinstance(values, NumericsError)
            assert "layers.4.q_proj" in str(values)
        else:
            assert not isinstance(values, NumericsError)
            assert values.tolist() == of_module(module).singular_values.tolist()
    assert seen == sorted(seen)
    assert {total for _, total in seen} == {20}


def test_other_metrics_need_moments(adapter: adapters.Adapter) -> None:
    with pytest.raises(OptionError, match="--metric loss: an adapter alone"):
        measure(adapter, metric="loss")
    with pytest.raises(OptionError, match="weight, activation, loss"):
        measure(adapter, metric="frobenius")


def test_moments_that_do_not_fit_name_the_key(adapter: adapters.Adapter, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with pytest.raises(RunError, match=r"m\.safetensors: the file is missing"):
        measure(adapter, metric="loss", moments=path)
    path.write_bytes(b"garbage")
    with pytest.raises(RunError, match="no readable safetensors file"):
        measure(adapter, metric="loss", moments=path)
    moments(path, gram_A=np.eye(4))
    with pytest.raises(RunError, match=r"q_proj\.gram_B: the moments are missing"):
        measure(adapter, metric="loss", moments=path)
    moments(path, gram_A=np.eye(3))
    with pytest.raises(RunError, match=r"gram_A: its shape is \(3, 3\), not \(4, 4\)"):
        measure(adapter, metric="activation", moments=path)
    moments(path, gram_A=np.full((4, 4), np.nan))
    with pytest.raises(NumericsError, match="gram_A: NaN or infinity"):
        measure(adapter, metric="activation", moments=path)


def test_each_replicate_has_its_own_moments(make_run: Make) -> None:
    folder = make_run(replicates=(0, 0))
    arrays = load_file(folder / runs.MOMENTS)
    key = runs.moment_keys(1, "model.layers.0.self_attn.q_proj")[0]
    save_file({**arrays, key: 4 * arrays[key]}, folder / runs.MOMENTS)
    opened = adapters.open(folder / "adapter")
    first, second = (
        measure(opened, metric="activation", moments=folder / runs.MOMENTS, replicate=replicate) for replicate in (0, 1)
    )
    ratio = {
        one.module: two.singular_values[0] / one.singular_values[0] for one, two in zip(first, second, strict=True)
    }
    assert ratio.pop("model.layers.0.self_attn.q_proj") == pytest.approx(2)
    assert list(ratio.values()) == pytest.approx([1] * 5)
