"""Every number of an audit, against planted spectra and a dense SVD."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorarank import adapters
from lorarank.audit import AuditOptions, audit, audit_all
from lorarank.audit.figures import figures_of, together
from lorarank.audit.serving import VLLM_RANKS
from lorarank.errors import OptionError, SourceError

Make = Callable[..., Path]
PLANTED = (4.0, 2.0, 1.0, 0.5)
ENERGY = sum(value**2 for value in PLANTED)


def test_planted_spectra_come_back(make_adapter: Make) -> None:
    found = audit(make_adapter())
    first = next(module for module in found.modules if module.type == "q_proj")
    assert first.figures is not None
    np.testing.assert_allclose(first.figures.singular_values[:4], np.array(PLANTED), rtol=1e-6)
    assert first.figures.norm == pytest.approx(np.sqrt(ENERGY), rel=1e-6)
    assert first.figures.energy_ranks == (2, 3, 4)
    assert (first.type, first.layer, first.r, first.scaling) == ("q_proj", 0, 16, 2.0)
    assert first.figures.stable_rank == pytest.approx(ENERGY / 16, rel=1e-6)


def test_figures_agree_with_a_dense_svd(make_adapter: Make) -> None:
    folder = make_adapter()
    for module, measured in zip(adapters.open(folder).modules, audit(folder).modules, strict=True):
        lora_A, lora_B = module.factors()
        dense = np.linalg.svd(module.scaling * lora_B @ lora_A, compute_uv=False)[: module.r]
        assert measured.figures is not None
        np.testing.assert_allclose(measured.figures.singular_values, dense, atol=1e-12 * dense[0])
        assert (
            measured.figures.energy_ranks == figures_of(dense[None], [(1000, 1000)], (0.9, 0.95, 0.99))[0].energy_ranks
        )


def test_groups_hold_all_modules_once(make_adapter: Make) -> None:
    found = audit(make_adapter())
    for groups in (found.types, found.layers):
        assert sum(one.modules for one in groups) == found.whole.modules == 6
        assert sum(one.parameters for one in groups) == found.whole.parameters
        assert sum(one.energy for one in groups) == pytest.approx(1)
        norms = [one.figures.norm for one in groups if one.figures is not None]
        assert found.whole.figures is not None
        assert np.linalg.norm(norms) == pytest.approx(found.whole.figures.norm)
    assert [one.name for one in found.layers] == ["0", "1"]
    assert found.types[0].name == "down_proj"


def test_reductions_follow_the_shares(make_adapter: Make) -> None:
    found = audit(make_adapter(), AuditOptions(energy=(0.9, 0.95, 0.99, 1.0)))
    assert [cut.uniform for cut in found.reductions] == sorted(cut.uniform for cut in found.reductions)
    first, last = found.reductions[0], found.reductions[-1]
    assert first.uniform == 2
    assert first.parameters == 2 * sum(module.parameters_per_rank for module in found.modules)
    assert first.saved == pytest.approx(1 - first.parameters / found.whole.parameters)
    assert last.uniform == 4


def test_directions_that_are_zero_are_idle(make_adapter: Make) -> None:
    modules = {"q": (48, 64, (4.0, 2.0))}

    def halve(tensors: dict[str, np.ndarray]) -> None:
        tensors["base_model.model.q.lora_B.weight"][:, 2:] = 0

    found = audit(make_adapter(modules=modules, r=4, alpha=4, edit=halve))
    assert found.idle == 0.5
    assert [finding.code for finding in found.findings] == ["LR031", "LR030"][::-1]


def test_an_update_of_zero_is_dead_and_not_reducible(make_adapter: Make) -> None:
    def untrained(tensors: dict[str, np.ndarray]) -> None:
        tensors["base_model.model.q.lora_B.weight"][:] = 0

    found = audit(make_adapter(modules={"q": (48, 64, (4.0, 2.0))}, r=4, alpha=4, edit=untrained))
    assert [finding.code for finding in found.findings] == ["LR002"]


def test_a_module_with_nan_is_a_finding_and_the_others_are_measured(mixed: Path) -> None:
    found = audit(mixed)
    codes = {finding.module: finding.code for finding in found.findings if finding.module}
    assert codes["model.layers.0.self_attn.k_proj"] == "LR001"
    assert codes["model.layers.0.self_attn.q_proj"] == "LR002"
    assert [module.figures is None for module in found.modules].count(True) == 1
    assert found.whole.measured == 3
    assert found.quantities["nan"] == found.quantities["LR001"] == found.quantities["errors"] == 1


def test_saturated_spiked_and_noise(mixed: Path) -> None:
    codes = {}
    for finding in audit(mixed).findings:
        codes.setdefault(finding.module, set()).add(finding.code)
    assert codes["model.layers.1.self_attn.q_proj"] == {"LR003", "LR005"}
    assert codes["model.layers.1.self_attn.k_proj"] == {"LR004"}


def test_a_code_means_the_same_at_every_energy(mixed: Path) -> None:
    one, other = (audit(mixed, AuditOptions(energy=(share,))) for share in (0.5, 0.999))
    about = [[f for f in found.findings if f.module is not None] for found in (one, other)]
    assert about[0] == about[1]


def test_sizes_at_the_end_of_float64_are_findings(make_adapter: Make) -> None:
    def blow_up(tensors: dict[str, np.ndarray]) -> None:
        for index, name in enumerate(tensors):
            tensors[name] = np.full(tensors[name].shape, 1e153 if index else 1e200)

    found = audit(make_adapter(modules={"q": (8, 8, (1.0,)), "v": (8, 8, (1.0,))}, r=2, alpha=2, edit=blow_up))
    assert found.quantities["nan"] >= 1
    assert found.whole.measured == 2 - found.quantities["nan"]


def test_nothing_but_nan(make_adapter: Make) -> None:
    def spoil(tensors: dict[str, np.ndarray]) -> None:
        for tensor in tensors.values():
            tensor[:] = np.nan

    found = audit(make_adapter(edit=spoil))
    assert found.whole.figures is None
    assert found.quantities["nan"] == 6
    assert found.reductions[0].saved == 0


def test_patterns_that_an_engine_ignores(make_adapter: Make) -> None:
    config = {"r": 8, "lora_alpha": 8, "rank_pattern": {"q_proj": 16, "k_proj": 16, "down_proj": 16}}
    found = audit(make_adapter(r=16, alpha=8, config=config))
    assert found.serving.rescaled == 6
    assert found.serving.factors == (2.0, 2.0)
    assert found.serving.error == pytest.approx(1.0)
    assert found.quantities["LR020"] == 1
    (served,) = [finding for finding in found.findings if finding.code == "LR020"]
    assert "6 of 6 modules would be served at 2 times their scaling, which changes ΔW by 100%" in served.message


def test_a_negative_scaling_is_said(make_adapter: Make) -> None:
    path = make_adapter("negative", {"q": (16, 12, (2.0, 1.0))}, r=4, alpha=-4)
    assert any("1 of 1 modules has a negative scaling" in finding.message for finding in audit(path).findings)


def test_scalings_that_differ(make_adapter: Make) -> None:
    found = audit(make_adapter(config={"alpha_pattern": {"q_proj": 64}}))
    assert found.whole.scaling == (2.0, 4.0)
    (mixed,) = (finding for finding in found.findings if finding.code == "LR010")
    assert mixed.message == "Scalings run from 2 to 4."


def test_a_rank_above_the_engines(make_adapter: Make) -> None:
    folder = make_adapter()
    assert audit(folder).serving.too_large == 0
    served = audit(folder, AuditOptions(served_rank=2)).serving
    assert (served.too_large, served.needs) == (6, 16)
    assert served.kept == pytest.approx(20 / ENERGY, rel=1e-6)
    assert audit(folder, AuditOptions(served_rank=2)).quantities["served_rank"] == 1
    assert list(VLLM_RANKS) == sorted(VLLM_RANKS)


def test_dora_and_saved_modules_are_refused_by_the_engine(make_adapter: Make) -> None:
    found = audit(make_adapter(config={"use_dora": True, "modules_to_save": ["head"]}))
    assert found.serving.refused == ("use_dora", "modules_to_save")


@pytest.mark.parametrize(("config", "refused"), [({"bias": "lora_only"}, "bias"), ({"lora_bias": True}, "lora_bias")])
def test_biases_are_refused_by_the_engine(make_adapter: Make, config: Mapping[str, object], refused: str) -> None:
    found = audit(make_adapter(config=config))
    assert found.serving.refused == (refused,)
    assert found.quantities["served_refused"] == 1


def test_it_never_says_which_rank_to_train_at(make_adapter: Make) -> None:
    names = set(vars(audit(make_adapter())))
    assert not names & {"r", "recommendation", "train_rank"}


def test_checkpoints_in_order(make_adapter: Make) -> None:
    early, late = make_adapter("early", seed=1), make_adapter("late", seed=1, alpha=64)
    report = audit_all([early, late])
    assert report.evolution is not None
    assert [step.name for step in report.evolution.types] == ["down_proj", "q_proj", "k_proj"]
    assert report.evolution.types[0].ranks == (2, 2)
    assert report.evolution.types[0].norms[0] == pytest.approx(report.evolution.types[0].norms[1])


def test_adapters_of_other_modules_do_not_evolve(make_adapter: Make) -> None:
    assert audit_all([make_adapter("a"), make_adapter("b", {"q": (8, 8, (1.0,))}, r=4)]).evolution is None


def test_one_bad_source_does_not_stop_the_others(make_adapter: Make, tmp_path: Path) -> None:
    report = audit_all([tmp_path / "none", make_adapter()])
    assert len(report.audits) == len(report.unreadable) == 1
    assert "no such file" in report.unreadable[0].finding.message
    with pytest.raises(SourceError):
        audit_all([tmp_path / "none"])


def test_no_source() -> None:
    with pytest.raises(OptionError, match="no adapter"):
        audit_all([])


@pytest.mark.parametrize("energy", [(), (0.0,), (1.1,), (90.0,), (0.9, 0.9), (0.9, 0.9000001), (float("nan"),)])
def test_energies_out_of_range(energy: tuple[float, ...]) -> None:
    with pytest.raises(OptionError, match="--energy"):
        AuditOptions(energy=energy)


@given(st.lists(st.lists(st.floats(0, 1e150), min_size=1, max_size=6), min_size=1, max_size=5))
def test_a_group_is_within_its_modules(spectra: list[list[float]]) -> None:
    parts = [figures_of(np.sort([values])[:, ::-1], [(8, 8)], (0.9,))[0] for values in spectra]
    whole = together(parts)
    assert whole.sigma_1 == max(part.sigma_1 for part in parts)
    assert max(p.norm for p in parts) <= whole.norm * (1 + 1e-12)
    assert np.linalg.norm(np.array(whole.singular_values) / (whole.norm or 1)) == pytest.approx(float(whole.norm > 0))
    assert 0 <= whole.energy_ranks[0] <= max(p.energy_ranks[0] for p in parts)


def test_layers_of_two_stacks_are_told_apart(make_adapter: Make) -> None:
    names = [
        f"{stack}.layers.{i}.{last}" for stack in ("encoder", "decoder") for i in (0, 1) for last in ("fc1", "fc2")
    ]
    found = audit(make_adapter("both", dict.fromkeys([*names, "head"], (16, 12, (2.0, 1.0))), r=4))
    told = [(one.name, one.modules) for one in found.layers]
    # an adapter's modules are in natural order: the decoder's come first
    stacks = [(f"{stack}.layers.{i}", 2) for stack in ("decoder", "encoder") for i in (0, 1)]
    assert told == [*stacks, ("–", 1)]
