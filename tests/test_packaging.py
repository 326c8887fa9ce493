"""The wheel and the source archive: what is in them, and that each installs and works away from the checkout."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from email import message_from_string
from importlib import metadata
from pathlib import Path

import pytest
import yaml

import lorarank
from lorarank.cli import THREADS
from lorarank.topics import TOPICS

pytest.importorskip("hatchling")

Make = Callable[..., Path]
ROOT = Path(__file__).resolve().parent.parent
NAME = f"lorarank-{lorarank.__version__}"

ESSENTIAL = (
    "py.typed",
    "__init__.pyi",
    "schemas/estimate-1.json",
    "cli/__init__.py",
    "report/html/style.css",
    "report/html/controls.js",
    *(f"topics/{topic}.md" for topic in TOPICS),
)
"""Files below the package that are no modules, or that everything hangs on."""

DEMO = ("model/config.json", "model/model.safetensors", "model/tokenizer.json", "train.jsonl", "val.jsonl")


OFFLINE = ("--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check", "--quiet")
"""How pip installs what is here and nothing else."""


def python(*arguments: str | Path, cwd: Path, interpreter: str | Path = sys.executable, **environment: str) -> str:
    """Standard output of an interpreter, or of a script of one, that finds nothing of the checkout by itself."""
    done = subprocess.run(
        [str(interpreter), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": "", **environment},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, f"{arguments}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both, built without a network."""
    folder = tmp_path_factory.mktemp("dist")
    python("-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", folder, cwd=ROOT)
    return {"wheel": folder / f"{NAME}-py3-none-any.whl", "sdist": folder / f"{NAME}.tar.gz"}


@pytest.fixture(scope="module", params=["wheel", "sdist"])
def installed(
    request: pytest.FixtureRequest, archives: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder that one of them was installed into, without its dependencies: those are here."""
    folder = tmp_path_factory.mktemp(request.param)
    python("-m", "pip", "install", *OFFLINE, "--target", folder, archives[request.param], cwd=folder)
    return folder


def below(folder: Path) -> dict[str, bytes]:
    """Path below the package → content."""
    package = folder / "lorarank"
    return {
        str(path.relative_to(package)): path.read_bytes()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_the_package_and_nothing_else(archives: dict[str, Path]) -> None:
    with zipfile.ZipFile(archives["wheel"]) as wheel:
        names = set(wheel.namelist())
        head = wheel.read(f"{NAME}.dist-info/METADATA").decode()
    info = f"{NAME}.dist-info/"
    assert {name.partition("/")[0] + "/" for name in names} == {"lorarank/", info}
    assert {f"lorarank/{path}" for path in ESSENTIAL} | {f"lorarank/_demo/{path}" for path in DEMO} <= names
    assert {f"{info}licenses/LICENSE", f"{info}licenses/CITATION.cff"} <= names
    assert not [name for name in names if "evidence" in name.split("/") or "tests" in name.split("/")]
    for line in ("License-Expression: Apache-2.0", "Author: ", "Keywords: ", "Requires-Python: >=3.11"):
        assert line in head, line


def test_the_citation_is_of_this_version() -> None:
    """The keys that the format requires (https://github.com/citation-file-format/citation-file-format, 1.2.0)."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    assert cited["version"] == lorarank.__version__
    readme = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Citing")[2]
    for line in (cited["title"], cited["authors"][0]["name"], f"{{{cited['version']}}}", cited["license"]):
        assert line in readme, line


def test_the_source_archive_holds_what_builds_and_tests_it(archives: dict[str, Path]) -> None:
    with tarfile.open(archives["sdist"]) as sdist:
        names = {name.removeprefix(f"{NAME}/") for name in sdist.getnames()}
    wanted = {
        "LICENSE",
        "CITATION.cff",
        "README.md",
        "CHANGELOG.md",
        "pyproject.toml",
        "tests/conftest.py",
        "scripts/demo",
    }
    assert wanted | {f"lorarank/{path}" for path in ESSENTIAL} | {f"data/demo/{path}" for path in DEMO} <= names
    read = [path for folder in ("tests", "data", "scripts") for path in (ROOT / folder).rglob("*") if path.is_file()]
    assert {str(path.relative_to(ROOT)) for path in read if not path.match("*/__pycache__/*")} <= names


def test_it_works_where_it_was_installed(installed: Path, make_adapter: Make, tmp_path: Path) -> None:
    here = {"cwd": tmp_path, "PYTHONPATH": str(installed)}
    found = python("-c", "import lorarank; print(lorarank.__file__)", **here)
    assert Path(found.strip()).is_relative_to(installed)
    assert python("-m", "lorarank", "--version", **here) == f"{lorarank.__version__}\n".join(("lorarank ", ""))
    assert python(installed / "bin" / "lorarank", "--version", **here).startswith("lorarank ")
    assert python("-m", "lorarank", "audit", make_adapter(), **here).startswith("Keep rank ")
    assert python("-m", "lorarank", "help", "alpha", **here).startswith("# Alpha")
    assert python("-m", "lorarank", "schema", "audit", **here).startswith("{")


def test_both_install_the_same_package(installed: Path, archives: dict[str, Path]) -> None:
    """So what one of them does the other does."""
    with zipfile.ZipFile(archives["wheel"]) as wheel:
        content = {name: wheel.read(name) for name in wheel.namelist() if name.startswith("lorarank/")}
    assert {f"lorarank/{name}": text for name, text in below(installed).items()} == content


@pytest.mark.parametrize("archive", ["wheel", "sdist"])
def test_the_demo_runs_in_a_clean_environment(archive: str, archives: dict[str, Path], tmp_path: Path) -> None:
    """An environment of its own, whose dependencies are those here; the demo has no setting, so it is the whole one.

    Paths in a ``.pth`` file are searched, but the ``.pth`` files in them are not read: an editable install here is not
    found from there.
    """
    for package in ("torch", "transformers", "peft", "accelerate"):
        pytest.importorskip(package)
    empty = tmp_path / "empty"
    empty.mkdir()
    python("-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    place = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    fresh = {"cwd": empty, "interpreter": place / "python"}
    site = Path(python("-c", "import sysconfig; print(sysconfig.get_path('purelib'))", **fresh).strip())
    assert site.is_relative_to(tmp_path)
    others = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "dependencies.pth").write_text("".join(f"{other}\n" for other in sorted(others)), encoding="utf-8")
    origin = "import importlib.util as u; found = u.find_spec('lorarank'); print(found and found.origin)"
    assert python("-c", origin, **fresh) == "None\n"
    python("-m", "pip", "install", *OFFLINE, "--ignore-installed", archives[archive], **fresh)
    assert Path(python("-c", "import lorarank; print(lorarank.__file__)", **fresh).strip()).is_relative_to(site)
    threads = dict.fromkeys(THREADS, "1")
    said = python("demo", cwd=empty, interpreter=place / "lorarank", **threads)
    assert said.startswith("Train at r = ")
    assert not list(empty.iterdir())


def imported(nodes: Iterable[ast.AST]) -> set[str]:
    """Distributions that import statements name, without the standard library and the package itself."""
    names = {
        name.partition(".")[0]
        for node in nodes
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    }
    of = metadata.packages_distributions()
    return {
        canonical(distribution)
        for name in names - sys.stdlib_module_names - {"lorarank"}
        for distribution in of.get(name, [name])
    }


def canonical(requirement: str) -> str:
    """Name of a distribution as https://packaging.python.org/en/latest/specifications/name-normalization has it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement, maxsplit=1)[0]).lower()


def test_what_is_imported_is_declared(archives: dict[str, Path]) -> None:
    """In the wheel itself: what every installation has, and what one of the extras brings."""
    with zipfile.ZipFile(archives["wheel"]) as wheel:
        head = message_from_string(wheel.read(f"{NAME}.dist-info/METADATA").decode())
        code = {name: ast.parse(wheel.read(name)) for name in wheel.namelist() if name.endswith(".py")}
    lines = head.get_all("Requires-Dist") or []
    required = {canonical(line) for line in lines if "extra ==" not in line}
    optional = {canonical(line) for line in lines if "extra ==" in line and not re.search("extra == .dev", line)}
    assert not required & optional
    everywhere = {name: imported(ast.walk(tree)) for name, tree in code.items()}
    assert {
        name: found - required - optional for name, found in everywhere.items() if found - required - optional
    } == {}
    assert required <= set().union(*everywhere.values())
    on_load = {name: imported(tree.body) - required for name, tree in code.items()}
    trains = ("lorarank/probe/", "lorarank/callback/trainer.py", "lorarank/callback/loggers.py")
    assert {name: found for name, found in on_load.items() if found and not name.startswith(trains)} == {}


def test_an_extra_that_is_named_brings_what_is_missing(archives: dict[str, Path]) -> None:
    """``needing("--ray", "ray", extra="ray")``: the wheel has this extra, and these packages are in it."""
    with zipfile.ZipFile(archives["wheel"]) as wheel:
        head = message_from_string(wheel.read(f"{NAME}.dist-info/METADATA").decode())
        trees = [ast.parse(wheel.read(name)) for name in wheel.namelist() if name.endswith(".py")]
    brings: dict[str, set[str]] = {extra: set() for extra in head.get_all("Provides-Extra") or []}
    for line in head.get_all("Requires-Dist") or []:
        if named := re.search("extra == .([^'\"]+)", line):
            brings[named[1]].add(canonical(line))
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    told = {
        (package.value, keyword.value.value)
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "needing"
        for keyword in call.keywords
        if keyword.arg == "extra" and isinstance(keyword.value, ast.Constant)
        for package in call.args[1:]
        if isinstance(package, ast.Constant)
    }
    told |= {("pandas", "frame"), ("polars", "polars")}  # of to_frame, which chooses
    assert {("matplotlib", "plot"), ("torch", "probe")} <= told
    assert {(package, extra) for package, extra in told if package not in brings[extra]} == set()
