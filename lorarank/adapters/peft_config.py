"""``adapter_config.json`` as PEFT writes it, old versions included (floor 1).

What PEFT would not load is refused here as well, and so is what it computes in another way than
``scaling * lora_B @ lora_A``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorarank.adapters.untrusted import read_json
from lorarank.errors import AdapterError

FILE_NAME = "adapter_config.json"

DEFAULT_ALPHA = 8
"""``LoraConfig.lora_alpha`` where a configuration leaves it out (peft.tuners.lora.config)."""

LARGEST_ALPHA = 1e9
"""Beyond any use; kept so far from overflow that squared singular values stay finite."""

NOT_LORA: Mapping[str, str] = {
    "ADALORA": "AdaLoRA puts learnt singular values between its factors",
    "BOFT": "BOFT multiplies the weights by butterfly rotations",
    "FOURIERFT": "FourierFT learns spectral coefficients",
    "GRALORA": "GraLoRA splits every weight into blocks with factors of their own",
    "HRA": "HRA multiplies the weights by reflections",
    "IA3": "IA³ rescales activations",
    "LN_TUNING": "LN tuning trains normalisation layers alone",
    "LOHA": "LoHa's update is an elementwise product of two low-rank products",
    "LOKR": "LoKr's update is a Kronecker product",
    "OFT": "OFT multiplies the weights by rotations",
    "PREFIX_TUNING": "prefix tuning trains virtual tokens",
    "PROMPT_TUNING": "prompt tuning trains virtual tokens",
    "P_TUNING": "p-tuning trains virtual tokens",
    "RANDLORA": "RandLoRA's update is a sum over shared random bases, of full rank",
    "VBLORA": "VB-LoRA draws its factors from a shared bank of vectors",
    "VERA": "VeRA shares two random factors among all modules and trains scales alone",
    "XLORA": "X-LoRA mixes several LoRA adapters by a learnt gate",
}
"""``peft_type`` → why its update is not what is measured here."""

SWIFT = "swift_type"
"""What ms-swift before 1.5 had in the place of ``peft_type`` (modelscope/ms-swift ``swift/tuners/base.py``)."""

FORKS: Mapping[str, str] = {"ALORA": "alora_invocation_tokens", "DORA": "use_dora"}
"""``peft_type`` of forks whose update is LoRA's → the field that PEFT has for it today: the library of aLoRA's authors
(IBM/activated-lora ``alora/config.py``) and that of DoRA's (NVlabs/DoRA ``peft/tuners/dora.py``)."""

OTHER_METHOD = "name an adapter that was trained with LoRA"
"""What to do about any of them."""

VARIANTS: Mapping[str, str] = {
    "use_qalora": "QA-LoRA averages groups of inputs before lora_A",
    "use_bdlora": "BD-LoRA stores block-diagonal factors",
    "use_mora": "MoRA stores one square matrix for both factors",
    "lora_use_mixer": "MoSLoRA trains a matrix between lora_A and lora_B",
    "kasa_config": "KaSA puts a learnt diagonal between the factors and cuts the base weight",
    "arrow_config": "an Arrow router chooses among other adapters by the input, and never applies factors of its own",
}
"""Fields that turn LoRA into something else when they are set, and why."""

NOTES: Mapping[str, str] = {
    "use_dora": (
        "Trained with DoRA: ΔW here is scaling·lora_B·lora_A, the direction part only; the magnitudes are carried."
    ),
    "alora_invocation_tokens": "An activated LoRA (aLoRA): ΔW holds only after its invocation tokens.",
    "monteclora_config": "Trained with MonteCLoRA: ΔW here is without its sampled perturbations.",
}
"""Fields that need a word when they are set."""

RESIDUAL_INITS = ("pissa", "olora", "corda", "lora_ga", "loftq")
"""Initialisations that take lora_B @ lora_A out of the base weight at the start (``init_lora_weights``)."""


@dataclass(frozen=True)
class PeftConfig:
    """What decides the factors and their scaling.

    Attributes
    ----------
    path : of the file.
    r, alpha : for the modules that no pattern names.
    rank_pattern, alpha_pattern : regular expression → r or alpha; see :mod:`lorarank.adapters.patterns`.
    rslora : whether scaling is alpha/√r rather than alpha/r.
    target_modules : suffixes of module paths, or one regular expression for whole ones.
    target_parameters : suffixes of parameter paths.
    enable_lora : which parts of a fused projection have factors, in the layout of PEFT before 0.3.
    base_model : path or hub id.
    notes : sentences for the reader of the numbers.
    raw : the file as it is.
    """

    path: Path
    r: int
    alpha: float
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    rslora: bool
    target_modules: tuple[str, ...] | str
    target_parameters: tuple[str, ...]
    enable_lora: tuple[bool, ...]
    base_model: str | None
    notes: tuple[str, ...]
    raw: Mapping[str, Any] = field(repr=False)


def scaling(r: int, alpha: float, *, rslora: bool) -> float:
    """What ``lora_B @ lora_A`` is multiplied by: alpha/r, or alpha/√r with rank stabilisation (arXiv 2312.03732).

    >>> scaling(16, 32.0, rslora=False), scaling(16, 32.0, rslora=True)
    (2.0, 8.0)
    """
    return alpha / math.sqrt(r) if rslora else alpha / r


def alpha_for(r: int, wanted: float, *, rslora: bool) -> int | float:
    """The ``lora_alpha`` with which PEFT's own division gives ``wanted`` again, to the last bit where any number does.

    >>> alpha_for(4, 2.0, rslora=False), alpha_for(4, 3.0, rslora=True), alpha_for(3, 0.1, rslora=False)
    (8, 6, 0.30000000000000004)
    """
    near = wanted * (math.sqrt(r) if rslora else r)
    candidates = (float(round(near)), near, math.nextafter(near, math.inf), math.nextafter(near, -math.inf))
    alpha = min(candidates, key=lambda value: abs(scaling(r, value, rslora=rslora) - wanted))
    return int(alpha) if alpha.is_integer() else alpha


def read_config(path: Path) -> PeftConfig:
    """Read and check an ``adapter_config.json``.

    Raises
    ------
    SourceError
        The file cannot be read.
    AdapterError
        A field is missing or makes no sense, or the adapter is no plain LoRA; the message names the field.
    """
    return parse_config(read_json(path), path)


def parse_config(raw: Mapping[str, Any], path: Path) -> PeftConfig:
    """Check a configuration that has been read.

    Parameters
    ----------
    raw : the fields of ``LoraConfig``, ``peft_type`` among them.
    path : of the file, for messages; where it lies inside one, with the place appended.

    Raises
    ------
    AdapterError
        As :func:`read_config`.

    >>> parse_config({"peft_type": "LORA", "r": 8, "lora_alpha": 16}, Path("adapter_config.json")).alpha
    16.0
    """
    _check_type(raw, path)
    for name, reason in VARIANTS.items():
        # ipex-llm says it by its mode of training (intel/ipex-llm python/llm/src/ipex_llm/transformers/qlora.py)
        if raw.get(name) or name == f"use_{raw.get('training_mode')}":
            raise AdapterError(
                f"{path}: {name}", reason, why="its update is not scaling·lora_B·lora_A", do=OTHER_METHOD
            )
    if raw.get("r") is None:
        raise AdapterError(path, "r is missing", do="take the adapter_config.json that was saved with the weights")
    alpha = raw.get("lora_alpha", DEFAULT_ALPHA)
    fork = FORKS.get(str(raw["peft_type"]).upper())
    notes = [sentence for name, sentence in NOTES.items() if raw.get(name) or name == fork]
    init = raw.get("init_lora_weights")
    if isinstance(init, str) and init.lower().startswith(RESIDUAL_INITS):
        notes.append(
            f"Initialised with {init}: ΔW is the difference from the residual base weight, and so holds what the "
            "initialisation took out of the original one."
        )
    if "lora_alpha" not in raw:
        notes.append(f"The configuration names no lora_alpha; PEFT's default of {DEFAULT_ALPHA} holds.")
    base, targets = raw.get("base_model_name_or_path"), raw.get("target_modules")
    return PeftConfig(
        path=path,
        r=_rank(raw["r"], f"{path}: r"),
        alpha=usable_alpha(alpha, f"{path}: lora_alpha"),
        rank_pattern={
            key: _rank(value, f"{path}: rank_pattern {key}") for key, value in _table(raw, "rank_pattern", path)
        },
        alpha_pattern={
            key: usable_alpha(value, f"{path}: alpha_pattern {key}")
            for key, value in _table(raw, "alpha_pattern", path)
        },
        rslora=_flag(raw, "use_rslora", path),
        target_modules=targets if isinstance(targets, str) else _names(raw, "target_modules"),
        target_parameters=_names(raw, "target_parameters"),
        enable_lora=_parts(raw.get("enable_lora")),
        base_model=base if isinstance(base, str) and base else None,
        notes=tuple(notes),
        raw=raw,
    )


def _check_type(raw: Mapping[str, Any], path: Path) -> None:
    kind = raw.get("peft_type")
    name = kind.upper() if isinstance(kind, str) else kind
    if name == "LORA" or (isinstance(name, str) and name in FORKS):
        return
    where = f"{path}: peft_type"
    if SWIFT in raw:
        raise AdapterError(f"{path}: {SWIFT}", f"{raw[SWIFT]!r} of ms-swift is not LoRA", do=OTHER_METHOD)
    if "extra_state_keys" in raw:
        raise AdapterError(path, "of a checkpoint of ms-swift, whose adapters lie in folders in it", do="name one")
    if name is None:
        raise AdapterError(where, "is missing", do="take the adapter_config.json that was saved with the weights")
    if isinstance(name, str) and name in NOT_LORA:
        why = f"{NOT_LORA[name]}, so it has no rank to choose"
        raise AdapterError(where, f"{name} is not LoRA", why=why, do=OTHER_METHOD)
    why = "only LoRA's update is scaling·lora_B·lora_A"
    raise AdapterError(where, f"{kind!r} is not LoRA", why=why, do=OTHER_METHOD)


def _rank(value: Any, where: str) -> int:
    if type(value) is not int or value < 1:
        raise AdapterError(where, f"{value!r} is no rank", do="give a whole number from 1 up")
    return value


def usable_alpha(value: Any, where: str) -> float:
    """An alpha that can be computed with.

    Raises
    ------
    AdapterError
        It is no number, or beyond :data:`LARGEST_ALPHA`.

    >>> usable_alpha(1e308, "lora.safetensors: q.alpha")
    Traceback (most recent call last):
        ...
    lorarank.errors.AdapterError: lora.safetensors: q.alpha: 1e+308 is no usable alpha. Give a number up to 1e+09.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST_ALPHA:
        raise AdapterError(where, f"{value!r} is no usable alpha", do=f"give a number up to {LARGEST_ALPHA:g}")
    return float(value)


def _table(raw: Mapping[str, Any], name: str, path: Path) -> list[tuple[str, Any]]:
    """A field that is an object, or null or absent as in old configurations."""
    value = raw.get(name)
    if value is None:
        return []
    if not isinstance(value, dict):
        raise AdapterError(f"{path}: {name}", f"a JSON {type(value).__name__} where an object is needed")
    return list(value.items())


def _flag(raw: Mapping[str, Any], name: str, path: Path) -> bool:
    value = raw.get(name)
    if value is not None and not isinstance(value, bool):
        raise AdapterError(f"{path}: {name}", f"{value!r} is neither true nor false")
    return bool(value)


def _names(raw: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = raw.get(name)
    return tuple(entry for entry in value if isinstance(entry, str)) if isinstance(value, list) else ()


def _parts(value: Any) -> tuple[bool, ...]:
    return tuple(map(bool, value)) if isinstance(value, list) else ()
