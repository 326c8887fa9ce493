"""Under what a record was made (floor 2, no torch)."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
from collections.abc import Sequence
from typing import Any

import lorarank
from lorarank.json_files import SCHEMA

PACKAGES = ("torch", "transformers", "peft", "accelerate", "numpy", "safetensors")
"""Those that the numbers of a training depend on, or its files."""


def provenance(command: Sequence[str]) -> dict[str, Any]:
    """The fields that say so in the record of a probe and of a sweep."""
    return {
        "schema": SCHEMA,
        "lorarank": lorarank.__version__,
        "versions": {
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in PACKAGES},
        },
        "command": tuple(command),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
