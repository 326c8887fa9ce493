"""The commands as functions: one name is package and function, typed, described, and loaded when it is called."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pydoc
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lorarank
from lorarank import commands, front
from lorarank.cli import COMMANDS
from lorarank.errors import OptionError
from lorarank.estimate import EstimateOptions

Make = Callable[..., Path]
NO_FUNCTION = {"demo", "completion", "schema", "help"}
"""Commands that are for the command line alone."""

OPTIONS = {
    name: getattr(importlib.import_module(f"lorarank.{home}"), f"{name.capitalize()}Options")
    for name, home in {
        **{name: f"{name}.options" for name in front.PACKAGES - {"heuristics", "report"}},
        "convert": "resize.options",
        "plot": "report.options",
    }.items()
} | {"report": EstimateOptions}

LAZY = ("audit", "callback", "compare", "diagnose", "estimate", "export", "inspect", "resize", "sweep")
"""Packages that import their names when they are asked for."""


def test_every_command_is_a_function() -> None:
    functions = {path.stem for path in Path(commands.__file__).parent.glob("*.py")} - {"__init__"}
    assert functions == set(COMMANDS) - NO_FUNCTION
    assert functions | {"LoraRankCallback"} == front.NAMES
    assert set(dir(lorarank)) >= front.NAMES
    assert set(lorarank.__all__) == front.NAMES | {"__version__"} <= set(dir(lorarank))
    for name in front.PACKAGES:
        assert importlib.util.find_spec(f"lorarank.{name}") is not None


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(lorarank.__file__).parents[1], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize(
    "imports",
    [
        "import lorarank",
        "import lorarank, lorarank.estimate",
        "import lorarank.estimate.options, lorarank",
        "from lorarank.estimate import EstimateOptions; import lorarank",
        "import importlib, lorarank; lorarank.estimate; importlib.reload(lorarank.estimate)",
        "from lorarank import estimate; import types; assert isinstance(estimate, types.ModuleType); import lorarank",
    ],
)
def test_a_name_is_package_and_function_however_it_was_imported(make_run: Make, imports: str) -> None:
    told = run(
        f"{imports}\nimport sys\nprint(lorarank.estimate({str(make_run())!r}, energy=0.9).r)\n"
        "from lorarank.estimate import EstimateOptions\n"
        "print(lorarank.estimate.EstimateOptions is EstimateOptions, 'torch' in sys.modules)"
    )
    assert told == "2\nTrue False\n"


def test_a_function_loads_nothing_of_the_others() -> None:
    told = run(
        "import sys, lorarank\nlorarank.heuristics('style')\n"
        "print([name for name in ('estimate.stage', 'resize', 'report', 'sweep') if f'lorarank.{name}' in sys.modules])"
    )
    assert told == "[]\n"


def test_telling_sweeps_from_adapters_loads_no_sweep(make_adapter: Make) -> None:
    told = run(
        f"import sys, lorarank\nlorarank.estimate({str(make_adapter())!r})\nimport lorarank.export.settings\n"
        "print(sorted(name for name in sys.modules if name.startswith(('lorarank.sweep.', 'lorarank.probe'))))"
    )
    assert told == "['lorarank.sweep.folder']\n"


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_options_are_those_of_the_dataclass(name: str) -> None:
    fields = {field.name: field for field in dataclasses.fields(OPTIONS[name]) if field.init}
    signature = inspect.signature(getattr(lorarank, name))
    asked = {key: one for key, one in signature.parameters.items() if key in fields}
    assert asked.keys() == fields.keys()
    for key, one in asked.items():
        default = fields[key].default
        if default is dataclasses.MISSING:
            assert one.default is inspect.Parameter.empty
        else:
            assert one.default == default
            assert one.kind is inspect.Parameter.KEYWORD_ONLY
    assert signature.return_annotation.__module__.startswith("lorarank.")


@pytest.mark.parametrize(
    ("name", "key"),
    [(name, key.name) for name, options in sorted(OPTIONS.items()) for key in dataclasses.fields(options) if key.init],
)
def test_an_option_of_another_type_is_refused_by_its_name(name: str, key: str) -> None:
    needed = {one.name: "peft" for one in dataclasses.fields(OPTIONS[name]) if one.default is dataclasses.MISSING}
    where = key if key == "model" else f"--{key.replace('_', '-')}"
    with pytest.raises(OptionError, match=rf"^{where} <object .*>: it must be "):
        OPTIONS[name](**{**needed, key: object()})


@pytest.mark.parametrize(
    ("name", "arguments", "options", "says"),
    [
        ("estimate", ["x"], {"energy": "0.9"}, "--energy '0.9': it must be a number."),
        ("report", ["x"], {"energy": "0.9"}, "--energy '0.9': it must be a number."),
        ("plot", ["x"], {"energy": "0.9"}, "--energy '0.9': it must be a number."),
        ("audit", ["x"], {"energy": 0.9}, "--energy 0.9: it must be a list, each a number."),
        ("resize", ["x", "y"], {"rank": "8"}, "--rank '8': it must be a whole number."),
        ("resize", ["x", "y"], {"rank": 8.0}, "--rank 8.0: it must be a whole number."),
        ("convert", ["x", "y"], {"bake_alpha": 1}, "--bake-alpha 1: it must be True or False."),
        ("compare", ["x", "y"], {"directions": "3"}, "--directions '3': it must be a whole number."),
        ("inspect", ["x"], {"rank": "8"}, "--rank '8': it must be a whole number."),
        ("diagnose", ["x"], {"rank": 8.5}, "--rank 8.5: it must be a whole number."),
        ("export", ["x", "peft"], {"rank": "8"}, "--rank '8': it must be a whole number."),
        ("probe", ["x", "y", "z"], {"rank": 8.0}, "--rank 8.0: it must be a whole number."),
        ("sweep", ["x", "y", "z"], {"ranks": 8}, "--ranks 8: it must be a list, each a whole number."),
    ],
)
def test_a_call_with_another_type_is_one_line(
    name: str, arguments: list[str], options: dict[str, Any], says: str
) -> None:
    with pytest.raises(OptionError) as caught:
        getattr(lorarank, name)(*arguments, **options)
    assert str(caught.value) == says


def test_numbers_truths_and_arrays_of_numpy_are_as_good_as_pythons() -> None:
    settled = OPTIONS["resize"](rank=np.int64(8), pad=np.bool_(True), bake_alpha=np.False_)
    assert (type(settled.rank), settled.pad, settled.bake_alpha) == (int, True, False)
    assert OPTIONS["audit"](energy=np.array([0.9, 0.99], np.float64)).energy == (0.9, 0.99)
    with pytest.raises(OptionError, match="it must be a list, each a number"):
        OPTIONS["audit"](energy=np.float32(0.9))


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_help_says_how_it_is_called_and_describes_every_parameter(name: str) -> None:
    shown = pydoc.plain(pydoc.render_doc(getattr(lorarank, name)))
    assert f"{name}{inspect.signature(getattr(lorarank, name))}" in shown
    function = getattr(importlib.import_module(f"lorarank.commands.{name}"), name)
    described = pydoc.plain(pydoc.getdoc(function)).partition("Parameters\n----------\n")[2]
    names = {
        one for line in described.splitlines() if " : " in line for one in line.partition(" : ")[0].strip().split(", ")
    }
    assert set(inspect.signature(getattr(lorarank, name)).parameters) <= names
    assert ">>>" not in described


def test_the_same_answer_as_the_stage(make_run: Make, make_adapter: Make, tmp_path: Path) -> None:
    from lorarank.estimate import recommend
    from lorarank.resize import ResizeOptions, resize

    folder, adapter = make_run(), make_adapter()
    assert lorarank.estimate(folder, metric="loss") == recommend(folder, EstimateOptions(metric="loss"))
    assert lorarank.estimate([adapter, str(adapter)]).kind == "adapters"
    done = lorarank.resize(adapter, tmp_path / "a", rank=2)
    assert dataclasses.replace(done, output="") == dataclasses.replace(
        resize(adapter, tmp_path / "b", ResizeOptions(rank=2)), output=""
    )
    assert lorarank.audit(str(adapter)).audits[0].source == str(adapter)
    assert lorarank.audit([adapter, folder / "adapter"]).audits[1].whole.modules == 6
    assert lorarank.compare(adapter, adapter).whole.agreement == pytest.approx(1)
    assert lorarank.export(folder, "peft") == lorarank.export(folder, to="peft")
    assert lorarank.convert(adapter, output=tmp_path / "c", dtype="float16").dtypes == ("float16",)  # type: ignore[call-arg]
    assert lorarank.heuristics("style").rows[0].high == 8
    assert lorarank.heuristics.TASKS["style"].high == 8  # type: ignore[attr-defined]


def test_a_report_and_pictures_are_values_that_can_be_written(make_run: Make, tmp_path: Path) -> None:
    made = lorarank.report(make_run(), task="style")
    assert made.headline == "Train at r = 2 (2–4), confidence high."
    made.write(tmp_path / "report.html")
    made.write(str(tmp_path / "report.md"))
    assert (tmp_path / "report.md").read_text(encoding="utf-8").startswith("# LoRA rank: ")
    with pytest.raises(OptionError, match=r"\.html or \.md"):
        made.write("report.pdf")
    pytest.importorskip("matplotlib")
    drawn = lorarank.plot(tmp_path / "run", kind="svg")
    assert [path.name for path in drawn.write(tmp_path / "figures")] == [f"{name}.svg" for name in drawn.images]
    with pytest.raises(OptionError, match="png, svg, pdf"):
        lorarank.plot(tmp_path / "run", kind="gif")
    with pytest.raises(OptionError, match="--energy 90"):
        lorarank.plot(tmp_path / "run", energy=90)
    with pytest.raises(TypeError, match="tokens"):  # no picture shows it
        lorarank.plot(tmp_path / "run", tokens=5)  # type: ignore[call-arg]


@pytest.mark.parametrize("name", LAZY)
def test_a_package_lists_what_it_would_import(name: str) -> None:
    package = importlib.import_module(f"lorarank.{name}")
    assert set(package.__all__) == package._HOMES.keys() <= set(dir(package))
    assert dir(package) == sorted(set(dir(package)))
    assert not {"__getattr__", "__dir__"} & set(dir(package))
    with pytest.raises(AttributeError, match=rf"module 'lorarank\.{name}' has no attribute 'xyzzy'"):
        package.xyzzy  # noqa: B018


def test_help_of_a_package_shows_its_names_and_no_hooks() -> None:
    shown = pydoc.plain(pydoc.render_doc(lorarank.inspect))
    assert "class Inspection(" in shown
    assert "class InspectOptions(" in shown
    assert not re.search(r"^ *(__getattr__|__dir__|found)\b", shown, re.MULTILINE)


def test_a_wrong_call_says_which() -> None:
    with pytest.raises(TypeError, match=r"^estimate\(\): got .* 'enegry'\. Did you mean 'energy' by 'enegry'\?$"):
        lorarank.estimate("run", enegry=0.9)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^resize\(\): missing a required argument: 'output'"):
        lorarank.resize("run", rank=8)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"missing a required argument: 'output'\. Did you mean 'output' by 'out'\?$"):
        lorarank.resize("run", out="small", rank=8)  # type: ignore[call-arg]
    with pytest.raises(OptionError, match="--energy 90"):
        lorarank.estimate("run", energy=90)
    with pytest.raises(AttributeError, match=r"no attribute 'estimates'\. Did you mean 'estimate'\?$"):
        lorarank.estimates  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(AttributeError, match=r"no attribute 'xyzzy'$"):
        lorarank.xyzzy  # type: ignore[attr-defined]  # noqa: B018


USER = """
from pathlib import Path

from typing_extensions import assert_type

import lorarank
from lorarank.audit import AuditReport
from lorarank.estimate import EstimateOptions, Recommendation
from lorarank.resize import Resized
from lorarank.runs import Run

answer = lorarank.estimate("run", energy=0.9, task="style")
assert_type(answer, Recommendation)
assert_type(answer.r, int | None)
assert_type(lorarank.audit(["a", Path("b")], served_rank=8), AuditReport)
assert_type(lorarank.resize("run", "small", keep_loss=0.01), Resized)
assert_type(lorarank.probe("model", data="train.jsonl", output=Path("run"), rank=32), Run)
assert_type(lorarank.compare("a", "b", directions=4).whole.agreement, float)
assert_type(lorarank.inspect("model", rank=16).parameters, int)
assert_type(lorarank.report("run").headline, str)
assert_type(lorarank.plot("run", kind="svg").images["scree"], bytes)
lorarank.sweep("model", "train.jsonl", Path("sweep"), ranks=(1, 2))
lorarank.export("run", "trl", qlora=True)
lorarank.diagnose("run", rank=8)
lorarank.convert("a", "b", to="kohya")
lorarank.extract("base", "tuned", Path("lora"), 8)
lorarank.heuristics("style")
EstimateOptions(energy=0.9)
"""

WRONG = {
    'lorarank.estimate("run", enegry=0.9)': "call-arg",
    'lorarank.estimate("run", energy="much")': "arg-type",
    'lorarank.estimate("run", 0.9)': "call-arg",
    "lorarank.estimate()": "call-arg",
    'lorarank.resize("run", rank=8)': "call-arg",
    'lorarank.probe("model", "train.jsonl")': "call-arg",
    'lorarank.estimate("run").rank': "attr-defined",
    **{f"from lorarank.{name} import Compaerd": "attr-defined" for name in LAZY},
}


def test_type_checkers_see_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mypy import api

    monkeypatch.setenv("MYPYPATH", str(Path(lorarank.__file__).parents[1]))

    heavy = ("torch", "transformers", "peft", "numpy", "scipy", "matplotlib", "rich", "huggingface_hub", "safetensors")
    settings = tmp_path / "mypy.ini"  # what has nothing to do with these types is left out: it takes a minute
    settings.write_text(
        "[mypy]\nignore_missing_imports = True\n"
        + "".join(f"[mypy-{name}.*]\nfollow_imports = skip\n" for name in heavy),
        encoding="utf-8",
    )
    script = tmp_path / "user.py"
    script.write_text(USER + "".join(f"{line}  # wrong\n" for line in WRONG), encoding="utf-8")
    told, errors, _ = api.run(
        ["--strict", "--follow-imports=silent", f"--config-file={settings}", f"--cache-dir={tmp_path}", str(script)]
    )
    assert errors == ""
    found = [line for line in told.splitlines() if "error:" in line]
    first = USER.count("\n") + 1
    expected = {first + number: code for number, code in enumerate(WRONG.values())}
    seen: dict[int, Any] = {int(line.split(":")[1]): line.rpartition("[")[2].rstrip("]") for line in found}
    assert seen == expected, told
