"""A full fine-tune against its base: planted changes, a dense SVD, and PEFT itself."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import load_file, save_file

from lorarank import adapters
from lorarank.cli import main
from lorarank.errors import LorarankError, ModelError, NumericsError, OptionError
from lorarank.fine_tune import compare_models, extract
from lorarank.numerics.leading import above_noise, energy_rank, leading_svd
from lorarank.report.fine_tune import lay_extraction
from lorarank.report.page import Page
from lorarank.report.plain import laid_out

SHAPES = {
    "model.embed_tokens.weight": (50, 24),
    "model.layers.0.self_attn.q_proj.weight": (24, 24),
    "model.layers.0.mlp.up_proj.weight": (40, 24),
    "model.layers.1.self_attn.q_proj.weight": (24, 24),
    "model.layers.1.mlp.up_proj.weight": (40, 24),
    "model.norm.weight": (24,),
}
Q, UP = "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.up_proj"
Edit = Callable[[dict[str, np.ndarray]], None]
Models = Callable[..., tuple[Path, Path]]


def planted(shape: tuple[int, int], spectrum: tuple[float, ...], seed: int = 1) -> np.ndarray:
    """A matrix of that shape and spectrum."""
    random = np.random.default_rng(seed)
    left, right = (np.linalg.qr(random.standard_normal((side, len(spectrum))))[0] for side in shape)
    return (left * spectrum) @ right.T


@pytest.fixture
def models(tmp_path: Path) -> Models:
    """``models(edit, ...)``: folders of a base and of the same weights after ``edit``, float64."""

    def make(
        edit: Edit = lambda tensors: None, config: object = None, shapes: dict[str, tuple[int, ...]] = SHAPES
    ) -> tuple[Path, Path]:
        random = np.random.default_rng(0)
        tensors = {name: random.standard_normal(shape) for name, shape in shapes.items()}
        for name in ("base", "tuned"):
            (tmp_path / name).mkdir()
            if name == "tuned":
                edit(tensors)
            save_file(tensors, tmp_path / name / "model.safetensors")
            (tmp_path / name / "config.json").write_text(json.dumps(config or {"model_type": "llama"}))
        return tmp_path / "base", tmp_path / "tuned"

    return make


def learned(tensors: dict[str, np.ndarray]) -> None:
    """Rank 3 in one matrix, rank 2 in another; the norm and the embedding move too."""
    tensors[f"{Q}.weight"] = tensors[f"{Q}.weight"] + planted((24, 24), (3.0, 1.0, 0.1))
    tensors[f"{UP}.weight"] = tensors[f"{UP}.weight"] + planted((40, 24), (2.0, 2.0))
    tensors["model.norm.weight"] = tensors["model.norm.weight"] + 1.0
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"] + planted((50, 24), (0.5,))


def test_planted_changes_come_back(models: Models) -> None:
    found = compare_models(*models(learned))
    updates = {update.name: update for update in found.updates}
    assert set(updates) == {Q, UP, "model.embed_tokens"}
    assert (found.unchanged, found.vectors) == (2, 1)
    assert found.vector_norm == pytest.approx(24**0.5)
    assert updates[Q].energy_ranks == (2, 2, 2)
    assert updates[UP].energy_ranks == (2, 2, 2)
    assert updates[Q].norm == pytest.approx(10.01**0.5)
    assert updates[Q].error < 1e-12
    assert not updates["model.embed_tokens"].linear


def test_what_lies_beyond_the_computed_directions_is_said(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorarank.fine_tune.updates.DIRECTIONS", 1)
    found = compare_models(*models(learned))
    updates = {update.name: update for update in found.updates}
    assert updates[UP].energy_ranks == (None, None, None)
    assert updates[UP].captured == pytest.approx(0.5)
    assert updates[UP].stable_rank == pytest.approx(2)


@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (30, 20), (7, 1)])
def test_leading_values_are_those_of_a_dense_svd(shape: tuple[int, int]) -> None:
    matrix = np.random.default_rng(0).standard_normal(shape)
    dense = np.linalg.svd(matrix, compute_uv=False)
    found = leading_svd(matrix, 10)
    k = min(10, *shape)
    np.testing.assert_allclose(found.s, dense[:k], rtol=1e-10)
    assert np.abs(found.s - dense[:k]).max() <= found.error + 1e-12
    assert found.residual == pytest.approx(np.linalg.norm(dense[k:]), abs=1e-6)
    np.testing.assert_allclose(np.linalg.norm(matrix - (found.U * found.s) @ found.Vt), found.residual, atol=1e-6)


def test_the_bound_holds_for_a_flat_spectrum() -> None:
    flat = np.linalg.qr(np.random.default_rng(0).standard_normal((200, 200)))[0]
    found = leading_svd(flat, 8)
    assert np.abs(found.s - 1).max() <= found.error + 1e-12
    assert energy_rank(found.s, found.norm, 0.9) is None


def test_a_zero_matrix_and_nan() -> None:
    assert leading_svd(np.zeros((4, 3)), 2).s.tolist() == [0, 0]
    with pytest.raises(NumericsError):
        leading_svd(np.array([[np.nan]]), 1)
    with pytest.raises(OptionError):
        leading_svd(np.eye(2), 0)


def test_nan_in_one_matrix_leaves_the_others(models: Models) -> None:
    def edit(tensors: dict[str, np.ndarray]) -> None:
        learned(tensors)
        tensors[f"{UP}.weight"][0, 0] = np.nan

    base, tuned = models(edit)
    updates = {update.name: update for update in compare_models(base, tuned).updates}
    assert "NaN" in updates[UP].problem
    assert updates[Q].energy_ranks == (2, 2, 2)
    with pytest.raises(NumericsError, match="up_proj"):
        extract(base, tuned, tuned.parent / "out", 1)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_numbers_that_are_none_in_a_norm_or_an_embedding_are_found(models: Models, number: float) -> None:
    def edit(tensors: dict[str, np.ndarray]) -> None:
        learned(tensors)
        tensors["model.norm.weight"][3] = number

    base, tuned = models(edit)
    found = compare_models(base, tuned)
    assert [(one.code, one.module) for one in found.findings if one.level == "error"] == [
        ("LR001", "model.norm.weight")
    ]
    assert (found.vectors, np.isfinite(found.vector_norm)) == (1, True)
    with pytest.raises(NumericsError, match=r"model\.norm\.weight: has NaN"):
        extract(base, tuned, tuned.parent / "out", 1)


def test_a_configuration_is_read_as_any_file_of_a_stranger(models: Models) -> None:
    base, tuned = models(learned)
    (base / "config.json").unlink()
    os.mkfifo(base / "config.json")
    assert compare_models(base, tuned).updates


def test_tensors_that_cannot_be_compared_are_named(models: Models) -> None:
    def edit(tensors: dict[str, np.ndarray]) -> None:
        tensors["model.embed_tokens.weight"] = np.zeros((51, 24))
        del tensors["model.norm.weight"]
        tensors["new.weight"] = np.zeros((2, 2))

    found = compare_models(*models(edit))
    assert [line.split(",")[0].split(" ")[0] for line in found.skipped] == [
        "model.embed_tokens.weight",
        "model.norm.weight",
        "new.weight",
    ]


def test_a_rank_above_what_a_layer_can_have_is_said(models: Models, tmp_path: Path) -> None:
    def edit(tensors: dict[str, np.ndarray]) -> None:
        for name in tensors:
            tensors[name] = tensors[name] + 1.0

    base, tuned = models(edit, shapes={"q_proj.weight": (24, 24), "k_proj.weight": (8, 24)})
    fits, above = (extract(base, tuned, tmp_path / str(rank), rank) for rank in (8, 9))
    assert (fits.padded, above.padded) == (0, 1)
    assert "smaller than that" not in laid_out(Page(), lay_extraction, fits)
    assert "(1 layer is smaller than that; its factors end in zeros)" in laid_out(Page(), lay_extraction, above)
    with pytest.raises(OptionError, match="no linear layer has so many"):
        extract(base, tuned, tmp_path / "25", 25)


def made(base: Path, tuned: Path, tmp_path: Path) -> Path:
    return extract(base, tuned, tmp_path / "made", 1).output


def test_an_extracted_lora_is_the_best_cut(models: Models, tmp_path: Path) -> None:
    base, tuned = models(learned)
    done = extract(base, tuned, tmp_path / "lora", 2)
    opened = {module.name: module for module in adapters.open(tmp_path / "lora").modules}
    assert set(opened) == {Q, UP}
    before, after = (load_file(folder / "model.safetensors") for folder in (base, tuned))
    for name, module in opened.items():
        lora_A, lora_B = module.factors()
        change = after[f"{name}.weight"] - before[f"{name}.weight"]
        left = np.linalg.svd(change, compute_uv=False)[2:]
        assert np.linalg.norm(change - module.scaling * lora_B @ lora_A) == pytest.approx(
            np.linalg.norm(left), abs=1e-5
        )
    assert done.kept == pytest.approx(1 - 0.01 / 18.01)
    assert done.left_out == pytest.approx(24.25 / (24.25 + 18.01))
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert config["target_modules"] == [UP, Q]  # layer 1 did not change, so types alone would name too much


@pytest.mark.parametrize(("dtype", "eps"), [("float16", 2**-11), ("bfloat16", 2**-8)])
def test_factors_are_stored_as_asked(models: Models, tmp_path: Path, dtype: str, eps: float) -> None:
    base, tuned = models(learned)
    extract(base, tuned, tmp_path / "exact", 2)
    extract(base, tuned, tmp_path / "small", 2, dtype=dtype)
    exact, small = (adapters.open(tmp_path / name).modules for name in ("exact", "small"))
    assert {module.dtype for module in small} == {dtype}
    for one, other in zip(exact, small, strict=True):
        for factor, rounded in zip(one.factors(), other.factors(), strict=True):
            np.testing.assert_allclose(rounded, factor, rtol=eps, atol=1e-7)


def test_a_dtype_that_cannot_hold_the_factors_is_said(models: Models, tmp_path: Path) -> None:
    def edit(tensors: dict[str, np.ndarray]) -> None:
        tensors[f"{Q}.weight"] = tensors[f"{Q}.weight"] + 1e12 * planted((24, 24), (1.0,))

    base, tuned = models(edit)
    with pytest.raises(NumericsError, match=rf"{Q}.*exceeds the range of float16"):
        extract(base, tuned, tmp_path / "lora", 1, dtype="float16")
    assert not (tmp_path / "lora").exists()
    with pytest.raises(OptionError, match="--dtype int8"):
        extract(base, tuned, tmp_path / "lora", 1, dtype="int8")


def test_gpt2_keeps_its_weights_the_other_way_round(models: Models, tmp_path: Path) -> None:
    def edit(tensors: dict[str, np.ndarray]) -> None:
        tensors["h.0.mlp.c_fc.weight"] = tensors["h.0.mlp.c_fc.weight"] + planted((40, 24), (2.0, 2.0))

    base, tuned = models(edit, {"model_type": "gpt2"}, {"h.0.mlp.c_fc.weight": (40, 24)})
    extract(base, tuned, tmp_path / "lora", 2)
    (module,) = adapters.open(tmp_path / "lora").modules
    assert (module.out_features, module.in_features) == (24, 40)
    assert json.loads((tmp_path / "lora" / "adapter_config.json").read_text())["fan_in_fan_out"] is True


def test_peft_loads_it_and_adds_the_change(models: Models, tmp_path: Path) -> None:
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")

    class Attention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q_proj = torch.nn.Linear(24, 24, bias=False)

        def forward(self, x: object) -> object:
            return self.q_proj(x)

    def edit(tensors: dict[str, np.ndarray]) -> None:
        tensors["q_proj.weight"] = tensors["q_proj.weight"] + planted((24, 24), (3.0, 1.0))

    base, tuned = models(edit, shapes={"q_proj.weight": (24, 24)})
    extract(base, tuned, tmp_path / "lora", 2)
    before, after = (load_file(folder / "model.safetensors")["q_proj.weight"] for folder in (base, tuned))
    model = Attention().double()
    model.q_proj.weight.data = torch.from_numpy(before.copy())
    merged = peft.PeftModel.from_pretrained(model, tmp_path / "lora").merge_and_unload()
    np.testing.assert_allclose(merged.q_proj.weight.detach().numpy(), after, atol=1e-5)


def test_what_is_in_the_way_is_left_alone(models: Models, tmp_path: Path) -> None:
    base, tuned = models(learned)
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "x").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("lora", "link"):
        with pytest.raises(OptionError, match="it exists and is not an empty folder"):
            extract(base, tuned, tmp_path / name, 2)
    with pytest.raises(OptionError, match="needs a folder"):
        extract(base, tuned, tmp_path / "lora.safetensors", 2)
    assert (tmp_path / "lora" / "x").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "link", "lora", "tuned"]


def test_models_that_do_not_go_together(models: Models, tmp_path: Path) -> None:
    base, tuned = models()
    with pytest.raises(ModelError, match="no linear layer"):
        extract(base, tuned, tmp_path / "lora", 2)
    (tmp_path / "other").mkdir()
    save_file({"x.weight": np.eye(2)}, tmp_path / "other" / "model.safetensors")
    with pytest.raises(ModelError, match="shares no matrix"):
        compare_models(base, tmp_path / "other")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LorarankError):
        compare_models(base, tmp_path / "empty")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_commands(models: Models, tmp_path: Path) -> None:
    base, tuned = models(learned)
    text = run("audit", "--base", base, tuned, "--per-module")
    assert text.exit_code == 0
    assert text.output.startswith("3 of 5 matrices changed")
    assert json.loads(run("audit", "--base", base, tuned, "--format", "json").stdout)["vectors"] == 1
    assert len(run("audit", "--base", base, tuned, "--format", "csv").stdout.splitlines()) == 4
    assert run("audit", "--base", base, tuned, "--format", "markdown").stdout.startswith("**3 of 5")
    assert run("audit", "--base", base, base).stdout.startswith("Nothing changed")
    done = run("extract", "--base", base, tuned, "-o", tmp_path / "lora", "--rank", "2")
    assert done.exit_code == 0
    assert done.output.startswith("Wrote ")
    assert run("extract", "--base", base, tuned, "-o", tmp_path / "lora2", "--rank", "0").exit_code == 2
    refused = run("extract", "--base", base, tuned, "-o", tmp_path / "lora2", "--rank", 10**9)
    assert refused.exit_code == 2
    assert "no linear layer has so many" in refused.stderr


def test_findings_and_checks_as_of_an_adapter(models: Models, tmp_path: Path) -> None:
    base, tuned = models(learned)
    log = json.loads(run("audit", "--base", base, tuned, "--format", "sarif").stdout)
    assert [result["ruleId"] for result in log["runs"][0]["results"]] == ["LR042"]
    done = run("audit", "--base", base, tuned, "--fail-if", "outside and keep == 2")
    assert done.exit_code == 4
    assert "--fail-if 'outside and keep == 2' holds." in done.stdout
    assert run("audit", "--base", base, tuned, "--fail-if", "keep > 2").exit_code == 0
    assert "holds" in run("audit", "--base", base, tuned, "--fail-if", "norm", "--format", "markdown").stdout
    assert run("audit", "--base", base, tuned, base).exit_code == 2  # more than one goes into a table


def test_a_row_a_fine_tune(models: Models, tmp_path: Path) -> None:
    base, tuned = models(learned)
    sources = [str(tuned), str(tmp_path / "none")]
    done = run("audit", "--base", base, *sources, "-o", tmp_path / "rows.jsonl", "--fail-if", "unreadable")
    assert done.exit_code == 4
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [(row["status"], row["format"], row["modules"], row["keep"]) for row in rows] == [
        ("ok", "fine-tune", 3, 2),
        ("unreadable", None, None, None),
    ]
    assert rows[0]["findings"] == "LR042"
    assert "0 sources in" in run("audit", "--base", base, *sources, "-o", tmp_path / "rows.jsonl").stdout


def test_a_pattern_of_fine_tunes(models: Models, tmp_path: Path) -> None:
    base, tuned = models(learned)
    for step in (10, 9):
        shutil.copytree(tuned, tmp_path / f"checkpoint-{step}")
    done = run("audit", "--base", base, tmp_path / "checkpoint-*", "-o", tmp_path / "rows.jsonl")
    assert "2 sources in" in done.stdout
    assert "fine-tunes" in done.stdout
    assert "LoRA" not in done.stdout
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [Path(row["source"]).name for row in rows] == ["checkpoint-9", "checkpoint-10"]
    assert run("audit", "--base", base, tmp_path / "tun*").exit_code == 0
    assert "the pattern matches nothing" in run("audit", "--base", base, tmp_path / "x*").stderr


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_rounding_is_foretold_and_taken_out(dtype: str, tmp_path: Path) -> None:
    """A planted change of rank 12 in a base that its dtype holds, stored with rounding."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save

    generator = torch.Generator().manual_seed(0)
    stored = getattr(torch, dtype)
    weight = (0.05 * torch.randn(300, 400, generator=generator)).to(stored)
    spectrum = tuple((0.08 if dtype == "bfloat16" else 0.01) * 0.95**i for i in range(12))
    change = torch.from_numpy(planted((300, 400), spectrum))
    exact = weight.double() + change
    name = f"{Q}.weight"
    for folder, tensor in (("base", weight), ("tuned", exact.to(stored))):
        (tmp_path / folder).mkdir()
        save({name: tensor}, tmp_path / folder / "model.safetensors")
    (update,) = compare_models(tmp_path / "base", tmp_path / "tuned").updates
    error = float((exact.to(stored).double() - exact).norm())
    assert update.dtype == dtype
    assert update.rounding == pytest.approx(error, rel=0.03)
    assert update.signal_ranks[2] == 12
    assert update.energy_ranks[2] is None or update.energy_ranks[2] > 12
    assert update.above == 12


def test_a_change_that_is_mostly_rounding_is_said(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save

    weight = torch.randn(200, 200, generator=torch.Generator().manual_seed(0)).bfloat16()
    tuned = (weight.double() + 0.002 * torch.randn(200, 200, generator=torch.Generator().manual_seed(1))).bfloat16()
    for folder, tensor in (("base", weight), ("tuned", tuned)):
        (tmp_path / folder).mkdir()
        save({f"{Q}.weight": tensor}, tmp_path / folder / "model.safetensors")
    codes = [finding.code for finding in compare_models(tmp_path / "base", tmp_path / "tuned").findings]
    assert codes == ["LR040", "LR041"]


def test_values_above_noise_are_those_below_it() -> None:
    random = np.random.default_rng(0)
    noise = random.standard_normal((200, 300))
    noise *= 2 / np.linalg.norm(noise)
    found = leading_svd(planted((200, 300), (3.0, 1.0, 0.6)) + noise, 20)
    np.testing.assert_allclose(above_noise(found.s, (200, 300), 2.0), [3.0, 1.0, 0.6], rtol=0.02)
    assert above_noise(leading_svd(0.9 * noise, 20).s, (200, 300), 2.0).size == 0
