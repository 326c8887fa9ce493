"""Adapters that each have something to be found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Make = Callable[..., Path]
FIRST = "base_model.model.model.layers.0.self_attn.q_proj"


def spoil(tensors: dict[str, np.ndarray]) -> None:
    """NaN in one module."""
    tensors[f"{FIRST}.lora_A.weight"][0, 0] = np.nan


def kill(tensors: dict[str, np.ndarray]) -> None:
    """One module as it is before training."""
    tensors[f"{FIRST}.lora_B.weight"][:] = 0


@pytest.fixture
def mixed(make_adapter: Make) -> Path:
    """r = 4 with a dead module, a NaN one, a flat one and a spike, and four directions of signal elsewhere."""
    modules = {
        "model.layers.0.self_attn.q_proj": (48, 64, (4.0, 2.0, 1.0, 0.5)),
        "model.layers.0.self_attn.k_proj": (32, 64, (4.0, 2.0, 1.0, 0.5)),
        "model.layers.1.self_attn.q_proj": (48, 64, (1.0, 1.0, 1.0, 1.0)),
        "model.layers.1.self_attn.k_proj": (32, 64, (5.0, 0.1, 0.1, 0.1)),
    }

    def edit(tensors: dict[str, np.ndarray]) -> None:
        kill(tensors)
        tensors["base_model.model.model.layers.0.self_attn.k_proj.lora_A.weight"][1, 3] = np.inf

    return make_adapter("mixed", modules, r=4, alpha=8, edit=edit)
