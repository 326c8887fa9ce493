"""vLLM: ``vllm serve`` with ``--enable-lora``, ``--max-lora-rank`` and ``--lora-modules`` (floor 3).

The options, the base in 4 bits, MaxLoRARanks, and what it reads of an adapter:

- https://github.com/vllm-project/vllm/blob/05863f1/docs/features/lora.md
- https://github.com/vllm-project/vllm/blob/03c1ab5/docs/features/quantization/bnb.md
- https://github.com/vllm-project/vllm/blob/a78dc92/vllm/config/lora.py
- https://github.com/vllm-project/vllm/blob/0214369/vllm/lora/peft_helper.py
"""

from __future__ import annotations

from lorarank.audit.serving import REFUSED, VLLM_RANKS, refused
from lorarank.errors import OptionError
from lorarank.export.settings import DEFAULTS, Settings
from lorarank.export.translate import PATTERNS, base, translate

READ = ("r", "lora_alpha", "use_rslora", *(name for name in DEFAULTS if name not in (*REFUSED, *PATTERNS)))
"""Fields that it takes from the adapter's own configuration, or that matter in training alone."""

TRAINED = "PATH_OF_THE_TRAINED_ADAPTER"


def write(settings: Settings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words of the command.

    Raises
    ------
    OptionError
        A rank above all that it allows, or a field that it refuses.
    """
    notes: list[str] = []
    fields = refused(settings.lora)
    if fields:
        raise OptionError(
            "--to vllm",
            f"it refuses an adapter with {' or '.join(fields)}",
            do="merge it into its base (merge_and_unload in PEFT) and serve that, or take --to peft",
        )
    largest = settings.largest_r
    allowed = next((rank for rank in VLLM_RANKS if rank >= largest), None)
    if allowed is None:
        raise OptionError("--to vllm", f"r = {largest}, and it serves up to {VLLM_RANKS[-1]}", do="cut it with resize")
    if allowed != largest:
        notes.append(f"--max-lora-rank {allowed} is the smallest value that vLLM allows for r = {largest}.")
    if settings.lora.get("rank_pattern") or settings.lora.get("alpha_pattern"):
        notes.append(
            f"vLLM ignores rank_pattern and alpha_pattern: it would scale every module by {settings.scaling:g}. "
            "lorarank convert --bake-alpha puts each module's scaling into its factors."
        )
    _, lost = translate(settings, {}, "vLLM", (*READ, "rank_pattern", "alpha_pattern"))
    path = settings.source if settings.kind == "adapter" else TRAINED
    if settings.kind == "run":
        notes.append(f"Replace {TRAINED} by the folder that training at r = {settings.r} leaves.")
    words = ["vllm", "serve", base(settings, notes), "--enable-lora", "--max-lora-rank", str(allowed)]
    words += ["--quantization", "bitsandbytes"] if settings.qlora else []
    return (*words, "--lora-modules", f"lora={path}"), (*lost, *notes)
