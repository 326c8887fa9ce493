"""Imports go down only, and nothing loads torch but what trains."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import lorarank
from lorarank.cli import COMMANDS

PACKAGE = Path(lorarank.__file__).parent
FILES = sorted(path for path in PACKAGE.rglob("*.py") if "_demo" not in path.parts)
Make = Callable[..., Path]

FLOORS = {
    0: {"", "choices", "errors", "forked", "front", "layer_kinds", "mirror", "module_names", "numerics", "result"}
    | {"topics", "typed", "wording"},
    1: {"adapters", "corpus", "files", "json_files", "locks", "model_shapes", "ray_cluster", "runs", "sources"},
    2: {
        "callback",
        "capacity",
        "compare",
        "diagnose",
        "estimate",
        "first_guess",
        "heuristics",
        "inspect",
        "probe",
        "resize",
        "spectrum",
        "sweep",
    },
    3: {"audit", "dossier", "export", "fine_tune"},
    4: {"report"},
    5: {"__main__", "cli", "commands"},
}
"""Floor → the first component below ``lorarank`` of what stands on it; "" is the package itself."""

TRAINING = {"torch", "transformers", "peft", "accelerate", "datasets", "bitsandbytes"}
HEAVY = TRAINING | {"scipy", "pandas", "matplotlib", "huggingface_hub", "tokenizers"}


def room(module: str) -> str:
    """First component below the package."""
    return module.split(".")[1] if "." in module else ""


def floor(name: str) -> int:
    found = [number for number, names in FLOORS.items() if name in names]
    assert found, f"{name} stands on no floor: add it to FLOORS"
    return found[0]


def module_of(path: Path) -> str:
    parts = ("lorarank", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(nodes: Iterator[ast.AST]) -> Iterator[str]:
    """Modules imported by some nodes; names imported from the package itself count as modules."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module == "lorarank":
                names = (alias.name for alias in node.names)
                yield from ("lorarank" if name.startswith("__") else f"lorarank.{name}" for name in names)
            else:
                yield node.module or ""


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_go_down(path: Path) -> None:
    here = room(module_of(path))
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for name in imports(ast.walk(tree)):
        if name.split(".")[0] == "lorarank":
            assert floor(room(name)) <= floor(here), f"{module_of(path)} imports {name}, which stands above it"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_only_the_probe_imports_what_trains(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = {name.split(".")[0] for name in imports(iter(tree.body))}
    # a trainer's callback has to derive from transformers' class; these two files are loaded by nothing but its name
    allowed = module_of(path) in ("lorarank.callback.trainer", "lorarank.callback.loggers")
    assert room(module_of(path)) == "probe" or allowed or not top & TRAINING


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_only_the_command_line_prints(path: Path) -> None:
    if room(module_of(path)) == "cli":
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not [function for function in called if isinstance(function, ast.Name) and function.id == "print"]
    assert "click" not in {name.split(".")[0] for name in imports(ast.walk(tree))}


def loaded(code: str) -> set[str]:
    """Top-level packages in memory after ``code`` has run in a process of its own."""
    report = "import json, sys; print('\\n' + json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"],
        cwd=PACKAGE.parent,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def after(*arguments: str | Path) -> set[str]:
    """The same after a command."""
    return loaded(f"from lorarank.cli import main; main({list(map(str, arguments))!r}, standalone_mode=False)")


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not loaded("import lorarank") & (HEAVY | {"numpy", "click", "rich"})


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)], ids=" ".join
)
def test_help_loads_no_numpy(arguments: list[str]) -> None:
    # email comes with importlib.metadata, and is a fifth of the time
    assert not after(*arguments) & (HEAVY | {"numpy", "rich", "email"})


def test_estimating_loads_nothing_heavy(make_run: Make) -> None:
    folder = make_run(replicates=(0, 1))
    for arguments in ([], ["--metric", "loss"], ["--budget", "1500"], ["--format", "csv"]):
        assert not after("estimate", folder, *arguments) & HEAVY


def test_describing_an_adapter_loads_nothing_heavy(make_adapter: Make) -> None:
    assert not after("estimate", make_adapter()) & HEAVY


def test_auditing_loads_nothing_heavy(make_adapter: Make, tmp_path: Path) -> None:
    folder = make_adapter()
    for arguments in ([], ["--format", "sarif"], ["-o", tmp_path / "rows.csv"]):
        assert not after("audit", folder, *arguments) & HEAVY


def test_resizing_and_comparing_load_nothing_heavy(make_adapter: Make, tmp_path: Path) -> None:
    first, second = make_adapter("first"), make_adapter("second", seed=1)
    assert not after("resize", first, "-o", tmp_path / "out", "--params", "1500", "--per-module") & HEAVY
    assert not after("convert", first, "-o", tmp_path / "half", "--dtype", "bfloat16") & HEAVY
    assert not after("compare", first, second) & HEAVY


def test_exporting_loads_nothing_heavy(make_run: Make) -> None:
    folder = make_run()
    for arguments in (["axolotl"], ["trl", "--qlora"], ["peft", "--per-module"]):
        assert not after("export", folder, "--to", *arguments) & HEAVY


def test_inspecting_weights_loads_nothing_heavy(tmp_path: Path) -> None:
    save_file({"model.layers.0.mlp.up_proj.weight": np.zeros((8, 4), np.float32)}, tmp_path / "model.safetensors")
    assert not after("inspect", tmp_path, "--rank", "2") & HEAVY


def test_the_reference_table_loads_nothing_heavy() -> None:
    assert not after("heuristics", "--task", "style") & HEAVY
