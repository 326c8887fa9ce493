"""What to train, in PEFT's names: recommended from a run, or what an adapter was trained with (floor 3)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lorarank import adapters, runs
from lorarank.adapters import Adapter, LoraModule
from lorarank.adapters.mlx import part_of_fused
from lorarank.adapters.patterns import pattern_keys
from lorarank.adapters.peft_config import DEFAULT_ALPHA, alpha_for
from lorarank.adapters.write_peft import pattern_path
from lorarank.errors import OptionError, RefusedError, printable
from lorarank.estimate import EstimateOptions, advice, readings, recommend
from lorarank.estimate.constants import RATE_CHANGE
from lorarank.estimate.recommendation import Allocation, Config
from lorarank.export.options import NAMES, WITH_PATTERNS, ExportOptions
from lorarank.module_names import module_type
from lorarank.runs import Run
from lorarank.spectrum import measure
from lorarank.sweep.folder import refuse_sweeps
from lorarank.wording import percent

DEFAULTS: Mapping[str, Any] = {
    "task_type": None,
    "target_modules": None,
    "target_parameters": None,
    "exclude_modules": None,
    "layers_to_transform": None,
    "layers_pattern": None,
    "lora_dropout": 0.0,
    "bias": "none",
    "fan_in_fan_out": False,
    "use_rslora": False,
    "use_dora": False,
    "init_lora_weights": True,
    "rank_pattern": {},
    "alpha_pattern": {},
    "modules_to_save": None,
}
"""Fields of PEFT's ``LoraConfig`` that decide what is trained, beside r and lora_alpha, and their defaults
(``peft.tuners.lora.config``, 0.21)."""

UNORDERED = ("target_modules", "target_parameters", "exclude_modules", "modules_to_save")
"""Fields that PEFT keeps as sets, and so stores in any order."""


@dataclass(frozen=True)
class Settings:
    """A LoRA to be trained or served.

    Attributes
    ----------
    source : the run or adapter.
    kind : "run" or "adapter".
    base_model : where it is known.
    lora : fields of ``LoraConfig`` → values, those at their defaults left out; r, lora_alpha and target_modules always
        there.
    modules : paths of the modules to adapt.
    learning_rate : to start from, with a linear schedule; ``None`` where nothing was measured.
    qlora : whether the base is in 4 bits.
    notes : sentences on where all this comes from.
    """

    source: str
    kind: str
    base_model: str | None
    lora: Mapping[str, Any]
    modules: tuple[str, ...]
    learning_rate: float | None = None
    qlora: bool = False
    notes: tuple[str, ...] = ()

    @property
    def r(self) -> int:
        """The rank of most modules."""
        return int(self.lora["r"])

    @property
    def largest_r(self) -> int:
        """The largest rank of any module."""
        return max([self.r, *map(int, self.lora.get("rank_pattern", {}).values())])

    @property
    def scaling(self) -> float:
        """alpha/r, or alpha/√r with rank stabilisation."""
        return float(self.lora["lora_alpha"] / (math.sqrt(self.r) if self.lora.get("use_rslora") else self.r))

    @property
    def target_names(self) -> tuple[str, ...]:
        """``target_modules`` as names; the paths of all modules where it is a regular expression."""
        targets = self.lora["target_modules"]
        return self.modules if isinstance(targets, str) else tuple(targets)


def gather(source: str | Path, options: ExportOptions) -> Settings:
    """The settings of a run or of an adapter.

    Raises
    ------
    RefusedError
        The run carries no recommendation, and no rank was given.
    OptionError
        Options that do not go with the source.
    SourceError, AdapterError, RunError, NumericsError
        A source that is missing, damaged or unfinished.
    """
    folder = runs.folder_of(source)
    if folder is None:
        refuse_sweeps([source])
        found = _from_adapter(adapters.open(source), source, options)
    else:
        found = _from_run(runs.read(folder), options)
    return replace(found, qlora=options.qlora)


def _from_run(run: Run, options: ExportOptions) -> Settings:
    training = run.manifest.training
    r, whence = _rank(run, options)
    notes = [whence]
    adapter = adapters.open(run.adapters[0])
    alpha = readings.alpha_for(r, training.alpha, training.learning_rate)
    wanted = training.learning_rate * training.alpha / alpha.lora_alpha
    if wanted < 0.99 * alpha.learning_rate:  # the other way round the bound keeps it low, which harms less
        notes.append(
            f"lora_alpha = {alpha.lora_alpha} beside the probe's {training.alpha} asks for a rate of {wanted:.2g}; it "
            f"is changed by a factor of {RATE_CHANGE:g} at most, so tune it."
        )
    allocation = None
    if options.per_module:
        allocation, divided = _allocation(run, adapter, r, options)
        notes.append(divided)
    notes += _without_room(adapter, r)
    fan = bool(adapter.config.get("fan_in_fan_out", False))
    config = advice.config_for(r, alpha, training.target_modules, allocation=allocation, fan_in_fan_out=fan)
    kept = {m.name for m in adapter.modules} if allocation is None else {n for n, k in allocation.ranks.items() if k}
    return Settings(
        source=str(run.folder),
        kind="run",
        base_model=_base(run),
        lora=_fields(config),
        modules=tuple(module.name for module in adapter.modules if module.name in kept),
        learning_rate=float(f"{alpha.learning_rate:.2g}"),
        notes=tuple(notes),
    )


def _rank(run: Run, options: ExportOptions) -> tuple[int, str]:
    """The rank, and where it comes from.

    Raises
    ------
    RefusedError
        The run carries no recommendation, and no rank was given.
    """
    if options.rank is not None:
        return options.rank, f"r = {options.rank} as asked for with --rank; it is no recommendation."
    answer = recommend(run.folder, EstimateOptions(keep_loss=options.keep_loss, tokens=options.tokens))
    if answer.r is None or answer.interval is None:
        raise RefusedError(
            run.folder,
            f"no recommendation to export: {answer.refusals[0].rstrip('.')}",
            do="look at lorarank estimate, or choose a rank yourself with --rank",
        )
    low, high = answer.interval.low, answer.interval.high
    usual = options.keep_loss == EstimateOptions.keep_loss
    lost = "" if usual else f", where {percent(options.keep_loss)} of the gain may be lost"
    return answer.r, f"Recommended{lost}: r = {answer.r} ({low}–{high}), confidence {answer.confidence}."


def _allocation(run: Run, adapter: Adapter, r: int, options: ExportOptions) -> tuple[Allocation | None, str]:
    """A rank for each module, where the tool can have that, and a note on it."""
    if options.to not in WITH_PATTERNS:
        return None, (
            f"{NAMES[options.to]} knows one rank for all modules, so --per-module is left out; a rank for each is "
            f"taken by {', '.join(NAMES[name] for name in WITH_PATTERNS)}."
        )
    felt = measure(adapter, metric="loss", moments=run.moments)
    found = advice.allocation_for(felt, options.budget or r * sum(m.parameters_per_rank for m in felt))
    return found, (
        f"A rank for each module, by energy in the loss metric: {found.parameters:,} parameters of {found.budget:,}."
    )


def _without_room(adapter: Adapter, r: int) -> tuple[str, ...]:
    """A note on the narrowest module, where it has no room for r."""
    narrow = min(adapter.modules, key=lambda module: min(module.out_features, module.in_features))
    out, inner = narrow.out_features, narrow.in_features
    if r <= min(out, inner):
        return ()
    return (f"{printable(narrow.name)} is {out}×{inner}: no update of it has a rank above {min(out, inner)}.",)


def _base(run: Run) -> str:
    return run.manifest.base.source


def _fields(config: Config) -> dict[str, Any]:
    """``LoraConfig`` arguments of a recommendation, without defaults but for ``bias``."""
    lora = {
        "task_type": config.task_type,
        "r": config.r,
        "lora_alpha": config.lora_alpha,
        "lora_dropout": config.lora_dropout,
        "target_modules": list(config.target_modules),
        "bias": config.bias,
        "fan_in_fan_out": config.fan_in_fan_out,
        "rank_pattern": dict(config.rank_pattern),
        "alpha_pattern": dict(config.alpha_pattern),
    }
    return {name: value for name, value in lora.items() if name == "bias" or value != DEFAULTS.get(name)}


def _from_adapter(adapter: Adapter, source: str | Path, options: ExportOptions) -> Settings:
    if options.per_module:
        raise OptionError(
            "--per-module",
            "an adapter says what it was trained with, not which rank each module needs",
            do="give the folder of a run, or leave it out",
        )
    if options.for_estimate is not None:
        what = "an adapter is exported as it was trained, which no estimate changes"
        raise OptionError(options.for_estimate, what, do="give the folder of a run, or leave it out")
    lora = _own(adapter) if adapter.format == "peft" else _measured(adapter)
    notes = [f"What {printable(source)} was trained with; it is no recommendation (lorarank probe measures one)."]
    if adapter.format != "peft":
        notes.append(
            f"Read off a file in {adapter.format} format, which keeps no targets: they are the last parts of its names."
        )
    if options.rank is not None:
        lora = _at_rank(adapter, lora, options.rank)
        kept = "the scaling that it had" if options.to in WITH_PATTERNS else "that of most, where the tool takes one"
        notes.append(f"r = {options.rank} as asked for with --rank, each module at {kept}.")
    return Settings(
        source=str(source),
        kind="adapter",
        base_model=adapter.base_model,
        lora=lora,
        modules=tuple(dict.fromkeys(m.name for m in adapter.modules if m.kind != "parameter")),
        notes=tuple(notes),
    )


def _own(adapter: Adapter) -> dict[str, Any]:
    """The fields of an ``adapter_config.json``."""
    config = adapter.config
    lora = {"r": int(config["r"]), "lora_alpha": config.get("lora_alpha", DEFAULT_ALPHA)}
    for name, default in DEFAULTS.items():
        value = config.get(name, default)
        if name in UNORDERED and isinstance(value, list):
            value = sorted(value)
        if value is not None and value != default and value != []:
            lora[name] = value
    lora.setdefault("target_modules", sorted({module_type(m.name) for m in adapter.modules if m.kind != "parameter"}))
    return {name: lora[name] for name in ORDER if name in lora}


ORDER = ("task_type", "r", "lora_alpha", "lora_dropout", "target_modules", *DEFAULTS)
"""In which fields are written."""


def _layer(module: LoraModule) -> str:
    """Path of a module's layer, of which it may be a part."""
    return module.name.rpartition(".")[0] if module.is_part or part_of_fused(module.keys[0]) else module.name


def _measured(adapter: Adapter) -> dict[str, Any]:
    """Of an adapter without a configuration of PEFT's: the ranks and scalings of its modules."""

    def setting(module: LoraModule) -> tuple[int, int | float]:
        alpha = module.r * module.scaling
        return module.r, int(alpha) if float(alpha).is_integer() else alpha

    found = {_layer(module): setting(module) for module in adapter.modules}
    (r, alpha), _ = max(Counter(found.values()).items(), key=lambda item: (item[1], item[0]))
    keys = pattern_keys(found)
    lora: dict[str, Any] = {
        "r": r,
        "lora_alpha": alpha,
        "target_modules": sorted({module_type(name) for name in found}),
        "rank_pattern": {keys[name]: k for name, (k, _) in found.items() if k != r},
        "alpha_pattern": {keys[name]: a for name, (_, a) in found.items() if a != alpha},
    }
    return {name: value for name, value in lora.items() if value != {}}


def _at_rank(adapter: Adapter, lora: Mapping[str, Any], r: int) -> dict[str, Any]:
    """The same at another rank for all modules, each with the scaling that it has."""
    rslora = bool(lora.get("use_rslora"))
    path = pattern_path if adapter.format == "peft" else _layer
    alphas = {path(module): alpha_for(r, module.scaling, rslora=rslora) for module in adapter.modules}
    (alpha, _), *others = Counter(alphas.values()).most_common()
    keys = pattern_keys(alphas)
    apart = {keys[name]: own for name, own in alphas.items() if own != alpha} if others else {}
    kept = {name: value for name, value in lora.items() if name not in ("rank_pattern", "alpha_pattern")}
    return kept | {"r": r, "lora_alpha": alpha} | ({"alpha_pattern": apart} if apart else {})
