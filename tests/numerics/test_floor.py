"""The rule of the floor: numpy, the errors and the floor itself; scipy inside a function at most."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import lorarank.numerics

FILES = sorted(Path(lorarank.numerics.__file__).parent.glob("*.py"))
ALLOWED = ("numpy", "lorarank.errors", "lorarank.numerics")


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0
        return [node.module or ""]
    return []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_imports_stay_on_the_floor(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for name in (name for node in ast.walk(tree) for name in imported(node)):
        root = name.split(".")[0]
        allowed = name.startswith(ALLOWED) or root in sys.stdlib_module_names
        assert allowed or root == "scipy", name
        assert root not in {"pathlib", "os", "io"}, "no paths on this floor"
    at_import = [name for node in tree.body for name in imported(node)]
    assert not [name for name in at_import if name.startswith("scipy")]
    assert "print" not in {
        node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }


def test_importing_the_floor_loads_neither_scipy_nor_torch():
    code = (
        "import sys, lorarank.numerics.linalg, lorarank.numerics.criteria, lorarank.numerics.replication, "
        "lorarank.numerics.allocation; print(sorted({'scipy', 'torch'} & {m.split('.')[0] for m in sys.modules}))"
    )
    path = str(Path(lorarank.numerics.__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", code], cwd=path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
