"""The way from an adapter or a run to a smaller one: what is said of it, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from lorarank import adapters, runs
from lorarank.errors import AdapterError, LorarankError, NumericsError, OptionError
from lorarank.numerics.linalg import singular_values
from lorarank.report import resized
from lorarank.report.page import Page
from lorarank.report.plain import laid_out
from lorarank.resize import ConvertOptions, ResizeOptions, convert, resize

Make = Callable[..., Path]


def delta(module: adapters.LoraModule) -> np.ndarray:
    lora_A, lora_B = module.factors()
    return module.scaling * lora_B @ lora_A


@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_error_of_a_cut_is_the_energy_it_says_it_drops(
    data: st.DataObject, make_adapter: Make, tmp_path: Path
) -> None:
    spectrum = data.draw(st.lists(st.floats(0.1, 10), min_size=1, max_size=6).map(lambda s: sorted(s, reverse=True)))
    k = data.draw(st.integers(1, 8))
    name = f"{len(list(tmp_path.iterdir()))}"
    before = make_adapter(name, {"layers.0.q": (12, 9, spectrum), "layers.1.q": (9, 20, spectrum[:2])}, r=8)
    done = resize(before, tmp_path / f"{name}-out", ResizeOptions(rank=k))
    pairs = zip(adapters.open(before).modules, adapters.open(tmp_path / f"{name}-out").modules, strict=True)
    for (old, new), module in zip(pairs, done.modules, strict=True):
        error = np.sum((delta(old) - delta(new)) ** 2) / np.sum(delta(old) ** 2)
        assert error == pytest.approx(module.dropped, abs=1e-6)
        assert new.r == module.r == min(k, 8)
    assert done.parameters == adapters.open(tmp_path / f"{name}-out").parameters


def test_the_record_says_what_was_done(make_adapter: Make, tmp_path: Path) -> None:
    done = resize(make_adapter(), tmp_path / "out", ResizeOptions(rank=2), command=("lorarank", "resize", "x"))
    record = json.loads((tmp_path / "out" / "resize.json").read_text())
    assert record["command"] == ["lorarank", "resize", "x"]
    assert record["lorarank"] == done.lorarank
    assert [module["dropped"] for module in record["modules"]] == [module.dropped for module in done.modules]


def test_per_module_ranks_are_ordinary_patterns(make_adapter: Make, tmp_path: Path) -> None:
    modules = {
        "layers.0.q": (20, 30, (1.0,)),
        "layers.1.q": (20, 30, (1.0, 1.0, 1.0)),
        "x.layers.1.q": (20, 30, (1.0,)),
    }
    resize(make_adapter(modules=modules, r=4, alpha=6), tmp_path / "out", ResizeOptions(energy=0.9, per_module=True))
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (1, 1.5)
    assert config["rank_pattern"] == {r"^layers\.1\.q": 3}  # alone: the other path ends in the same words
    assert config["alpha_pattern"] == {r"^layers\.1\.q": 4.5}


def test_where_ranks_are_mixed_one_rank_is_of_those_that_had_a_higher_one(make_adapter: Make, tmp_path: Path) -> None:
    modules = {"layers.0.q": (20, 30, (1.0,)), "layers.1.q": (20, 30, (1.0, 1.0, 1.0))}
    mixed = tmp_path / "mixed"
    resize(make_adapter(modules=modules, r=4), mixed, ResizeOptions(energy=0.9, per_module=True))
    done = resize(mixed, tmp_path / "out", ResizeOptions(rank=2))
    assert (done.r, done.criterion) == ((1, 2), "--rank 2, one rank for all modules that had a higher one")


def test_modules_left_out_are_no_targets(make_adapter: Make, tmp_path: Path) -> None:
    modules = {"layers.0.q": (20, 30, (1.0,)), "layers.1.q": (20, 30, (1e-3,)), "layers.2.q": (20, 30, ())}
    done = resize(make_adapter(modules=modules, r=4), tmp_path / "out", ResizeOptions(threshold_global=0.01))
    assert [module.r for module in done.modules] == [1, 0, 0]
    assert [module.dropped for module in done.modules] == [pytest.approx(0, abs=1e-9), 1, 0]
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["target_modules"] == ["layers.0.q"]
    assert "2 of 3 modules" in laid_out(Page(), resized.lay, done)


@pytest.mark.parametrize("per_module", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.7, 1.0])
def test_a_budget_counts_what_is_written(per_module: bool, share: float, make_adapter: Make, tmp_path: Path) -> None:
    before = make_adapter()
    budget = int(share * adapters.open(before).parameters)
    done = resize(before, tmp_path / "out", ResizeOptions(params=budget, per_module=per_module))
    written = sum(tensor.size for tensor in load_file(tmp_path / "out" / "adapter_model.safetensors").values())
    assert done.parameters == written <= budget


def test_a_cut_in_the_metric_of_a_run(make_run: Make, tmp_path: Path) -> None:
    run = make_run({"layers.0.q_proj": (20, 30, (3.0, 2.0, 1.0))}, r=4, alpha=4)
    # inputs that excite the third direction most: there the cut keeps it and not the first
    (module,) = adapters.open(run / "adapter").modules
    lora_A, lora_B = module.factors()
    moment = lora_A @ np.diag(np.linspace(0.1, 1, 30) ** 8) @ lora_A.T
    gram_A, gram_B = runs.moment_keys(0, module.name)
    save_file({gram_A: moment, gram_B: lora_B.T @ lora_B}, run / runs.MOMENTS)
    done = resize(run, tmp_path / "out", ResizeOptions(rank=1, metric="activation"))
    (cut,) = adapters.open(tmp_path / "out").modules
    root = np.linspace(0.1, 1, 30) ** 4
    U, s, Vt = np.linalg.svd(delta(module) * root)
    np.testing.assert_allclose(delta(cut) * root, s[0] * np.outer(U[:, 0], Vt[0]), atol=2e-6 * s[0])
    assert done.dropped == pytest.approx(float(np.sum(s[1:] ** 2) / np.sum(s**2)), rel=1e-4)
    with pytest.raises(OptionError, match="moments"):
        resize(run / "adapter", tmp_path / "other", ResizeOptions(rank=1, metric="loss"))


@pytest.mark.parametrize(("share", "k"), [(0.3, 1), (0.06, 2), (0.01, 4), (0.003, 8), (0.001, 16)])
def test_keep_loss_is_the_smallest_measured_cut_that_is_good_enough(
    share: float, k: int, make_run: Make, tmp_path: Path
) -> None:
    done = resize(make_run(), tmp_path / "out", ResizeOptions(keep_loss=share, metric="loss"))
    assert done.r == (k,)
    assert done.loss is not None
    assert done.loss.excess <= share
    assert (
        ", the whole probe" in laid_out(Page(), resized.lay, done)
        if k == 16
        else "measured on 60" in laid_out(Page(), resized.lay, done)
    )


def test_what_a_run_has_not_measured_is_said(make_run: Make, tmp_path: Path) -> None:
    run = make_run()
    done = resize(run, tmp_path / "a", ResizeOptions(rank=3, metric="loss"))
    assert done.loss is None
    assert "at k = 3 was not measured; beside it the run lost 5.0% of the gain at k = 2, 0.9%" in done.notes[-1]
    rounded = resize(run, tmp_path / "d", ResizeOptions(rank=2, metric="loss", dtype="bfloat16"))
    assert rounded.loss is not None
    assert "before the factors were rounded to bfloat16" in rounded.notes[-1]
    assert "in the metric loss" in resize(run, tmp_path / "b", ResizeOptions(rank=2)).notes[-1]
    per_module = ResizeOptions(energy=0.99, per_module=True)
    mixed = make_run({"a.q_proj": (20, 30, (1.0,)), "b.q_proj": (20, 30, (1.0, 1.0))}, name="mixed")
    assert "one rank only" in resize(mixed, tmp_path / "c", per_module).notes[-1]


@pytest.mark.parametrize(
    ("how", "words"),
    [({"metric": "weight"}, "in the metric loss"), ({"metric": "loss"}, "gained nothing")],
)
def test_keep_loss_that_cannot_be_answered(how: dict[str, Any], words: str, make_run: Make, tmp_path: Path) -> None:
    run = make_run(heldout={"gains": (runs.Loss(-0.1, 0.1),)})
    with pytest.raises(OptionError, match=words):
        resize(run, tmp_path / "out", ResizeOptions(keep_loss=0.01, **how))


def test_keep_loss_needs_a_run(make_adapter: Make, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="does not say what a cut costs"):
        resize(make_adapter(), tmp_path / "out", ResizeOptions(keep_loss=0.01))


def test_an_adapter_whose_base_depends_on_r_is_not_cut(make_adapter: Make, tmp_path: Path) -> None:
    before = make_adapter(config={"init_lora_weights": "pissa_niter_4"})
    with pytest.raises(AdapterError, match="initialised with pissa_niter_4"):
        resize(before, tmp_path / "out", ResizeOptions(rank=2))
    assert not (tmp_path / "out").exists()
    convert(before, tmp_path / "half", ConvertOptions(dtype="float16"))


def test_groups_of_columns_are_copied_and_not_cut(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    folder = tmp_path / "in"
    folder.mkdir()
    stem = "base_model.model.conv"
    tensors = {
        f"{stem}.lora_A.weight": random.standard_normal((4, 2, 3, 3)).astype(np.float32),
        f"{stem}.lora_B.weight": random.standard_normal((8, 2, 1, 1)).astype(np.float32),
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["conv"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    convert(folder, tmp_path / "same", ConvertOptions())
    found = load_file(tmp_path / "same" / "adapter_model.safetensors")
    assert all(np.array_equal(found[key], tensor) for key, tensor in tensors.items())
    with pytest.raises(AdapterError, match="in groups"):
        resize(folder, tmp_path / "out", ResizeOptions(rank=2))


def test_a_fused_projection_of_old_peft_becomes_an_ordinary_one(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    folder = tmp_path / "in"
    folder.mkdir()
    stem = "base_model.model.qkv"
    tensors = {
        f"{stem}.lora_A.weight": random.standard_normal((8, 10)).astype(np.float32),
        f"{stem}.lora_B.weight": random.standard_normal((24, 4, 1)).astype(np.float32),
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": 6,
        "enable_lora": [True, False, True],
        "target_modules": ["qkv"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (before,) = adapters.open(folder).modules
    done = resize(folder, tmp_path / "out", ResizeOptions(rank=5))
    (after,) = adapters.open(tmp_path / "out").modules
    U, s, Vt = np.linalg.svd(delta(before), full_matrices=False)
    np.testing.assert_allclose(delta(after), (U[:, :5] * s[:5]) @ Vt[:5], atol=1e-5)
    assert done.parameters == after.parameters == 5 * (36 + 10)
    written = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert "enable_lora" not in written
    assert (written["r"], written["lora_alpha"]) == (5, 7.5)


def test_what_a_dtype_cannot_hold_is_refused(make_adapter: Make, tmp_path: Path) -> None:
    def huge(tensors: dict[str, np.ndarray]) -> None:
        for tensor in tensors.values():
            tensor *= 1e6

    with pytest.raises(NumericsError, match="exceeds the range of float16"):
        convert(make_adapter(edit=huge), tmp_path / "out", ConvertOptions(dtype="float16"))
    assert list(tmp_path.iterdir()) == [tmp_path / "adapter"]


def test_what_falls_below_the_range_of_a_dtype_is_refused(make_adapter: Make, tmp_path: Path) -> None:
    def tiny(tensors: dict[str, np.ndarray]) -> None:
        for tensor in tensors.values():
            tensor *= 1e-20

    small = make_adapter(edit=tiny)
    with pytest.raises(NumericsError, match="is too small for float16, which would lose 100% of its norm"):
        convert(small, tmp_path / "out", ConvertOptions(dtype="float16"))
    convert(small, tmp_path / "out", ConvertOptions(dtype="bfloat16"))
    for old, new in zip(adapters.open(small).modules, adapters.open(tmp_path / "out").modules, strict=True):
        np.testing.assert_allclose(delta(new), delta(old), rtol=0, atol=0.01 * np.linalg.norm(delta(old)))


def test_singular_values_that_are_kept_are_the_old_ones(make_adapter: Make, tmp_path: Path) -> None:
    before = make_adapter()
    resize(before, tmp_path / "out", ResizeOptions(rank=3))
    for old, new in zip(adapters.open(before).modules, adapters.open(tmp_path / "out").modules, strict=True):
        one, two = (singular_values(*module.factors(), module.scaling) for module in (old, new))
        np.testing.assert_allclose(two, one[:3], rtol=1e-6)


def test_errors_are_of_the_family(tmp_path: Path) -> None:
    with pytest.raises(LorarankError):
        resize(tmp_path / "nowhere", tmp_path / "out", ResizeOptions(rank=1))


def test_ranks_across_modules_in_no_common_currency_are_doubted(make_run: Make, tmp_path: Path) -> None:
    run = make_run()
    for index, (how, doubted) in enumerate(
        (
            ({"params": 3000, "per_module": True}, True),
            ({"threshold_global": 0.1}, True),
            ({"params": 3000, "per_module": True, "metric": "loss"}, False),
            ({"params": 3000}, False),
            ({"energy": 0.9, "per_module": True}, False),
        )
    ):
        done = resize(run, tmp_path / str(index), ResizeOptions(**how))  # type: ignore[arg-type]
        assert any("no common currency" in note for note in done.notes) == doubted, how
