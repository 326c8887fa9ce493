"""Finding codes (floor 3): stable, for CI and SARIF. A code never changes its meaning; one that goes is not reused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ERROR, WARNING, NOTE = "error", "warning", "note"
"""Levels, in SARIF's words."""


@dataclass(frozen=True)
class Code:
    """A kind of finding: its code, the name that ``--fail-if`` counts it by, its level, meaning, and what to do."""

    code: str
    name: str
    level: str
    meaning: str
    advice: str


UNREADABLE = Code(
    "LR000", "unreadable", ERROR, "The source cannot be read as a LoRA.", "See the message; nothing was measured."
)
NAN = Code(
    "LR001",
    "nan",
    ERROR,
    "A module's numbers cannot be measured: NaN, infinity, or beyond float64.",
    "Take an earlier checkpoint, or train again with a lower learning rate.",
)
DEAD = Code(
    "LR002",
    "dead",
    WARNING,
    "A module's update is zero, so its parameters do nothing.",
    "Leave the module out of target_modules, or find out why it received no gradient.",
)
SATURATED = Code(
    "LR003",
    "saturated",
    WARNING,
    "A module's 90 % energy rank is at least three quarters of its r, so r may have held it back.",
    "Probe at a higher rank before concluding that r is enough.",
)
SPIKE = Code(
    "LR004",
    "spike",
    NOTE,
    "One direction holds at least 90 % of a module's energy (r of 4 or more).",
    "Look whether it is a constant shift of the outputs; rank 1 would keep it.",
)
NOISE = Code(
    "LR005",
    "noise",
    NOTE,
    "A module's spectrum is as flat as that of a product of two random matrices.",
    "Compare with a second seed before trusting its ranks.",
)
MIXED_SCALING = Code(
    "LR010",
    "mixed_scaling",
    WARNING,
    "Modules have different scalings, so one learning rate did not mean the same for all.",
    "With rank_pattern give an alpha_pattern that keeps alpha/r, unless the difference is meant.",
)
ODD_SCALING = Code(
    "LR011",
    "odd_scaling",
    NOTE,
    "A scaling outside 1/16 to 16, far from the conventions alpha = r, 2r or 16.",
    "Check lora_alpha, and that the tool that wrote the file stores it as you think.",
)
SERVED_PATTERNS = Code(
    "LR020",
    "served_patterns",
    WARNING,
    "A serving engine that reads r and lora_alpha alone, as vLLM does, would apply another update.",
    "Serve it with all modules at one rank, alpha folded into the factors.",
)
SERVED_RANK = Code(
    "LR021",
    "served_rank",
    WARNING,
    "A module's r is above the largest that the serving engine takes.",
    "Raise the engine's limit (vLLM: --max-lora-rank), or cut the adapter to it.",
)
SERVED_REFUSED = Code(
    "LR022",
    "served_refused",
    WARNING,
    "It holds what vLLM refuses beside LoRA factors: DoRA magnitudes, biases or modules_to_save.",
    "Merge it into the base model before serving.",
)
REDUCIBLE = Code(
    "LR030",
    "reducible_half",
    NOTE,
    "Cut per module to its energy rank at the first --energy, it needs half of its parameters or fewer.",
    "Cut it, and measure the loss on held-out text: the energy does not state it.",
)
IDLE = Code(
    "LR031",
    "idle_directions",
    NOTE,
    "Directions of a module are zero to rounding, so their parameters do nothing.",
    "Cut to the numerical rank: the update does not change.",
)

ROUNDING = Code(
    "LR040",
    "rounding",
    WARNING,
    "Rounding to the stored dtype makes half or more of a matrix's change, and its ranks say little.",
    "Save the fine-tune in float32, or compare with a checkpoint from later on.",
)
BEYOND = Code(
    "LR041",
    "beyond",
    NOTE,
    "The first --energy of a matrix's change takes more directions than are computed.",
    "An extracted LoRA holds less of it; measure what that costs on held-out text.",
)
OUTSIDE = Code(
    "LR042",
    "outside",
    NOTE,
    "More than a tenth of a fine-tune's change is where LoRA on linear layers does not reach.",
    "Expect an extracted LoRA to differ, or carry embeddings and heads with modules_to_save.",
)
UNCOMPARED = Code(
    "LR043",
    "uncompared",
    WARNING,
    "Tensors of a fine-tune and its base cannot be compared.",
    "Name the base that it was trained from, with its vocabulary as it was.",
)

CODES: Mapping[str, Code] = {
    code.code: code
    for code in (
        UNREADABLE,
        NAN,
        DEAD,
        SATURATED,
        SPIKE,
        NOISE,
        MIXED_SCALING,
        ODD_SCALING,
        SERVED_PATTERNS,
        SERVED_RANK,
        SERVED_REFUSED,
        REDUCIBLE,
        IDLE,
        ROUNDING,
        BEYOND,
        OUTSIDE,
        UNCOMPARED,
    )
}
"""Every code, in order."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found: its code, its level, the sentence, and the module it is about (``None``: the whole)."""

    code: str
    level: str
    message: str
    module: str | None = None


def tallied(by_code: Mapping[str, float]) -> dict[str, float]:
    """Number of findings by level, by code, and by the name of the code, from that of each code; one that is left out
    was not found.

    >>> counts = tallied({"LR002": 3, "LR004": 1})
    >>> counts["findings"], counts["warnings"], counts["notes"], counts["LR002"], counts["dead"], counts["nan"]
    (4.0, 3.0, 1.0, 3.0, 3.0, 0.0)
    """
    counts = {code: float(by_code.get(code, 0)) for code in CODES}
    by_level = {
        f"{level}s": sum((counts[code] for code, kind in CODES.items() if kind.level == level), 0.0)
        for level in (ERROR, WARNING, NOTE)
    }
    by_name = {kind.name: counts[code] for code, kind in CODES.items()}
    return {"findings": sum(counts.values()), **by_level, **counts, **by_name}


def found(code: Code, message: str, module: str | None = None) -> Finding:
    """A finding of a kind.

    >>> found(DEAD, "lora_B is zero.", "q")
    Finding(code='LR002', level='warning', message='lora_B is zero.', module='q')
    """
    return Finding(code.code, code.level, message, module)
