"""The reference table: ranks by kind of task, parameter counts, alpha conventions, target sets (floor 2).

These are rules of thumb people use before anything is measured. They stand beside a measured estimate to be compared
with it; they never change it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from lorarank.errors import OptionError
from lorarank.numerics.ladder import octaves

SOURCE = "the project's reference table"

IN_DOUBT = 16
"""The table's start when nothing is known, and the fallback of a refused estimate."""

AGREEMENT_OCTAVES = 1.0
"""A measured rank agrees with a row up to one doubling outside its range: neighbours on the ladder train alike."""


@dataclass(frozen=True)
class TaskRow:
    """One row of the table: a kind of task, the range of ranks, and why."""

    task: str
    label: str
    low: int
    high: int
    why: str

    @property
    def start(self) -> int:
        """Where to start within the row: the in-doubt rank, moved into the range.

        >>> [row.start for row in TASKS.values()]
        [8, 16, 16, 32, 64]
        """
        return min(max(IN_DOUBT, self.low), self.high)


TASKS: Mapping[str, TaskRow] = MappingProxyType(
    {
        row.task: row
        for row in (
            TaskRow("style", "simple style or format", 4, 8, "minimal update"),
            TaskRow("domain", "domain adaptation (medical, legal)", 8, 16, "moderate concept shift"),
            TaskRow("classification", "new task, classification", 16, 32, "more complex change"),
            TaskRow("reasoning", "complex reasoning, instruction following", 32, 64, "high expressiveness"),
            TaskRow("large", "very large dataset and complex task", 64, 128, "absorbs more signal"),
        )
    }
)
"""Ranks by kind of task, in the order of the table."""


@dataclass(frozen=True)
class AlphaConvention:
    """A way to choose ``lora_alpha``: its name and what it makes of the scaling."""

    name: str
    scaling: str


ALPHA_CONVENTIONS = (
    AlphaConvention("2r", "scaling 2"),
    AlphaConvention("r", "scaling 1"),
    AlphaConvention("16", "fixed: scaling 16/r"),
)
"""The first two are recommended; being consistent matters more than which."""

LLAMA_TARGETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "q, v": ("q_proj", "v_proj"),
        "q, k, v, o": ("q_proj", "k_proj", "v_proj", "o_proj"),
        "all linear layers": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    }
)
"""Usual sets of target modules, in the names of Llama-like models. The last has about three times the parameters of
the second where keys and values are grouped (3.1 for Llama-3.1-8B, 2.4 for Llama-2-7B, which does not group them), and
helps new factual knowledge."""

LORA_DROPOUT = 0.05
"""``lora_dropout`` of the reference configuration; ``bias`` is "none"."""

QLORA_BASE: Mapping[str, Any] = MappingProxyType(
    {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": "bfloat16",
        "device_map": "auto",
    }
)
"""How a QLoRA base is loaded: ``BitsAndBytesConfig``, and the ``device_map`` beside it."""

STARTING_ADVICE = (
    "Start at 8 or 16; in doubt 16, then reduce it if the model overfits and raise it if it underfits.",
    "With 1,000 to 100,000 examples 16 rarely needs to change.",
    "For lora_alpha take 2r or r; being consistent matters more than which.",
)

TOO_LOW = ("validation loss plateaus early", "domain patterns are missed", "metrics stay at a baseline")
TOO_HIGH = ("training loss falls while validation loss rises", "it memorises", "a lower rank does better")
"""What a rank that is too low or too high looks like."""


@dataclass(frozen=True)
class Comparison:
    """A rank beside the table: the row where a task was named, whether they agree, and a sentence.

    ``agrees`` is ``None`` where there is nothing to compare.
    """

    row: TaskRow | None
    agrees: bool | None
    sentence: str


def task_row(task: str) -> TaskRow:
    """The row of a task.

    Raises
    ------
    OptionError
        No such row.
    """
    if task not in TASKS:
        raise OptionError(f"--task {task}", "the table has no such row", do=f"choose among: {', '.join(TASKS)}")
    return TASKS[task]


def compare(r: int | None, task: str | None) -> Comparison:
    """Set a measured rank beside the row of a task; ``None`` for either where there is none.

    >>> compare(8, "style").agrees, compare(4, "reasoning").agrees, compare(4, None).row
    (True, False, None)
    """
    if task is None:
        return Comparison(
            None, None, f"The table's start for an unknown task is {IN_DOUBT}; name yours with --task to see its row."
        )
    row = task_row(task)
    says = f"The table says {row.low}–{row.high} for {row.label} ({row.why})"
    if r is None:
        return Comparison(row, None, f"{says}.")
    nearest = min(max(r, row.low), row.high)
    if r == nearest:
        return Comparison(row, True, f"{says}: {r} is within.")
    side = "below" if r < row.low else "above"
    agrees = octaves(r, nearest) <= AGREEMENT_OCTAVES
    distance = "one doubling at most" if agrees else "more than one doubling"
    return Comparison(row, agrees, f"{says}: {r} is {side} it, by {distance}.")
