"""What a full fine-tune changed, matrix by matrix (floor 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lorarank import __version__
from lorarank.audit.figures import norm_of
from lorarank.audit.options import AuditOptions
from lorarank.errors import NumericsError
from lorarank.fine_tune.weights import Pair, open_models
from lorarank.numerics.leading import energy_rank, leading_svd
from lorarank.result import Result

DIRECTIONS = 64
"""Leading directions that are computed of each matrix: more rank than that is seldom worth extracting."""

SCHEMA = 1


@dataclass(frozen=True)
class MatrixUpdate:
    """W_tuned − W_base of one matrix.

    Attributes
    ----------
    name, type, layer : of the module.
    out_features, in_features : shape of ΔW.
    linear : whether LoRA can be put on it.
    norm : ‖ΔW‖, exact; ``relative`` is ‖ΔW‖/‖W_base‖.
    sigma_1, stable_rank : largest singular value, and ‖ΔW‖²/σ₁².
    energy_ranks : fewest directions that hold each share; ``None`` where it takes more than were computed.
    captured : share of the energy in the computed directions.
    error : how far each computed σ may be from a true one.
    singular_values : the computed ones, descending.
    problem : why there are no numbers; empty otherwise.
    """

    name: str
    type: str
    layer: int | None
    out_features: int
    in_features: int
    linear: bool
    norm: float = 0.0
    relative: float = 0.0
    sigma_1: float = 0.0
    stable_rank: float = 0.0
    energy_ranks: tuple[int | None, ...] = ()
    captured: float = 1.0
    error: float = 0.0
    singular_values: tuple[float, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class FineTune(Result):
    """A fine-tune against its base.

    Attributes
    ----------
    base, tuned : as they were given.
    energy : the shares of ``energy_ranks``.
    updates : matrices that changed, in the order of the base's files.
    unchanged : matrices that did not.
    vectors, vector_norm : norms and biases that changed, and ‖·‖ of their change together; no LoRA holds these.
    norm : ‖ΔW‖ of all matrices together.
    skipped : sentences about tensors that could not be compared.
    """

    base: str
    tuned: str
    energy: tuple[float, ...]
    updates: tuple[MatrixUpdate, ...]
    unchanged: int
    vectors: int
    vector_norm: float
    norm: float
    skipped: tuple[str, ...]
    schema: int = SCHEMA
    lorarank: str = __version__


def compare_models(
    base: str | Path,
    tuned: str | Path,
    options: AuditOptions | None = None,
    *,
    directions: int = DIRECTIONS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> FineTune:
    """Measure every matrix of a fine-tune against its base, one in memory at a time.

    Parameters
    ----------
    base, tuned : folders, safetensors files, or hub ids.
    options : its ``energy`` is read.
    directions : leading ones to compute of each matrix.
    progress : called with matrices done and in all.

    Raises
    ------
    SourceError, AdapterError, ModelError
        The models cannot be read, or have nothing in common.
    """
    options = options or AuditOptions()
    models = open_models(base, tuned)
    updates, unchanged = [], 0
    for index, pair in enumerate(models.matrices, start=1):
        found = _measured(pair, options.energy, directions)
        if found.norm == 0 and not found.problem:
            unchanged += 1
        else:
            updates.append(found)
        progress(index, len(models.matrices))
    vectors = [norm for _, norm in models.changed_vectors()]
    return FineTune(
        base=str(base),
        tuned=str(tuned),
        energy=options.energy,
        updates=tuple(updates),
        unchanged=unchanged,
        vectors=len(vectors),
        vector_norm=norm_of(np.array(vectors)),
        norm=norm_of(np.array([update.norm for update in updates])),
        skipped=models.skipped,
    )


def _measured(pair: Pair, shares: Sequence[float], directions: int) -> MatrixUpdate:
    what = (pair.module, pair.type, pair.layer, pair.out_features, pair.in_features, pair.linear)
    change, base_norm = pair.update()
    if not change.any():
        return MatrixUpdate(*what)
    try:
        found = leading_svd(change, directions)
    except NumericsError as error:
        return MatrixUpdate(*what, problem=error.what)
    return MatrixUpdate(
        *what,
        norm=found.norm,
        relative=found.norm / base_norm if base_norm > 0 else float("inf"),
        sigma_1=float(found.s[0]),
        stable_rank=(found.norm / float(found.s[0])) ** 2,
        energy_ranks=tuple(energy_rank(found.s, found.norm, share) for share in shares),
        captured=min(1.0, float(np.square(found.s / found.norm).sum())),
        error=found.error,
        singular_values=tuple(found.s.tolist()),
    )
