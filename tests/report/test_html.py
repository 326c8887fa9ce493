"""The page is whole, says the answer first, asks no network, and takes names for nothing but text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from lorarank import runs
from lorarank.dossier import Dossier, gather
from lorarank.estimate import EstimateOptions
from lorarank.report import chapters, html, markdown

Make = Callable[..., Path]
Golden = Callable[[str, str], None]
Tree = Callable[[str], Any]
KINDS = ("of_run", "of_adapter", "of_several", "of_sweep", "of_hostile")


def page(found: Dossier) -> str:
    return html.render(chapters.document(found, command=("lorarank", "report", *found.sources)))


@pytest.fixture(params=KINDS)
def found(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def test_every_element_is_closed_and_every_address_is_used_once(found: Dossier, tree: Tree) -> None:
    root = tree(page(found))
    ids = [node.attributes["id"] for node in root.all() if "id" in node.attributes]
    assert len(ids) == len(set(ids))
    for node in root.all():
        for name in ("aria-labelledby", "aria-controls", "for"):
            assert set(node.attributes.get(name, "").split()) <= set(ids)
    for link in root.all("a"):
        assert link.attributes["href"].removeprefix("#") in ids


def test_nothing_is_asked_of_a_network(found: Dossier, tree: Tree) -> None:
    made = page(found)
    root = tree(made)
    assert not root.all("link", "img", "iframe", "object", "embed", "base", "form", "audio", "video")
    for node in root.all():
        assert not {"src", "srcset", "action", "xlink:href"} & node.attributes.keys()
        assert node.attributes.get("href", "#").startswith("#")
        assert not [name for name in node.attributes if name.startswith("on") or name == "style"]
    (style,) = root.all("style")
    assert not re.search(r"url\(|@import", style.text)


def test_only_its_own_script_and_style_may_run(found: Dossier, tree: Tree) -> None:
    made = page(found)
    root = tree(made)
    (policy,) = root.all("meta", **{"http-equiv": "Content-Security-Policy"})
    scripts = [node for node in root.all("script") if node.attributes.get("type") != "application/json"]
    assert len(scripts) == len(root.all("style")) == 1
    for node, what in ((scripts[0], "script-src"), (root.all("style")[0], "style-src")):
        digest = base64.b64encode(hashlib.sha256(node.text.encode()).digest()).decode()
        assert f"{what} 'sha256-{digest}'" in policy.attributes["content"]
    assert "default-src 'none'" in policy.attributes["content"]
    assert "unsafe" not in policy.attributes["content"]


def test_screen_readers_get_captions_scopes_names_and_headings_in_order(found: Dossier, tree: Tree) -> None:
    root = tree(page(found))
    for table in root.all("table"):
        assert table.all("caption")[0].text
        assert all(heading.attributes["scope"] in ("col", "row") for heading in table.all("th"))
        widths = {len(row.all("th", "td")) for row in table.all("tr")}
        assert len(widths) == 1
    for drawing in root.all("svg"):
        assert drawing.attributes["role"] == "img"
        assert [node.name for node in drawing.children[:2]] == ["title", "desc"]
        assert drawing.children[0].text
        assert drawing.children[1].text
    levels = [int(node.name[1]) for node in root.all("h1", "h2", "h3")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    (html_node,) = root.all("html")
    assert html_node.attributes["lang"] == "en"
    assert root.all("a")[0].text == "Skip to the answer"


def test_the_answer_comes_first(of_run: Dossier, tree: Tree) -> None:
    (main,) = tree(page(of_run)).all("main")
    first = main.children[0]
    assert first.attributes["id"] == "answer"
    assert first.all("p")[0].text.startswith("Train at r = 2 (2–4), confidence medium")
    assert [badge.text for badge in first.all("dd")[:3]] == ["2–4", "medium", "4"]


def test_a_run_has_every_chapter(of_run: Dossier, tree: Tree) -> None:
    keys = [section.attributes["id"] for section in tree(page(of_run)).all("section")]
    assert keys == [
        "answer", "truncation", "layers", "spectra", "parameters", "replication", "reference", "reasons", "measured",
        "modules", "exports",
    ]  # fmt: skip


def test_where_much_may_be_lost_the_pages_pictures_and_sentences_go_by_it(
    make_run: Callable[..., Path], tree: Tree
) -> None:
    """The whole curve is within four times of what may be lost, so there is no nearer picture of it."""
    found = tree(page(gather(make_run(r=32, companion=(0.031, 0.004)), EstimateOptions(keep_loss=0.06))))
    (low,), (cut,) = (found.all("section", id=name) for name in ("low-rank", "truncation"))
    assert "That is 6% or less." in low.text
    assert "6% allowed" in low.text
    assert "lost at r = 0" not in low.text
    assert [len(one.all("svg")) for one in (low, cut)] == [1, 1]


def test_a_run_with_a_companion_shows_what_a_low_rank_loses(make_run: Callable[..., Path], tree: Tree) -> None:
    found = gather(make_run(r=32, companion=(0.031, 0.003)))
    (chapter,) = tree(page(found)).all("section", id="low-rank")
    (picture,) = chapter.all("svg")
    assert "3.1% at r = 1, measured; by the law r = 1: 3.1% (" in picture.text
    assert "r = 4: 0.8% (" in picture.text
    assert "1% allowed" in picture.text
    assert "After a longer run" in chapter.text
    assert found.answer is not None
    assert next(text for text in found.answer.reasons if "a longer run" in text) in chapter.text


def test_every_reason_is_there(of_run: Dossier, tree: Tree) -> None:
    assert of_run.answer is not None
    text = tree(page(of_run)).text
    for sentence in (*of_run.answer.reasons, *of_run.answer.doubts):
        assert sentence in text


def test_every_module_is_in_the_heat_map_the_spectra_and_the_table(of_run: Dossier, tree: Tree) -> None:
    root = tree(page(of_run))
    assert of_run.answer is not None
    names = [module.name for module in of_run.answer.modules]
    (modules,) = [table for table in root.all("table") if "data-search" in table.attributes]
    assert [row.children[0].text for row in modules.all("tr")[1:]] == names
    (spectra,) = root.all("section", id="spectra")
    assert sorted(node.children[0].text for node in spectra.all("svg")) == sorted(names)
    (layers,) = root.all("section", id="layers")
    heat = layers.all("table")[0]
    assert [node.text for node in heat.all("td")] == ["2"] * 6
    (replication,) = root.all("section", id="replication")
    assert [node.text for node in replication.all("table")[1].all("td")] == ["1.00"] * 6


def test_the_task_and_the_answer_are_marked(of_run: Dossier, tree: Tree) -> None:
    root = tree(page(of_run))
    marked = {section: [row.text for row in root.all("section", id=section)[0].all("tr", **{"class": "marked"})]
              for section in ("reference", "parameters", "truncation")}  # fmt: skip
    assert "complex reasoning" in marked["reference"][0]
    assert marked["parameters"][0].startswith("2 answer")
    assert marked["truncation"][0].startswith("4 keep rank")


def test_the_data_is_the_whole_estimate(found: Dossier, tree: Tree) -> None:
    (data,) = tree(page(found)).all("script", type="application/json")
    plain = json.loads(data.text)
    if found.answer is not None:
        assert [module["name"] for module in plain["modules"]] == [module.name for module in found.answer.modules]
        assert plain["command"] == ["lorarank", "report", *found.sources]


def test_hostile_names_are_text(of_hostile: Dossier, tree: Tree) -> None:
    made = page(of_hostile)
    root = tree(made)
    assert of_hostile.answer is not None
    names = {module.name for module in of_hostile.answer.modules}
    assert len(root.all("script")) == 2
    assert not root.all("img", "b", "i")
    assert made.count("<!--") == 0
    assert all(character.isprintable() or character == "\n" for character in made)
    shown = {node.text for node in root.all("th", scope="row")}
    assert {name for name in names if name.isprintable()} <= shown
    assert any("\\u202e" in text and "\\x1b" in text for text in shown)
    text = markdown.render(chapters.document(of_hostile))
    outside = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    assert not re.search(r"(?<!\\)<(script|img|i|/)", outside)
    assert all(character.isprintable() or character == "\n" for character in text)


def test_equal_results_give_equal_bytes(found: Dossier) -> None:
    assert page(found) == page(found)


def test_counts_that_follow_from_a_part_say_so(make_run: Make) -> None:
    assert "that were read" not in page(gather(make_run()))
    part = page(gather(make_run(data={"read_share": 0.0137})))
    assert "0 documents truncated; tokens as in the 1.4% of them that were read" in part


def test_a_refusal_says_so_first_and_has_no_configuration(make_run: Make, tree: Tree) -> None:
    refused = gather(make_run(heldout={"gains": (runs.Loss(0.01, 0.02),)}))
    root = tree(page(refused))
    (answer,) = root.all("p", **{"class": "answer bad"})
    assert answer.text.startswith("No recommendation:")
    assert [node.text for node in root.all("section", id="exports")[0].all("h3")] == ["Table", "JSON"]
    assert not root.all("section", id="truncation")
    reasons = root.all("section", id="reasons")[0]
    assert reasons.all("h3")[0].text == "Why there is no recommendation"


def test_a_run_that_holds_nan_has_a_report(make_run: Make, tree: Tree) -> None:
    def spoil(tensors: dict[str, Any]) -> None:
        next(iter(tensors.values()))[:] = float("nan")

    root = tree(page(gather(make_run(edit=spoil))))
    assert "cannot be read as numbers" in root.all("section", id="answer")[0].text
    assert not root.all("section", id="spectra")


def test_a_replicate_that_holds_nan_has_a_report(make_run: Make, tree: Tree) -> None:
    folder = make_run(replicates=(0, 1))
    weights = folder / "adapter-1" / "adapter_model.safetensors"
    tensors = load_file(weights)
    next(iter(tensors.values()))[:] = float("nan")
    save_file(tensors, weights)
    assert "cannot be read as numbers" in tree(page(gather(folder))).all("section", id="answer")[0].text


def test_an_adapter_that_holds_nan_or_nothing_has_a_report(make_adapter: Make, tree: Tree) -> None:
    def spoil(tensors: dict[str, Any]) -> None:
        first, *rest = sorted(tensors)
        tensors[first][:] = float("nan")
        for name in rest:
            if "layers.1" in name and "lora_B" in name:
                tensors[name][:] = 0

    root = tree(page(gather(make_adapter(edit=spoil))))
    cells = [node.text for node in root.all("section", id="layers")[0].all("table")[0].all("td")]
    assert cells.count("?") == 1
    assert cells.count("0") == 3


def test_an_audit_never_names_a_train_rank(of_adapter: Dossier, of_several: Dossier, tree: Tree) -> None:
    for one in (of_adapter, of_several):
        text = tree(page(one)).text
        assert "Train at" not in text
        assert "there is no train rank here" in text


def test_several_adapters_stand_side_by_side(of_several: Dossier, tree: Tree) -> None:
    root = tree(page(of_several))
    table = root.all("section", id="answer")[0].all("table")[0]
    assert [row.children[1].text for row in table.all("tr")[1:]] == ["first", "second"]
    assert root.all("section", id="evolution")
    assert [node.text for node in root.all("section", id="layers")[0].all("summary")] == ["first", "second"]


def test_a_sweep_shows_its_curve(of_sweep: Dossier, tree: Tree) -> None:
    root = tree(page(of_sweep))
    assert of_sweep.sweep is not None
    curve = root.all("section", id="curve")[0]
    assert f"r = {of_sweep.sweep.outcome.r_sufficient} suffices" in curve.all("svg")[0].text
    assert len(curve.all("table")[0].all("tr")) == 5


def test_markdown_has_every_chapter_that_is_more_than_pictures(found: Dossier) -> None:
    document = chapters.document(found)
    titles = re.findall(r"^## (.*)$", markdown.render(document), flags=re.MULTILINE)
    assert titles == [chapter.title for chapter in document.chapters if chapter.key != "spectra"]


def test_the_markdown_is_what_it_was(of_run: Dossier, golden: Golden) -> None:
    golden("run.md", markdown.render(chapters.document(of_run, command=("lorarank", "report", "run"))))


def test_many_modules_are_drawn_by_type(make_adapter: Make, monkeypatch: pytest.MonkeyPatch, tree: Tree) -> None:
    monkeypatch.setattr("lorarank.report.chapters.shared.MOST_SCREES", 3)
    root = tree(page(gather(make_adapter())))
    assert len(root.all("section", id="spectra")[0].all("svg")) == 3


def test_names_without_layers_and_types_make_no_map(make_adapter: Make, tree: Tree) -> None:
    modules = {f"blocks.{index}.kind_{index}": (48, 64, (4.0, 2.0)) for index in range(6)}
    layers = tree(page(gather(make_adapter(modules=modules)))).all("section", id="layers")[0]
    assert not layers.all("table", **{"class": "heat"})
    assert "see the modules" in layers.text


def test_the_energy_asked_for_is_the_one_shown(make_adapter: Make, tree: Tree) -> None:
    found = gather(make_adapter(), EstimateOptions(energy=0.99))
    assert found.updates[0].share == 0.99
    assert "The rank that keeps 99%" in tree(page(found)).text
