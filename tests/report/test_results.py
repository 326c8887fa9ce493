"""Every result as a dictionary, a data frame and something to look at in a notebook."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import lorarank
from lorarank.cli import main
from lorarank.dossier import Dossier
from lorarank.errors import MissingExtraError, OptionError
from lorarank.fine_tune import compare_models
from lorarank.report.json_text import as_json
from lorarank.report.plain import as_csv
from lorarank.report.results import PRESENTERS
from lorarank.result import Result

CLASSES = sorted(kind.__name__ for kind in PRESENTERS)
Make = Callable[..., Path]
Tree = Callable[[str], Any]


def test_every_result_of_a_command_has_a_presenter(results: dict[str, Result]) -> None:
    assert sorted(results) == CLASSES
    kinds = Result.__subclasses__()
    assert {kind.__name__ for kind in kinds if kind.__module__.startswith("lorarank.")} == set(CLASSES)


@pytest.mark.parametrize(
    ("command", "call"),
    [
        ("estimate run --task style", lambda: lorarank.estimate("run", task="style")),
        ("audit first second", lambda: lorarank.audit(["first", "second"])),
        ("compare first second", lambda: lorarank.compare("first", "second")),
        ("diagnose trainer_state.json", lambda: lorarank.diagnose("trainer_state.json")),
        ("inspect model --rank 2", lambda: lorarank.inspect("model", rank=2)),
        ("heuristics --model model", lambda: lorarank.heuristics(model="model")),
        ("resize first -o small --rank 2", lambda: lorarank.resize("first", "other", rank=2)),
        ("convert first -o small", lambda: lorarank.convert("first", "other")),
        ("extract --base model tuned -o small --rank 2", lambda: lorarank.extract("model", "tuned", Path("other"), 2)),
        ("export run --to axolotl", lambda: lorarank.export("run", "axolotl")),
    ],
)
@pytest.mark.usefixtures("sources")
def test_a_dictionary_is_what_the_command_prints(command: str, call: Callable[[], Result]) -> None:
    done = CliRunner().invoke(main, [*command.split(), "--format", "json"])
    assert done.exit_code == 0, done.output
    printed, made = json.loads(done.stdout), call().to_dict()
    for plain in (printed, made):
        assert plain.pop("schema") == 1
        assert plain.pop("lorarank") == lorarank.__version__
        plain.pop("command", None)
        plain.pop("output", None)
        plain.pop("text", None)  # names the command
    assert rounded(printed) == rounded(made)


def rounded(plain: Any) -> Any:
    """To twelve digits: where an array lies in memory moves the last of what BLAS makes of it."""
    if isinstance(plain, dict):
        return {key: rounded(value) for key, value in plain.items()}
    if isinstance(plain, list):
        return [rounded(value) for value in plain]
    return float(f"{plain:.12g}") if isinstance(plain, float) else plain


@pytest.mark.parametrize(
    ("command", "call"),
    [
        ("estimate run", lambda: lorarank.estimate("run")),
        ("audit first second", lambda: lorarank.audit(["first", "second"])),
        ("audit first", lambda: lorarank.audit("first").audits[0]),
        ("compare first second", lambda: lorarank.compare("first", "second")),
        ("diagnose trainer_state.json", lambda: lorarank.diagnose("trainer_state.json")),
        ("inspect model", lambda: lorarank.inspect("model")),
        ("heuristics", lambda: lorarank.heuristics()),
        ("audit --base model tuned", lambda: compare_models("model", "tuned")),
    ],
)
@pytest.mark.usefixtures("sources")
def test_it_prints_as_the_command_does(command: str, call: Callable[[], Result]) -> None:
    done = CliRunner().invoke(main, command.split())
    assert done.exit_code == 0, done.output
    assert str(call()) == done.stdout


@pytest.mark.usefixtures("sources")
def test_a_configuration_prints_as_something_to_paste() -> None:
    assert str(lorarank.export("run", "mlx")).partition("\n\n")[2].startswith("model: ")


@pytest.mark.usefixtures("sources")
def test_modules_are_told_where_they_are_asked_for() -> None:
    answer, report = lorarank.estimate("run"), lorarank.audit("first")
    assert "modules" not in answer.to_dict()
    assert len(answer.to_dict(per_module=True)["modules"]) == 6
    assert "modules" not in report.audits[0].to_dict()["audits"][0]
    spectrum = report.to_dict(per_module=True)["audits"][0]["modules"][0]["figures"]["singular_values"]
    assert spectrum[:2] == pytest.approx([4.8, 2.4], rel=1e-6)


def test_dictionaries_are_plain(results: dict[str, Result]) -> None:
    for one in results.values():
        plain = one.to_dict(per_module=True)
        assert json.loads(json.dumps(plain, allow_nan=False)) == plain


ROWS = {
    "Audit": (6, "name", "r"),
    "AuditReport": (13, "source", "r"),
    "Compared": (6, "name", "agreement"),
    "Diagnosis": (5, "name", "seen"),
    "Exported": (6, "module", "r"),
    "Extraction": (2, "name", "kept"),
    "FineTune": (2, "name", "norm"),
    "FirstGuess": (1, "task", "low"),
    "Inspection": (2, "name", "parameters_per_rank"),
    "Recommendation": (6, "name", "rank_in_budget"),
    "Resized": (6, "name", "dropped"),
    "Run": (4, "k", "excess"),
    "Sweep": (4, "rank", "loss"),
}


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_frame_has_a_row_a_module(results: dict[str, Result], library: str) -> None:
    frames = pytest.importorskip(library)
    for name, one in results.items():
        (count, text, number), frame = ROWS[name], one.to_frame(library)
        assert isinstance(frame, frames.DataFrame)
        assert len(frame) == count, name
        assert {text, number} <= set(frame.columns)
        dtype = frame[number].dtype
        assert dtype.kind in "bif" if library == "pandas" else dtype.is_numeric() or dtype == frames.Boolean, name


def test_a_frame_holds_the_values_themselves(results: dict[str, Result]) -> None:
    answer, frame = results["Recommendation"], results["Recommendation"].to_frame("pandas")
    assert frame["energy"].tolist() == [module.energy for module in answer.modules]
    assert frame["name"].tolist() == [module.name for module in answer.modules]
    assert results["Sweep"].to_frame("polars")["rank"].to_list() == [1, 2, 4, 8]


def test_the_library_that_is_loaded_is_taken(results: dict[str, Result], monkeypatch: pytest.MonkeyPatch) -> None:
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    assert isinstance(results["Sweep"].to_frame(), pandas.DataFrame)
    monkeypatch.delitem(sys.modules, "pandas")
    assert isinstance(results["Sweep"].to_frame(), polars.DataFrame)


def test_no_library_is_a_line(results: dict[str, Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as told:
        results["Sweep"].to_frame()
    assert str(told.value) == (
        "to_frame: needs the package pandas or polars, which is not installed. Install the extra with: "
        "pip install 'lorarank[frame]'."
    )
    for library, extra in (("pandas", "frame"), ("polars", "polars")):
        with pytest.raises(MissingExtraError, match=rf"package {library},.*'lorarank\[{extra}\]'"):
            results["Sweep"].to_frame(library)
    with pytest.raises(OptionError, match="Choose among: pandas, polars"):
        results["Sweep"].to_frame("arrow")


def test_csv_and_frames_have_the_same_columns(results: dict[str, Result]) -> None:
    pytest.importorskip("pandas")
    for one in results.values():
        header, *rows = csv.reader(io.StringIO(as_csv(PRESENTERS[type(one)].rows(one))))
        frame = one.to_frame("pandas")
        assert (header, len(rows)) == (list(frame.columns), len(frame))


def test_a_notebook_shows_it_small_and_self_contained(results: dict[str, Result], tree: Tree) -> None:
    for name, one in results.items():
        shown = one._repr_html_()
        assert len(shown) < 20_000, name
        style, _, rest = shown.partition("</style>")
        assert all(line.startswith(("<div", ".lorarank ")) for line in style.splitlines())  # nothing outside
        assert "url(" not in style
        assert not {"script", "link", "img", "iframe"} & {node.name for node in tree(shown).all()}
        assert 'class="answer' in rest, name


def test_names_are_text_in_a_notebook(of_hostile: Dossier, tree: Tree) -> None:
    assert of_hostile.run is not None
    folder = of_hostile.run.folder
    for one in (of_hostile.answer, of_hostile.run, lorarank.audit(folder / "adapter"), lorarank.export(folder, "trl")):
        shown = one._repr_html_()
        assert not {"script", "img", "i", "b"} & {node.name for node in tree(shown).all()}
        assert "\u202e" not in shown
        assert "\x1b" not in shown


def test_reports_and_pictures_show_themselves(sources: Path, tree: Tree) -> None:
    made = lorarank.report("run")
    assert "Train at r = 2" in made._repr_html_()
    assert made.to_dict()["r"] == 2
    assert str(made).startswith("LoRA rank: run: Train at r = 2")
    assert "Every reason" in str(made)
    for source in ("run", "sweep", "first"):
        report, alone = lorarank.report(source), {"run": lorarank.estimate, "first": lorarank.audit}.get(source)
        frame = report.to_frame("polars")
        assert frame.height > 1
        assert alone is None or frame.columns == alone(source).to_frame("polars").columns
    pytest.importorskip("matplotlib")
    pictures = lorarank.plot("sweep")
    assert pictures._repr_html_().startswith('<figure><img src="data:image/png;base64,iVBOR')
    assert "img" not in lorarank.plot("sweep", kind="pdf")._repr_html_()


def test_json_is_what_pythons_own_encoder_gives() -> None:
    plain = {
        'é\x1b\u202e"': [1.5, 1e300, -0.0, 5e-324, 2.0],
        "mixed": (1, 2.5, True, None, "text", np.float64(0.1), {}, [], (), {"b": [[1.0], []], "a": {"c": -1}}),
        "B": 10**30,
    }
    assert as_json(plain) == json.dumps(plain, indent=1, sort_keys=True) + "\n"
    assert json.loads(as_json([math.nan, [math.inf, 1.0], {1: -math.inf}])) == [None, [None, 1.0], {"1": None}]
