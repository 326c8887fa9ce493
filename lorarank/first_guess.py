"""A first guess without a probe: the reference table, and what a body of text could ask of a model (floor 2).

Nothing here is measured on the model: the loss that the capacity floor needs is an assumption, and the answer says so.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorarank import __version__, corpus
from lorarank.capacity import CapacityFloor, capacity_floor
from lorarank.errors import OptionError
from lorarank.heuristics import IN_DOUBT, TASKS, TaskRow, task_row
from lorarank.model_shapes import ModelShapes, read_shapes
from lorarank.numerics.ladder import LADDER, round_up
from lorarank.result import Result

SCHEMA = 1

ASSUMED_LOSSES = (1.5, 2.6)
"""Loss of a base model on text it has not been tuned to, nats per token: the range that probes of small models on
reasoning, classification, format and medical text began with. Without a probe it cannot be known."""

COUNTED = 2**22
"""Characters of the documents whose tokens are counted; of more the rest follows from these."""

CHARACTERS_PER_TOKEN = 4
"""Characters of English text per token, roughly, for want of the model's own tokenizer."""

LONGEST_DOCUMENT = 1_000_000
"""No document is cut before its tokens are counted."""


@dataclass(frozen=True)
class TypeShape:
    """Modules of one type: how many, and Σ(out + in) over them."""

    type: str
    modules: int
    parameters_per_rank: int


@dataclass(frozen=True)
class RankCost:
    """Trainable parameters at a rank, on all linear layers, and their share of the base's."""

    r: int
    parameters: int
    share: float


@dataclass(frozen=True)
class ModelFacts:
    """A base model: its linear layers by type, and what each rank costs on all of them."""

    source: str
    basis: str
    parameters: int
    parameters_per_rank: int
    types: tuple[TypeShape, ...]
    costs: tuple[RankCost, ...]


@dataclass(frozen=True)
class DataFloor:
    """The data, and the capacity floor at either end of the assumed losses. ``counted`` says how it was counted."""

    source: str
    documents: int
    target_tokens: int
    counted: str
    low: CapacityFloor
    high: CapacityFloor


@dataclass(frozen=True)
class FirstGuess(Result):
    """Rows of the reference table; with a model what ranks cost; with data too a guess, honestly labelled.

    ``r`` is the larger of the table's start and the capacity floor; ``None`` without model and data. ``schema`` and
    ``lorarank`` are the versions of this layout and of the package.
    """

    rows: tuple[TaskRow, ...]
    task: str | None
    model: ModelFacts | None
    data: DataFloor | None
    r: int | None
    sentences: tuple[str, ...]
    schema: int = SCHEMA
    lorarank: str = __version__


def first_guess(task: str | None = None, model: str | None = None, data: str | None = None) -> FirstGuess:
    """Look up the table, and for a model and data the least rank that could hold them.

    Parameters
    ----------
    task : a key of :data:`lorarank.heuristics.TASKS`; ``None`` gives all rows.
    model : folder or hub id; only shapes are read.
    data : as for a probe; needs ``model``.

    Raises
    ------
    LorarankError
        An unknown task, data without a model, a model or data that cannot be read.

    Examples
    --------
    >>> import lorarank
    >>> lorarank.heuristics("style").rows[0].high
    8
    """
    rows = tuple(TASKS.values()) if task is None else (task_row(task),)
    if model is None:
        if data is not None:
            raise OptionError("--data", "the capacity floor depends on the model too", do="add --model")
        return FirstGuess(rows, task, None, None, None, ())
    shapes = read_shapes(model)
    if shapes.parameters_per_rank == 0 or shapes.parameters == 0:
        raise OptionError("--model", "no linear layer with weights was found in it", do="give a language model")
    facts = _model_facts(model, shapes)
    if data is None:
        return FirstGuess(rows, task, facts, None, None, ())
    floor = _data_floor(data, shapes)
    start = IN_DOUBT if task is None else rows[0].start
    needed = round_up(floor.high.rank)
    r = max(start, needed)
    return FirstGuess(rows, task, facts, floor, r, _sentences(task, start, needed, floor))


def _sentences(task: str | None, start: int, needed: int, floor: DataFloor) -> tuple[str, ...]:
    low, high = floor.low, floor.high
    origin = "for an unknown task" if task is None else f"for {TASKS[task].label}"
    return (
        f"This is a first guess, not a measurement: the table's start {origin} is {start}, and the capacity floor "
        + (f"raises it to {needed}." if needed > start else f"of {needed} lies below or at it."),
        f"The base model's loss on this data is assumed to be {ASSUMED_LOSSES[0]:g} to {ASSUMED_LOSSES[1]:g} nats "
        f"({low.bits_per_token:.1f} to {high.bits_per_token:.1f} bits) per token; then {floor.target_tokens:,} target "
        f"tokens hold at most {high.bits / 1e6:,.3g} Mbit, and learning them all by heart takes r = {low.rank:.2g} to "
        f"{high.rank:.2g} at 2 bits per parameter.",
        "A probe measures the loss, and what the data needs short of learning it by heart: lorarank probe.",
    )


def _model_facts(source: str, shapes: ModelShapes) -> ModelFacts:
    per_rank = shapes.parameters_per_rank
    return ModelFacts(
        source,
        shapes.basis,
        shapes.parameters,
        per_rank,
        tuple(TypeShape(kind, modules, size) for kind, (modules, size) in shapes.types.items()),
        tuple(RankCost(r, r * per_rank, r * per_rank / shapes.parameters) for r in LADDER),
    )


def _data_floor(source: str, shapes: ModelShapes) -> DataFloor:
    documents = corpus.read(source)
    target_tokens, counted = _count_targets(documents.documents, shapes.folder)
    low, high = (capacity_floor(target_tokens, loss, shapes.parameters_per_rank) for loss in ASSUMED_LOSSES)
    return DataFloor(source, len(documents.documents), target_tokens, counted, low, high)


def _count_targets(documents: Sequence[corpus.Document], folder: Path) -> tuple[int, str]:
    """Distinct target tokens, and how they were counted."""
    tokenizer = _tokenizer(folder)
    if tokenizer is not None:
        some, share = corpus.sample(documents, COUNTED)
        tokens = corpus.tokenize(some, tokenizer, max_length=LONGEST_DOCUMENT)
        counted = "counted with the model's tokenizer"
        if share < 1:
            counted += f" in {len(some):,} documents, chosen by their hash"
        return round(corpus.unique_tokens(tokens.documents)[1] / share), counted
    characters = sum(len(document.answer) for document in {d.key: d for d in documents}.values())
    return (
        max(1, characters // CHARACTERS_PER_TOKEN),
        f"estimated at {CHARACTERS_PER_TOKEN} characters per token, without the model's tokenizer",
    )


def _tokenizer(folder: Path) -> Any | None:
    """The model's tokenizer where transformers is installed and the folder has one; its code is never run."""
    if importlib.util.find_spec("transformers") is None:
        return None
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception:  # whatever is wrong with the tokenizer, an estimate from characters is still to be had
        return None
