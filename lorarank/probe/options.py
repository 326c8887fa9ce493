"""What a probe can be asked (floor 2, no torch): every option with its one default, every constant with its source."""

from __future__ import annotations

import dataclasses
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from lorarank.choices import check_least
from lorarank.errors import OptionError
from lorarank.typed import settle

DEFAULT_TOKENS = 131_072
"""About 128 steps of 1,024 tokens. Probes of 61,000 tokens already order tasks rightly (first measured sweeps:
banking77 < e2e_nlg < gsm8k < pubmedqa); twice that leaves room for the learning-rate search."""

STEPS_AIM = 128
"""Optimiser steps a probe aims for: the batch grows with the budget only once there are this many."""

SMALLEST_BATCH, LARGEST_BATCH = 512, 16_384
"""Tokens per step. Below 512 agreement between halves falls fast (ρ .59 at 1,024 tokens, .37 at 512)."""

LONGEST_ROW = 1024
"""Tokens per row at most; TRL's default ``max_length``."""

HELDOUT_SHARE = 0.1
"""Share of the documents set aside when there is no ``--val``, unless they are more than needed."""

HELDOUT_TOKENS_SHARE, HELDOUT_TOKENS_LEAST, HELDOUT_HURRIED_SHARE = 0.125, 8_192, 0.25
"""Held-out tokens measured, as a share of the training tokens, and at least: a forward pass over them is a third
of the price of training on them. Where minutes are counted, the least is at most the last share of the training
tokens."""

CUTS_SHARE, PARTS_SHARE, PART_DOCUMENTS = 0.5, 0.25, 8
"""Shares of the held-out tokens asked for that the probe is measured on when it is cut, and when a module type is left
out or prompts are dealt out anew, and how many documents these are at least. Each is compared with the whole probe
document by document, which leaves little to chance: two of the 49 answers that there were moved from what all of
the tokens gave (data/evidence/README.md). The probe, its companion and the base are measured on all."""

COMPANION_RANK = 1
"""Rank of the companion, the same probe at a low rank. What it loses says what every rank loses: see
:func:`lorarank.estimate.readings.low_rank`."""

SEARCH_SHARE, SHORT_SEARCH_SHARE = 0.2, 1 / 3
"""Share of the token budget that the learning-rate search may spend, and that of a probe so short that its trials would
otherwise tell nothing: with an untested rate the answers lose 1.8 % of the gain, with a searched one 0.4 %
(data/evidence/short-probes.json)."""

MOMENT_SHARE = 0.02
"""Share of the training tokens on which the gradient moments are taken: each costs a backward pass beyond the
held-out forward pass that is made anyway."""

LARGEST_SEED = 2**32 - 1
"""What numpy's older generator takes, which transformers' Trainer seeds as well."""

SCHEDULE = "linear with 5 % warm-up"
WARMUP_SHARE = 0.05
OPTIMISER = "AdamW, betas 0.9 and 0.999, no weight decay, gradient norm clipped at 1"
GRADIENT_CLIP = 1.0


@dataclass(frozen=True)
class ProbeOptions:
    """Everything ``lorarank probe`` can be asked; the command line reads its defaults from here.

    Parameters
    ----------
    model : folder or hub id (``owner/name[@revision]``) of a causal language model.
    data : JSONL, JSON, CSV or Parquet file, or a hub dataset id; formats as TRL takes them.
    output : the run folder; must be new or empty unless ``resume``.
    val : held-out data, text where ``data`` is; without it a tenth of ``data`` is set aside by a hash of the document.
    rank : R, the probe's rank.
    alpha : ``lora_alpha``; fixed, so that a good learning rate does not depend on the rank.
    tokens : training tokens per replicate, padding not counted; ``None`` is 131,072 unless ``minutes`` is given.
    minutes : budget of wall time for everything instead of tokens.
    replicates : probes on disjoint parts of the data from the same A.
    companion : train once more at :data:`COMPANION_RANK`: what that loses is half of what the answer rests on.
    target : ``all-linear``, ``attention``, ``qv``, or module names separated by commas. What text does not go through
        is left out, and of the three sets what PEFT refuses or has no room for the rank, where that is little.
    lr : learning rate; ``None`` searches for one with at most a fifth of the budget. One that is given is tried beside
        a tenth and ten times of itself.
    batch_tokens : tokens per optimiser step; ``None`` chooses from the budget.
    row_length : tokens per row, the longest document kept whole; ``None`` chooses from the data.
    load_in_4bit : QLoRA: nf4, double quantisation, bf16 compute (needs bitsandbytes).
    gradient_checkpointing : recompute activations in the backward pass: slower, less memory.
    seed : of the order and the initialisation.
    device : ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps`` …
    report_to : loggers of transformers' Trainer, for example ``tensorboard``.
    checkpoint_seconds : least time between two checkpoints.
    resume : go on with the run in ``output``.

    Examples
    --------
    >>> ProbeOptions(model="base", data="train.jsonl", output=Path("run")).rank
    64
    """

    model: str
    data: str
    output: Path
    _: KW_ONLY
    val: str | None = None
    rank: int = 64
    alpha: int = 32
    tokens: int | None = None
    minutes: float | None = None
    replicates: int = 1
    companion: bool = True
    target: str = "all-linear"
    lr: float | None = None
    batch_tokens: int | None = None
    row_length: int | None = None
    load_in_4bit: bool = False
    gradient_checkpointing: bool = False
    seed: int = 0
    device: str = "auto"
    report_to: tuple[str, ...] = ()
    checkpoint_seconds: float = 60.0
    resume: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot work, before anything is loaded.

        Raises
        ------
        OptionError
            A value of another type or out of its range, or both ``tokens`` and ``minutes``.
        """
        settle(self)
        if self.tokens is not None and self.minutes is not None:
            raise OptionError("--tokens and --minutes", "both set the budget", do="give one of them")
        least = {"rank": 1, "alpha": 1, "tokens": 1, "replicates": 1, "batch_tokens": 8, "row_length": 8, "seed": 0}
        for name, smallest in least.items():
            check_least(f"--{name.replace('_', '-')}", getattr(self, name), smallest)
        if self.seed > LARGEST_SEED:
            raise OptionError(f"--seed {self.seed}", f"it must be at most {LARGEST_SEED}")
        for name in ("minutes", "lr"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise OptionError(f"--{name} {value}", "it must be a positive number")
        if self.lr is not None and self.lr > 1:
            raise OptionError(f"--lr {self.lr}", "no learning rate above 1 trains anything", do="try 1e-3 or auto")

    @property
    def identity(self) -> dict[str, object]:
        """What must be equal for a run to be resumed: every option that the numbers depend on."""
        plain = dataclasses.asdict(self)
        for name in ("output", "resume", "report_to", "checkpoint_seconds"):
            del plain[name]
        return plain

    @property
    def has_companion(self) -> bool:
        """Whether there is a companion: one is wanted, and the probe's rank is above its."""
        return self.companion and self.rank > COMPANION_RANK

    @property
    def adapters(self) -> int:
        """How many adapters are trained on the budget of one: the replicates and the companion."""
        return self.replicates + self.has_companion

    @property
    def token_budget(self) -> int:
        """Training tokens per replicate where no time budget says otherwise."""
        return self.tokens if self.tokens is not None else DEFAULT_TOKENS


def batch_tokens_for(budget: int) -> int:
    """Tokens per step for a budget of training tokens: about :data:`STEPS_AIM` steps, a power of two, within limits.

    >>> batch_tokens_for(61_440), batch_tokens_for(131_072), batch_tokens_for(10**7)
    (512, 1024, 16384)
    """
    aim = max(1, budget // STEPS_AIM)
    power: int = 1 << (aim.bit_length() - 1)
    if aim >= power * 1.5:  # the nearer power
        power *= 2
    return min(max(power, SMALLEST_BATCH), LARGEST_BATCH)


def heldout_tokens_for(budget: int, *, hurried: bool) -> int:
    """Held-out tokens to measure for a budget of training tokens; ``hurried`` where the time is what is given.

    >>> [heldout_tokens_for(n, hurried=False) for n in (4_000, 131_072)]
    [8192, 16384]
    >>> [heldout_tokens_for(n, hurried=True) for n in (4_000, 131_072)]
    [1000, 16384]
    """
    least = min(HELDOUT_TOKENS_LEAST, HELDOUT_HURRIED_SHARE * budget) if hurried else HELDOUT_TOKENS_LEAST
    return round(max(HELDOUT_TOKENS_SHARE * budget, least))


def tokens_within(work: float, per_token: float, per_heldout_token: float) -> int:
    """Training tokens that ``work`` pays for, with the held-out tokens that go with them.

    All three in one unit, seconds or operations: of training on a token, of all evaluations of a held-out token.

    >>> tokens_within(1000.0, 0.01, 0.0), tokens_within(100.0, 0.01, 0.01)
    (100000, 8000)
    """
    ample = work / (per_token + HELDOUT_TOKENS_SHARE * per_heldout_token)
    enough = (work - HELDOUT_TOKENS_LEAST * per_heldout_token) / per_token
    hurried = work / (per_token + HELDOUT_HURRIED_SHARE * per_heldout_token)
    if HELDOUT_TOKENS_SHARE * ample >= HELDOUT_TOKENS_LEAST:
        return int(ample)
    return int(enough if HELDOUT_HURRIED_SHARE * enough >= HELDOUT_TOKENS_LEAST else hurried)
