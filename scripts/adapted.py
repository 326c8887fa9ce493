"""A model with a fresh adapter on it, for the scripts that train one without a probe around it."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import PeftModel

from lorarank.probe import model as models
from lorarank.probe.modules import resolve_targets, target_names
from lorarank.probe.options import ProbeOptions


def load_adapted(folder: Path, options: ProbeOptions, device: torch.device, dtype: torch.dtype) -> PeftModel:
    """The base model in ``folder`` with a fresh adapter on what ``options.target`` means."""
    plain = models.skeleton(models.load_config(folder), folder)
    names = target_names(plain, resolve_targets(plain, options).shapes)
    return models.attach_adapter(models.load_base(folder, options, device, dtype), options, names)
