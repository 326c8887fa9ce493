"""PEFT's LoRA folders: ``adapter_config.json`` beside ``adapter_model.safetensors``, shards or ``.bin`` (floor 1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

from lorarank.adapters.adapter import Adapter, LoraModule, Stored
from lorarank.adapters.candidate import MOST_SEEN, PEFT_WEIGHTS, Candidate, ending
from lorarank.adapters.factors import KINDS, MOST_SPREAD, dtype_of, factor_shape, spread
from lorarank.adapters.foreign import refuse_other_methods
from lorarank.adapters.named_factors import Named
from lorarank.adapters.patterns import first_matches
from lorarank.adapters.peft_config import FILE_NAME, SWIFT, PeftConfig, read_config, scaling
from lorarank.adapters.peft_experts import MOST_EXPERTS, MOST_MODULES, ExpertFactors, Parameter, parameters_of
from lorarank.adapters.peft_keys import ROOT, Pair, pair, without_wrappers
from lorarank.adapters.stacks import Stacks, before_last
from lorarank.adapters.store import INDEX_SUFFIX
from lorarank.adapters.tensors import Store, read_finite
from lorarank.adapters.untrusted import read_json
from lorarank.errors import AdapterError, printable

AUTOMODEL = "automodel_peft_config.json"
"""What NeMo Automodel lays beside PEFT's configuration."""

HUB_FILES = (FILE_NAME, AUTOMODEL, "adapter_model*.safetensors", f"adapter_model{INDEX_SUFFIX}", "adapter_model*.bin")
"""What is fetched of an adapter on the hub."""

EXPERTS = "experts"
"""In the paths of modules that Tinker may leave empty factors for."""

HUNYUAN = ("transformer.double_blocks.", "transformer.single_blocks.")
"""How the names of HunyuanVideo's modules in its first code begin, where diffusion-pipe has saved them."""

MOST_LISTED = 5


def recognises(candidate: Candidate) -> bool:
    """Whether a folder or file is meant to be an adapter of PEFT with its configuration, damaged ones included."""
    path = candidate.path
    if path.suffix == ".safetensors" and not path.name.startswith("adapter_model") and path.is_file():
        # another tool's file may lie beside a configuration, whose scaling is none of its
        return candidate.config is not None and any(ROOT in key for key in candidate.keys)
    if candidate.config is not None and candidate.store is not None:
        config = candidate.settings
        if "peft_type" not in config and config.get(SWIFT) == "LORA":
            return False  # bare factors, which are read as such
        if _is_of_a_pipeline(candidate, config):
            return False
    return candidate.config is not None or candidate.path.name == FILE_NAME or bool(_shards(candidate.folder))


def _is_of_a_pipeline(candidate: Candidate, config: Mapping[str, Any]) -> bool:
    """Whether names begin as ComfyUI and diffusers have them, and none as PEFT does: diffusion-pipe lays PEFT's
    configuration beside such a file, and nothing that loads it looks there (tdrussell/diffusion-pipe
    ``models/base.py``, ``save_adapter``). Its alpha is r, which is what they take it for; a configuration that says
    anything else counts."""
    if any(ROOT in key for key in candidate.keys) or not _says_nothing(config):
        return False
    from lorarank.adapters.attention_names import PEFT  # what PEFT has saved needs none of it
    from lorarank.adapters.components import COMFY, named_part

    factors = [key for key in candidate.keys if PEFT.fullmatch(ending(key)[1])]
    return bool(factors) and all(key.startswith((COMFY, *HUNYUAN)) or named_part(key) for key in factors)


def _says_nothing(config: Mapping[str, Any]) -> bool:
    """Whether a configuration is that of plain LoRA with a scaling of 1, the same for all modules.

    >>> plain = {"peft_type": "LORA", "r": 8, "lora_alpha": 8, "init_lora_weights": True, "use_dora": False}
    >>> _says_nothing(plain), _says_nothing(plain | {"lora_alpha": 16}), _says_nothing(plain | {"use_rslora": True})
    (True, False, False)
    """
    r, alpha = config.get("r"), config.get("lora_alpha")
    told = ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "target_parameters", "modules_to_save")
    plain = config.get("peft_type") == "LORA" and config.get("init_lora_weights", True) is True
    return plain and type(r) is int and r == alpha and not any(config.get(name) for name in told)


def read(candidate: Candidate) -> Adapter:
    """Read an adapter of PEFT from its folder, or from one of the files in it.

    ΔW is PEFT's own ``get_delta_weight``, transposed where the layer keeps its weight as (in, out): embeddings and
    Conv1D (``fan_in_fan_out``). The rank and alpha of every module follow ``rank_pattern`` and ``alpha_pattern``.

    Raises
    ------
    SourceError, AdapterError, MissingExtraError
        A file is missing, damaged, no LoRA, or inconsistent; see :mod:`lorarank.adapters.peft_config`,
        :mod:`lorarank.adapters.peft_keys` and :mod:`lorarank.adapters.store`.
    """
    config = read_config(candidate.folder / FILE_NAME)
    store = candidate.store
    if store is None:
        raise _without_weights(candidate)
    refuse_other_methods(store.path, [key for key in store.tensors if "lora_" in key])
    pairs, others = pair(store.tensors, str(store.path), candidate.member)
    if not pairs:
        first = ", ".join(others[:3]) or "none"
        raise AdapterError(store.path, f"holds no lora_A and lora_B among its {len(others)} tensors ({first})")
    pairs, placeholders = _filled(store, pairs)
    if config.target_parameters:
        _check_ranks_of_experts(candidate)
    built, notes = modules(store, config, pairs)
    if placeholders:
        notes.append(
            f"Factors of experts that are empty say nothing: {len(placeholders)} tensors, like "
            f"{printable(placeholders[0])}. Tinker leaves such for projections that a model's experts do not have."
        )
    if candidate.path.is_dir():
        notes += _siblings(candidate.folder)
    return Adapter(
        source=candidate.path,
        format="peft",
        base_model=config.base_model,
        config=config.raw,
        modules=tuple(built),
        carried=(*others, *placeholders),
        notes=config.notes + tuple(notes),
        store=store,
    )


def _filled(store: Store, pairs: list[Pair]) -> tuple[list[Pair], list[str]]:
    """The pairs that hold anything, and the keys of the others; all of them where none does, which is an error then."""
    empty = {one for one in pairs if EXPERTS in one.module and _is_empty(store, one)}
    if len(empty) == len(pairs):
        return pairs, []
    kept = [one for one in pairs if one not in empty]
    return kept, [key for one in pairs if one in empty for key in (one.A, one.B)]


def _is_empty(store: Store, one: Pair) -> bool:
    return store.tensors[one.A].size == store.tensors[one.B].size == 0


def _check_ranks_of_experts(candidate: Candidate) -> None:
    """Refuse experts whose rank is not the configuration's: NeMo Automodel's ``moe_rank_scaling`` divides it by the
    number of experts that a token goes to (NVIDIA-NeMo/Automodel ``nemo_automodel/components/_peft/lora.py``)."""
    path = candidate.folder / AUTOMODEL
    if path.is_file() and read_json(path).get("moe_rank_scaling") is True:
        raise AdapterError(
            path,
            "moe_rank_scaling: the experts have another r than adapter_config.json says",
            why="which, and so their scaling, is stored nowhere, and PEFT cannot load it either",
            do="merge it with NeMo Automodel",
        )


def _without_weights(candidate: Candidate) -> AdapterError:
    folder = candidate.folder
    if candidate.path.is_file() and candidate.path.name != FILE_NAME:
        return AdapterError(candidate.path, "no file of tensors", do=f"name its folder, {folder}")
    if _shards(folder):
        return AdapterError(
            folder / PEFT_WEIGHTS[1], "is missing, and without it the shards are not known to be complete"
        )
    return AdapterError(
        folder, f"holds {FILE_NAME} but no weights", do=f"put {PEFT_WEIGHTS[0]} or {PEFT_WEIGHTS[2]} there"
    )


def _shards(folder: Path) -> list[Path]:
    """Shards of an adapter whose index is missing."""
    return [] if (folder / PEFT_WEIGHTS[1]).is_file() else sorted(folder.glob("adapter_model-*-of-*.safetensors"))


def _siblings(folder: Path) -> list[str]:
    """A note of the further adapters that PEFT has saved below this one, each in a folder of its name."""
    inside = sorted(path.parent.name for path in islice(folder.glob(f"*/{FILE_NAME}"), MOST_SEEN))
    if not inside:
        return []
    listed = ", ".join(map(printable, inside[:MOST_LISTED])) + (", …" if inside[MOST_LISTED:] else "")
    return [f"Further adapters lie in folders inside this one ({listed}); name such a folder to read it."]


def modules(store: Store, config: PeftConfig, pairs: Sequence[Pair]) -> tuple[list[LoraModule], list[str]]:
    """The modules of paired factors, and notes on them.

    Raises
    ------
    AdapterError
        Factors and configuration contradict each other.
    """
    parameters = parameters_of(pairs, config.target_modules, config.target_parameters, str(config.path))
    paths = {one: _pattern_path(one, parameters.get(one)) for one in pairs}
    rank_keys = first_matches(list(config.rank_pattern), paths.values(), f"{config.path}: rank_pattern")
    alpha_keys = first_matches(list(config.alpha_pattern), paths.values(), f"{config.path}: alpha_pattern")
    factors, stacks = ExpertFactors(store), Stacks(store)
    built: list[LoraModule] = []
    notes: list[str] = []
    shared = False
    for one in pairs:
        path, parameter = paths[one], parameters.get(one)
        r = config.rank_pattern[rank_keys[path]] if path in rank_keys else config.r
        alpha = config.alpha_pattern[alpha_keys[path]] if path in alpha_keys else config.alpha
        if parameter is None and _is_stack(store, one, r):
            shared |= len({shape[0] for shape in _shapes(store, one)}) > 1
            built.extend(_stack(stacks, store, config, one, r, alpha))
        elif parameter is None:
            built.append(_module(store, config, one, r, alpha))
        if parameter is None:
            continue
        if not parameter.certain and (config.rank_pattern or config.alpha_pattern):
            raise AdapterError(
                f"{store.path}: {one.A}",
                "it cannot be told which of the target_parameters it is for",
                why="rank_pattern or alpha_pattern may hold for it",
            )
        built.extend(_experts(factors, store, config, one, parameter, r, alpha))
        if len(built) > MOST_MODULES:
            raise AdapterError(store.path, f"its experts are more than the {MOST_MODULES:,} modules any model has")
    names = {module.name for module in built}
    if len(names) < len(built):
        raise AdapterError(store.path, "holds more than one update of the same module", do="save each by itself")
    if any(not parameter.certain for parameter in parameters.values()):
        notes.append(
            "Which of the target_parameters the factors of a module belong to is not stored: they are counted."
        )
    if shared:
        notes.append("A factor that all experts share is counted for each of them.")
    if any(config.enable_lora) and any(module.r != config.r for module in built):
        notes.append("A fused projection in the layout of PEFT before 0.3: each of its enabled parts has r of its own.")
    return built, notes


def _pattern_path(one: Pair, parameter: Parameter | None) -> str:
    """What PEFT matches the patterns with: the path of the outermost module, or of the parameter."""
    if parameter is not None:
        return f"{without_wrappers(one.module)}.{parameter.name}"
    return one.module.partition(".base_layer")[0]


def _module(store: Store, config: PeftConfig, one: Pair, r: int, alpha: float) -> LoraModule:
    shape_A, shape_B = _shapes(store, one)
    rows, columns = shape_A[0], shape_B[1]
    kind = "embedding" if one.embedding else KINDS.get(len(shape_A), "")
    out = shape_B[0]
    parts = config.enable_lora if len(shape_A) == 2 and len(shape_B) == 3 else ()
    groups = sum(parts) or (rows // columns if len(shape_A) > 2 and rows % columns == 0 else 1)
    if (
        not kind
        or (one.embedding and len(shape_A) != 2)
        or (len(shape_B) != len(shape_A) and not parts)
        or set(shape_B[2:]) - {1}
        or rows != columns * groups
        or out % groups
    ):
        raise AdapterError(
            f"{store.path}: {one.A}",
            f"its shape {shape_A} does not fit the shape {shape_B} of {one.B}",
            why="the update is their product",
        )
    expected = r * sum(parts) if parts else r
    if rows != expected:
        raise _disagreement(store, config, one, rows, r)
    out_features = out // groups * len(parts) if parts else out
    if (groups > 1 or parts) and out_features * rows > MOST_SPREAD:
        raise AdapterError(
            f"{store.path}: {one.B}", f"its {groups:,} groups would spread over {out_features:,}×{rows:,}"
        )
    read: Callable[[], Stored] = partial(_read, store, one, groups, parts)
    return LoraModule(
        name=without_wrappers(one.module),
        kind=kind,
        r=rows,
        in_features=prod(shape_A[1:]),
        out_features=out_features,
        scaling=scaling(r, alpha, rslora=config.rslora),
        dtype=dtype_of(store, one.A, one.B),
        parameters=prod(shape_A) + prod(shape_B),
        keys=(one.A, one.B),
        read=read,
    )


def _is_stack(store: Store, one: Pair, r: int) -> bool:
    """Whether the factors of all experts lie in tensors of three dimensions, (E, r, in) and (E, out, r), as Tinker
    has them; a one-dimensional convolution has (r, in, k) and (out, r, 1), in groups (out, r / groups, 1)."""
    shape_A, shape_B = store.tensors[one.A].shape, store.tensors[one.B].shape
    if len(shape_A) != 3 or len(shape_B) != 3 or shape_A[1] != shape_B[2]:
        return False
    return shape_B[2] > 1 or (r == 1 and (shape_A[0] > 1 or shape_B[1] > 1))


def _stack(stacks: Stacks, store: Store, config: PeftConfig, one: Pair, r: int, alpha: float) -> list[LoraModule]:
    if store.tensors[one.A].shape[1] != r:
        raise _disagreement(store, config, one, store.tensors[one.A].shape[1], r)
    name = before_last(without_wrappers(one.module))
    return stacks.modules(Named(one.module, one.A, one.B), scaling(r, alpha, rslora=config.rslora), name)


def _experts(
    factors: ExpertFactors, store: Store, config: PeftConfig, one: Pair, parameter: Parameter, r: int, alpha: float
) -> list[LoraModule]:
    shape_A, shape_B = _shapes(store, one)
    if len(shape_A) != 2 or len(shape_B) != 2 or shape_A[0] != shape_B[1]:
        raise AdapterError(f"{store.path}: {one.A}", f"its shape {shape_A} does not fit the shape {shape_B} of {one.B}")
    experts, rest = divmod(shape_A[0], r)
    if rest or not experts:
        raise _disagreement(store, config, one, shape_A[0], r)
    if experts > MOST_EXPERTS:
        raise AdapterError(f"{store.path}: {one.A}", f"{experts:,} experts are more than any model has")
    module = without_wrappers(one.module)
    return [
        LoraModule(
            name=f"{module}.{parameter.name}" if experts == 1 else f"{module}.{expert}.{parameter.name}",
            kind="parameter",
            r=r,
            in_features=shape_A[1],
            out_features=shape_B[0],
            scaling=scaling(r, alpha, rslora=config.rslora),
            dtype=dtype_of(store, one.A, one.B),
            parameters=r * (shape_A[1] + shape_B[0]),
            keys=(one.A, one.B),
            expert=None if experts == 1 else expert,
            read=partial(factors.of, one, expert, experts),
        )
        for expert in range(experts)
    ]


def _shapes(store: Store, one: Pair) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return factor_shape(store, one.A), factor_shape(store, one.B)


def _disagreement(store: Store, config: PeftConfig, one: Pair, rows: int, r: int) -> AdapterError:
    if config.raw.get("r_sum") == rows:  # cmnfriend/O-LoRA src/peft/utils/save_and_load.py
        return AdapterError(
            f"{store.path}: {one.A}",
            f"an O-LoRA, whose {rows} rows (r_sum) are those of all tasks so far, r = {r} each",
            why="PEFT cannot load it",
            do="merge it with the fork of PEFT that trained it",
        )
    return AdapterError(
        f"{store.path}: {one.A}",
        f"has {rows} rows where {config.path.name} says r = {r}",
        why="PEFT cannot load it either, and its scaling is unknown",
        do="correct r or rank_pattern, or take the adapter_config.json saved with the weights",
    )


def _read(store: Store, one: Pair, groups: int, parts: Sequence[bool]) -> Stored:
    lora_A = read_finite(store, one.A)
    lora_B = read_finite(store, one.B)
    lora_A, lora_B = lora_A.reshape(len(lora_A), -1), lora_B.reshape(len(lora_B), -1)
    return lora_A, lora_B if groups == 1 and not parts else spread(lora_B, groups, parts or (True,) * groups)
