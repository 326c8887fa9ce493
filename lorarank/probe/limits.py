"""Rows and words that a model has no place for, found before any weight is loaded (floor 2, torch)."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from lorarank.errors import ModelError, OptionError
from lorarank.probe.material import Material
from lorarank.probe.options import ProbeOptions

POSITION_TABLE = re.compile(r"(^|\.)(wpe|pos_encoding|\w*position(s|_embeddings?))$")
"""Paths of what holds a vector for every position, learned (GPT-2, OPT) or not (GPT-J, CTRL): there is none for those
beyond. Rotary positions and ALiBi are computed for any."""

COUNTED = {"mpt": "max_seq_len"}
"""``model_type`` → where its configuration says how many positions there are, of models that keep no such table."""


def check_limits(material: Material, model: Any, options: ProbeOptions) -> None:
    """Refuse rows beyond the model's positions, and tokens beyond its embedding: torch would say "index out of range".

    ``model`` may be on the meta device.

    Raises
    ------
    OptionError
        The rows are longer than there are positions.
    ModelError
        The tokenizer gives a token that the embedding has no vector for.
    """
    most = positions(model)
    if most is not None and material.row_length > most:
        raise OptionError(
            f"--row-length {material.row_length}",
            f"the model has {most} positions, and none for the tokens after those",
            do=f"give --row-length {most} or less",
        )
    pieces = [piece for part in material.parts for piece in part]
    largest = max(int(piece.input_ids.max(initial=0)) for piece in (*pieces, *material.heldout_documents))
    words = int(model.get_input_embeddings().weight.shape[0])
    if largest >= words:
        raise ModelError(
            options.model,
            f"its tokenizer gives token {largest}, and its embedding has {words} vectors",
            why="the tokenizer is another model's, or tokens were added to it alone",
            do="put the model's own tokenizer beside it, or resize its embedding",
        )


def positions(model: Any) -> int | None:
    """How many tokens a row may have; ``None`` where nothing sets an end."""
    counted = COUNTED.get(model.config.model_type)
    found = [] if counted is None else [int(getattr(model.config, counted))]
    # a vision tower has positions of its own: patches
    inner = getattr(model, "get_decoder", lambda: model)() or model
    for name, module in inner.named_modules():
        if isinstance(module, nn.Embedding) and POSITION_TABLE.search(name):
            found.append(module.num_embeddings - getattr(module, "offset", 0))  # OPT keeps two rows for itself
    found += [len(table) for name, table in inner.named_buffers() if POSITION_TABLE.search(name)]
    return min(found, default=None)
