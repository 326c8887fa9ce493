"""Pairs of models that differ in every matrix."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

Shapes = Mapping[str, tuple[int, ...]]
Changed = Callable[..., tuple[Path, Path]]


@pytest.fixture
def changed(tmp_path: Path) -> Changed:
    """``changed(shapes, config, name=…)``: folders of a base and of a fine-tune of which every matrix differs.

    ``name`` gives what the fine-tune calls a tensor; ``same`` names those that stay as they are; ``alike`` is stored in
    both beside them.
    """

    def make(
        shapes: Shapes,
        config: object = None,
        *,
        name: Callable[[str], str] = str,
        same: str = "",
        alike: Mapping[str, np.ndarray] | None = None,
    ) -> tuple[Path, Path]:
        random = np.random.default_rng(0)
        base = {key: random.standard_normal(shape) for key, shape in shapes.items()}
        tuned = {
            name(key): x if x.ndim < 2 or (same and same in key) else x + 0.1 * random.standard_normal(x.shape)
            for key, x in base.items()
        }
        for folder, tensors in (("base", base), ("tuned", tuned)):
            (tmp_path / folder).mkdir()
            save_file({**tensors, **(alike or {})}, tmp_path / folder / "model.safetensors")
            if config is not None:
                (tmp_path / folder / "config.json").write_text(json.dumps(config))
        return tmp_path / "base", tmp_path / "tuned"

    return make
