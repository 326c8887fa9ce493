"""Two adapters with a known relation: what is said of them, and what is said about merging them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lorarank import adapters
from lorarank.compare import Compared, CompareOptions, compare
from lorarank.compare.verdict import verdict
from lorarank.errors import AdapterError, NumericsError, OptionError
from lorarank.report import compared
from lorarank.report.markdown_text import Markdown
from lorarank.report.page import Page
from lorarank.report.plain import as_csv, laid_out
from lorarank.resize import ConvertOptions, convert

Make = Callable[..., Path]
Golden = Callable[[str, str], None]
HOSTILE = "model.layers.0.\x1b[31m[red]evil[/red]| <b>`:smile:`\u202e.q_proj"


def negated(tensors: dict[str, np.ndarray]) -> None:
    for name, tensor in tensors.items():
        if ".lora_B." in name:
            tensor *= -1


def test_the_same_update_in_another_rank_and_scaling(make_adapter: Make) -> None:
    def doubled(tensors: dict[str, np.ndarray]) -> None:
        for name, tensor in tensors.items():
            if ".lora_B." in name:
                tensor *= 2

    found = compare(make_adapter("first"), make_adapter("second", alpha=16))
    assert found.whole.agreement == pytest.approx(1, abs=1e-6)
    again = compare(make_adapter("third"), make_adapter("fourth", edit=doubled))
    assert again.whole.second_norm == pytest.approx(2 * again.whole.first_norm, rel=1e-6)
    for module in found.modules:
        assert (module.first_replicates, module.second_replicates) == (4, 4)
        assert module.out is not None
        assert module.into is not None
        assert module.out.agreement == pytest.approx(1)
        assert module.into.largest_angle == pytest.approx(0, abs=0.1)
        assert module.verdict.kind == "aligned"
    assert found.whole.verdict.kind == "aligned"


@pytest.mark.parametrize("turned", [False, True])
def test_kohyas_names_are_those_of_diffusers_with_underscores(turned: bool, tmp_path: Path) -> None:
    numbers = np.random.default_rng(0)
    parts = ("unet.down_blocks.0.attentions.0.to_q", "text_encoder.text_model.encoder.layers.0.self_attn.q_proj")
    shapes = {"lora_A": (4, 16), "lora_B": (12, 4)}
    tensors = {
        f"{part}.{name}.weight": numbers.standard_normal(shape, np.float32)
        for part in parts
        for name, shape in shapes.items()
    }
    save_file(tensors, tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", ConvertOptions(to="kohya"))
    pair = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    found = compare(*(pair[::-1] if turned else pair))
    assert {module.name for module in found.modules} == set(parts)
    assert found.whole.agreement == pytest.approx(1)
    assert found.one_sided == ()


def test_independent_updates_are_nearly_orthogonal(make_adapter: Make) -> None:
    found = compare(make_adapter("first"), make_adapter("second", r=8, seed=1))
    assert abs(found.whole.agreement) < 0.1
    assert found.whole.verdict.kind == "orthogonal"
    assert (found.first.r, found.second.r) == ((16,), (8,))
    assert found.whole.first_replicates == 0
    for module in found.modules:
        assert module.out is not None
        assert module.out.chance == module.out.k / module.out_features


def test_opposed_updates_conflict(make_adapter: Make) -> None:
    found = compare(make_adapter("first"), make_adapter("second", edit=negated))
    assert found.whole.agreement == pytest.approx(-1, abs=1e-6)
    assert {module.verdict.kind for module in found.modules} == {"opposed"}
    assert found.whole.first_replicates == 0


def test_the_whole_is_the_cosine_of_all_updates_side_by_side(make_adapter: Make) -> None:
    first, second = make_adapter("first"), make_adapter("second", seed=0, edit=mixed)
    found = compare(first, second)
    flat = [
        np.concatenate([(m.scaling * np.matmul(*m.factors()[::-1])).ravel() for m in adapters.open(folder).modules])
        for folder in (first, second)
    ]
    norms = [float(np.linalg.norm(values)) for values in flat]
    assert found.whole.agreement == pytest.approx(float(flat[0] @ flat[1]) / norms[0] / norms[1], abs=1e-9)
    assert [found.whole.first_norm, found.whole.second_norm] == pytest.approx(norms)
    assert sum(kind.modules for kind in found.types) == found.whole.modules == 6


def mixed(tensors: dict[str, np.ndarray]) -> None:
    random = np.random.default_rng(5)
    for name, tensor in tensors.items():
        if "q_proj.lora_B" in name:
            tensor += random.standard_normal(tensor.shape).astype(np.float32)
        if "down_proj.lora_B" in name:
            tensor *= 3


def test_order_only_exchanges_the_sides(make_adapter: Make) -> None:
    first, second = make_adapter("first"), make_adapter("second", edit=mixed)
    one, two = compare(first, second), compare(second, first)
    assert one.whole.agreement == pytest.approx(two.whole.agreement, abs=1e-12)
    assert one.whole.first_replicates == two.whole.second_replicates
    assert one.whole.out == pytest.approx(two.whole.out)


def test_modules_in_only_one_are_listed(make_adapter: Make) -> None:
    first = {"layers.0.q": (20, 30, (2.0, 1.0)), "layers.0.k": (20, 30, (1.0,)), "layers.0.v": (20, 30, (1.0,))}
    second = {"layers.0.q": (20, 30, (2.0, 1.0)), "layers.0.o": (20, 30, (1.0,)), "layers.0.v": (10, 30, (1.0,))}
    found = compare(make_adapter("first", first, r=4), make_adapter("second", second, r=4))
    assert [module.name for module in found.modules] == ["layers.0.q"]
    assert {(module.name, module.why) for module in found.one_sided} == {
        ("layers.0.k", "only in the first"),
        ("layers.0.o", "only in the second"),
        ("layers.0.v", "other shape"),
    }
    assert found.first.compared == pytest.approx(5 / 7)
    assert "1 only in the second: layers.0.o." in laid_out(Page(), compared.lay, found)


def test_nothing_in_common_is_bad_input(make_adapter: Make) -> None:
    other = {"layers.0.q": (20, 30, (2.0, 1.0))}
    with pytest.raises(AdapterError, match="no module of one name and shape in common"):
        compare(make_adapter("first"), make_adapter("second", other))


def test_a_zero_update_has_nothing_to_merge(make_adapter: Make) -> None:
    def zero(tensors: dict[str, np.ndarray]) -> None:
        for name, tensor in tensors.items():
            if "layers.0.self_attn.q_proj.lora_B" in name:
                tensor[:] = 0

    found = compare(make_adapter("first", edit=zero), make_adapter("second"))
    module = next(module for module in found.modules if module.first_norm == 0)
    assert (module.verdict.kind, module.out, module.agreement) == ("nothing", None, 0)
    for text in (
        laid_out(Page(), compared.lay, found),
        laid_out(Markdown(), compared.lay, found, all_modules=True),
        as_csv(compared.rows(found)),
        compared.to_json(found),
    ):
        assert "nan" not in text.lower()
    silent = compare(make_adapter("third", edit=lambda t: [v.fill(0) for v in t.values()]), make_adapter("fourth"))
    assert silent.whole.verdict.kind == "nothing"


def test_nan_names_the_tensor(make_adapter: Make) -> None:
    def poison(tensors: dict[str, np.ndarray]) -> None:
        next(iter(tensors.values()))[0, 0] = np.nan

    with pytest.raises(NumericsError, match="lora_A"):
        compare(make_adapter("first"), make_adapter("second", edit=poison))


def test_runs_are_compared_by_their_first_adapter(make_run: Make, make_adapter: Make) -> None:
    found = compare(make_run(replicates=(0, 1)), make_adapter("second"))
    assert found.whole.agreement == pytest.approx(1, abs=1e-6)


def test_directions_are_an_option(make_adapter: Make) -> None:
    first, second = make_adapter("first"), make_adapter("second", seed=1)
    found = compare(first, second, CompareOptions(directions=3))
    assert {module.out.k for module in found.modules if module.out} == {3}
    with pytest.raises(OptionError, match="at least 1"):
        CompareOptions(directions=0)


def test_different_bases_are_noted(make_adapter: Make) -> None:
    found = compare(make_adapter("first"), make_adapter("second", config={"base_model_name_or_path": "other"}))
    assert any("different base models, base and other" in note for note in found.notes)


@pytest.mark.parametrize("rho", np.linspace(-1, 1, 41))
@pytest.mark.parametrize("ratio", [1e-9, 0.5, 1.0, 3.0])
def test_every_pair_has_one_verdict_and_it_does_not_depend_on_order_or_size(rho: float, ratio: float) -> None:
    one = verdict(float(rho), 1.0, ratio, 0.2)
    assert one.reason.endswith(".")
    assert one.kind == verdict(float(rho), ratio, 1.0, 0.2).kind == verdict(float(rho), 8.0, 8 * ratio, 0.2).kind


@pytest.fixture
def found(make_adapter: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Compared:
    make_adapter("first")
    make_adapter("second", edit=mixed)
    monkeypatch.chdir(tmp_path)
    return compare("first", "second")


def test_the_table_is_what_it_was(found: Compared, golden: Golden) -> None:
    golden("compared.txt", laid_out(Page(), compared.lay, found))


def test_the_markdown_is_what_it_was(found: Compared, golden: Golden) -> None:
    golden("compared.md", laid_out(Markdown(), compared.lay, found, all_modules=True))


@pytest.mark.parametrize("width", [80, 100, 120])
def test_sentences_keep_to_the_width(found: Compared, width: int) -> None:
    text, _, _ = laid_out(Page(width), compared.lay, found).partition("Module types")
    assert max(map(len, text.splitlines())) <= width


def test_json_and_csv(found: Compared) -> None:
    text = compared.to_json(found, command=("lorarank", "compare"))
    plain = json.loads(text)
    assert list(plain) == sorted(plain)
    assert (plain["schema"], plain["lorarank"], plain["command"]) == (1, found.lorarank, ["lorarank", "compare"])
    rows = list(csv.DictReader(io.StringIO(as_csv(compared.rows(found)))))
    assert [row["name"] for row in rows] == [module.name for module in found.modules]
    assert {"out_agreement", "into_chance", "verdict", "reason"} <= rows[0].keys()


def test_hostile_names_stay_text(make_adapter: Make) -> None:
    modules = {HOSTILE: (48, 64, (4.0, 2.0)), "=cmd()": (48, 64, (4.0, 2.0))}
    only = {"\x1b[2J.other": (48, 64, (1.0,))}
    found = compare(make_adapter("first", modules | only), make_adapter("second", modules))
    for text in (
        laid_out(Page(), compared.lay, found),
        laid_out(Markdown(), compared.lay, found, all_modules=True),
        as_csv(compared.rows(found)),
        compared.to_json(found),
    ):
        assert all(character.isprintable() or character == "\n" for character in text)
    assert "\n'=cmd()," in as_csv(compared.rows(found))


def test_the_part_of_a_pipeline_before_all_names_is_no_difference(
    make_adapter: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = adapters.open(make_adapter())
    modules = tuple(replace(module, name=f"unet.{module.name}") for module in adapter.modules)
    prefixed = replace(adapter, format="diffusers", modules=modules)
    opened = {"first": adapter, "second": prefixed}
    monkeypatch.setattr("lorarank.compare.stage._open", opened.__getitem__)
    found = compare("first", "second")
    assert (len(found.modules), found.one_sided) == (6, ())
    assert found.whole.agreement == pytest.approx(1)


def test_one_model_is_compared_with_its_part_of_a_pipeline(make_adapter: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = adapters.open(make_adapter())
    unet = tuple(replace(m, name=f"mid_block.{i}") for i, m in enumerate(adapter.modules))
    text = replace(adapter.modules[0], name="text_encoder.text_model.encoder.layers.0.mlp.fc1")
    pipeline = (*(replace(module, name=f"unet.{module.name}") for module in unet), text)
    opened = {
        "unet": replace(adapter, modules=unet),
        "pipeline": replace(adapter, format="diffusers", modules=pipeline),
    }
    monkeypatch.setattr("lorarank.compare.stage._open", opened.__getitem__)
    for pair in (("unet", "pipeline"), ("pipeline", "unet")):
        found = compare(*pair)
        assert len(found.modules) == 6
        assert [module.name for module in found.one_sided] == [text.name]
        assert found.whole.agreement == pytest.approx(1)
