"""What a probe is about to do, said before it does it (floor 2, torch)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from lorarank.corpus import total_tokens
from lorarank.module_names import module_type
from lorarank.numerics.ladder import LADDER
from lorarank.probe import model as models
from lorarank.probe.excerpt import tokens_to_read
from lorarank.probe.grid import UNTESTED_RATE
from lorarank.probe.limits import check_limits
from lorarank.probe.loggers import check_loggers
from lorarank.probe.material import Material, gather
from lorarank.probe.modules import resolve_targets, target_names
from lorarank.probe.options import (
    COMPANION_RANK,
    CUTS_SHARE,
    PARTS_SHARE,
    SEARCH_SHARE,
    ProbeOptions,
    tokens_within,
)
from lorarank.probe.placement import SHARE_OF_16_BITS
from lorarank.probe.rate import AROUND, CHECK_STEPS, TRIALS, trial_steps
from lorarank.probe.stages import agreed, check_output, check_same, planned_tokens
from lorarank.probe.training import schedule_for

EFFICIENCY = 0.5
"""Share of the device's matrix-multiplication speed that training reaches; compare data/evidence/first-runs."""


@dataclass(frozen=True)
class Plan:
    """The plan of a probe. Counts are exact; ``memory_bytes`` and ``seconds`` are estimates.

    ``tokens`` and ``steps`` are per replicate; ``search_steps`` is the most the learning-rate search may take;
    ``evaluations`` counts passes over all held-out tokens, those over some of them as a part.
    """

    model: str
    model_type: str
    base_parameters: int
    trainable_parameters: int
    modules: int
    target_modules: tuple[str, ...]
    rank: int
    alpha: int
    replicates: int
    companion: int | None
    train_documents: int
    unique_tokens: int
    heldout_documents: int
    heldout_tokens: int
    tokens: int
    steps: int
    rows_per_step: int
    row_length: int
    epochs: float
    search_steps: int
    evaluations: float
    device: str
    precision: str
    memory_bytes: int
    seconds: float
    notes: tuple[str, ...]


RUNTIME_BYTES = 450 * 2**20
"""Python with torch, transformers and PEFT loaded, before any model."""

STARTUP_SECONDS, STEP_SECONDS = 8.0, 0.05
"""Loading libraries and weights, and what a step costs beyond its products, on two CPU cores."""


def truncation_ranks(rank: int) -> tuple[int, ...]:
    """Ranks the probe is cut to: the ladder below R.

    >>> truncation_ranks(16)
    (1, 2, 4, 8)
    """
    return tuple(k for k in LADDER if k < rank)


def make_plan(options: ProbeOptions) -> Plan:
    """Read model configuration and data, load no weights, and say what the probe will do.

    Raises
    ------
    LorarankError
        Whatever would stop the probe before training does so here.
    """
    resumed = check_output(options)
    material, plan = prepared(options, planned_tokens(options) if resumed else None)
    if resumed:
        check_same(options, material)
    return plan


def prepared(options: ProbeOptions, budget: int | None = None) -> tuple[Material, Plan]:
    """The material, sized for the budget, and the plan.

    Where minutes are given, the budget in tokens follows from the speed of this machine; ``budget`` is the one that
    a run to be resumed was begun with.
    """
    check_loggers(options.report_to)
    material = gather(options)
    if options.minutes is not None:
        budget = budget or agreed(plan_for(options, material).tokens)
        wanted, read = (tokens_to_read(options, tokens) for tokens in (budget, material.budget))
        lacks = material.excerpt.share < 1 and wanted > read
        material = gather(options, budget) if lacks else material.sized(budget, options)
    return material, plan_for(options, material)


def plan_for(options: ProbeOptions, material: Material) -> Plan:
    """The plan for material already gathered."""
    device = models.choose_device(options.device)
    dtype = models.load_dtype(options, device)
    skeleton = models.skeleton(material.config, material.folder)
    check_limits(material, skeleton, options)
    aim = resolve_targets(skeleton, options)
    chosen = aim.shapes
    base = sum(p.numel() for p in skeleton.parameters())
    trainable = options.rank * sum(out + inner for out, inner in chosen.values())
    rows = material.rows(0, options.seed, packed=True)
    heldout = material.heldout(packed=True)
    speed = EFFICIENCY * _matmul_speed(device, dtype, int(material.config.get_text_config().hidden_size))
    per_token = 4 * base + 6 * trainable  # forward and backward through frozen weights, and the factors' gradients
    evaluations = _evaluations(options, material, chosen, heldout.tokens)
    evaluation = evaluations * 2 * base
    tokens = options.token_budget
    if options.minutes is not None:
        seconds = options.minutes * 60 - STARTUP_SECONDS
        fitting = tokens_within(seconds * speed, per_token * (options.adapters + SEARCH_SHARE), evaluation)
        tokens = max(material.row_length, fitting)
    schedule = schedule_for(rows, rows_per_step=material.rows_per_step, tokens=tokens, seed=options.seed)
    trained = schedule.tokens(rows)
    trial = trial_steps(schedule.steps)
    search_steps = (TRIALS if options.lr is None else len(AROUND)) * (trial + CHECK_STEPS // 3) if trial else 0
    train_passes = options.adapters + search_steps / schedule.steps
    work = train_passes * trained * per_token + evaluation * heldout.tokens
    return Plan(
        model=options.model,
        model_type=str(material.config.model_type),
        base_parameters=base,
        trainable_parameters=trainable,
        modules=len(chosen),
        target_modules=target_names(skeleton, chosen),
        rank=options.rank,
        alpha=options.alpha,
        replicates=options.replicates,
        companion=COMPANION_RANK if options.has_companion else None,
        train_documents=material.documents,
        unique_tokens=material.unique_tokens,
        heldout_documents=len(heldout.keys),
        heldout_tokens=heldout.tokens,
        tokens=trained,
        steps=schedule.steps,
        rows_per_step=material.rows_per_step,
        row_length=material.row_length,
        epochs=material.epochs(trained, rows),
        search_steps=search_steps,
        evaluations=evaluations,
        device=str(device),
        precision="nf4 base, bf16 compute" if options.load_in_4bit else str(dtype).removeprefix("torch."),
        memory_bytes=_memory(options, material, base, trainable, dtype),
        seconds=STARTUP_SECONDS + STEP_SECONDS * (options.adapters * schedule.steps + search_steps) + work / speed,
        notes=(*aim.notes, *_notes(material, searches=options.lr is not None or trial > 0)),
    )


def _evaluations(options: ProbeOptions, material: Material, chosen: Iterable[str], heldout_tokens: int) -> float:
    """Passes over the held-out tokens: the base and every adapter, and in parts each cut, each module type left out
    and, where there are prompts, those of other rows."""
    parts = (material.kind != "text") + len(set(map(module_type, chosen)))
    half, quarter = (total_tokens(material.heldout_part(share)) / heldout_tokens for share in (CUTS_SHARE, PARTS_SHARE))
    return 1 + options.adapters + half * len(truncation_ranks(options.rank)) + quarter * parts


def _notes(material: Material, *, searches: bool) -> tuple[str, ...]:
    """What to know of the data and the learning rate; ``searches`` is whether the rate is tried, or was given."""
    notes = [*material.notes]
    if material.truncated:
        notes.append(f"{material.truncated} documents are longer than {material.row_length} tokens and are cut.")
    if not searches:
        rate = f"{UNTESTED_RATE:g}, untested"
        notes.append(f"Too few steps to search for a learning rate: {rate}; see --lr and --tokens.")
    notes += [f"Skipped {sentence}." for sentence in material.skipped[:3]]
    if len(material.skipped) > 3:
        notes.append(f"Skipped {len(material.skipped) - 3} more rows.")
    return tuple(notes)


def _memory(options: ProbeOptions, material: Material, base: int, trainable: int, dtype: torch.dtype) -> int:
    """About the peak: weights, factors with gradients and Adam's two moments, activations and logits of a batch."""
    config = material.config.get_text_config()
    weights = base * (2 * SHARE_OF_16_BITS if options.load_in_4bit else dtype.itemsize)
    tokens = material.step_tokens
    # about 34 bytes per hidden unit and layer in 16 bit (Korthikanti et al. 2022, section 4.1), without the scores
    kept = 2 if options.gradient_checkpointing else 34
    activations = tokens * int(config.hidden_size) * int(config.num_hidden_layers) * kept * dtype.itemsize / 2
    logits = tokens * int(config.vocab_size) * (dtype.itemsize + 8)
    return int(RUNTIME_BYTES + weights + trainable * 16 + activations + logits)


def _matmul_speed(device: torch.device, dtype: torch.dtype, width: int) -> float:
    """Measured FLOP/s of a matrix product of the model's width, in about a fifth of a second."""
    left = torch.randn(512, width, device=device, dtype=dtype)
    right = torch.randn(width, 4 * width, device=device, dtype=dtype)
    rounds, took = 1, 0.0  # the loop goes on until a round is long enough to mean something
    while took < 0.2:
        rounds *= 2
        start = time.perf_counter()
        for _ in range(rounds):
            product = left @ right
        float(product[0, 0])  # waits for a GPU
        took = time.perf_counter() - start
    return rounds * 2 * 512 * width * 4 * width / took
