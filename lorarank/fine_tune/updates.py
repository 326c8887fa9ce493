"""What a full fine-tune changed, matrix by matrix (floor 3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lorarank import __version__
from lorarank.audit.adapter import counted
from lorarank.audit.codes import Finding
from lorarank.audit.figures import norm_of
from lorarank.audit.options import AuditOptions
from lorarank.audit.rows import FINE_TUNE
from lorarank.audit.several import Unreadable, unreadable
from lorarank.errors import LorarankError
from lorarank.fine_tune.findings import of_fine_tune
from lorarank.fine_tune.matrix import MatrixUpdate, measured
from lorarank.fine_tune.weights import open_models
from lorarank.result import Result

DIRECTIONS = 72
"""Leading directions that are computed of each matrix: more than 64 are seldom worth extracting, and the others show
where the update of a merged LoRA of r = 64 ends and rounding begins."""

SCHEMA = 1


@dataclass(frozen=True)
class FineTune(Result):
    """A fine-tune against its base.

    Attributes
    ----------
    source, base : the fine-tune and its base, as they were given.
    energy : the shares of ``energy_ranks``.
    updates : matrices that changed, in the order of the base's files.
    unchanged : matrices that did not.
    vectors, vector_norm : norms and biases that changed, and ‖·‖ of their change together; no LoRA holds these.
    norm : ‖ΔW‖ of all matrices together.
    keep : for each share the smallest k that, the same in every matrix, holds it of all their change; ``None`` where k
        is beyond what was computed.
    skipped : sentences about tensors that could not be compared.
    findings : about the whole, then about its matrices.
    notes : what was assumed about names.
    schema, lorarank : version of this layout, and of the package.
    """

    source: str
    base: str
    energy: tuple[float, ...]
    updates: tuple[MatrixUpdate, ...]
    unchanged: int
    vectors: int
    vector_norm: float
    norm: float
    keep: tuple[int | None, ...]
    skipped: tuple[str, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    schema: int = SCHEMA
    lorarank: str = __version__

    @property
    def quantities(self) -> Mapping[str, float]:
        """What ``--fail-if`` compares: findings, matrices that changed as ``modules``, ``keep`` and ``norm``.

        A keep rank that is beyond the computed directions counts as one more than those.
        """
        return {
            **counted(self.findings),
            "modules": len(self.updates),
            "keep": self.kept_at_least(0),
            "norm": self.norm,
        }

    def kept_at_least(self, index: int) -> int:
        """The keep rank of a share, or one more than the computed directions where it is beyond them."""
        k = self.keep[index]
        return 1 + max((len(u.singular_values) for u in self.updates), default=0) if k is None else k

    @property
    def cells(self) -> Mapping[str, str | int | float | None]:
        """Its part of a row in a table of audits; what only adapters have is left out."""
        changed = [update for update in self.updates if not update.problem]
        return {
            "format": FINE_TUNE,
            "base_model": self.base,
            "dtype": ", ".join(dict.fromkeys(update.dtype for update in self.updates)),
            "modules": len(self.updates),
            "norm": self.norm,
            "sigma_1": max((update.sigma_1 for update in changed), default=0.0),
            "keep": self.kept_at_least(0),
        }


def compare_models(
    base: str | Path,
    tuned: str | Path,
    options: AuditOptions | None = None,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> FineTune:
    """Measure every matrix of a fine-tune against its base, one in memory at a time.

    Parameters
    ----------
    base, tuned : folders, safetensors files, or hub ids.
    options : its ``energy`` is read.
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
        for found in measured(pair, options.energy, DIRECTIONS):
            if found.norm == 0 and not found.problem:
                unchanged += 1
            else:
                updates.append(found)
        progress(index, len(models.matrices))
    vectors = dict(models.changed_vectors())
    vector_norm = norm_of(np.array([norm for norm in vectors.values() if math.isfinite(norm)]))
    unmeasured = [key for key, norm in vectors.items() if not math.isfinite(norm)]
    return FineTune(
        source=str(tuned),
        base=str(base),
        energy=options.energy,
        updates=tuple(updates),
        unchanged=unchanged,
        vectors=len(vectors),
        vector_norm=vector_norm,
        norm=norm_of(np.array([update.norm for update in updates])),
        keep=tuple(keep_rank(updates, share) for share in options.energy),
        skipped=models.skipped,
        notes=models.notes,
        findings=tuple(of_fine_tune(updates, vector_norm, options.energy[0], models.skipped, unmeasured)),
    )


def keep_rank(updates: Sequence[MatrixUpdate], share: float) -> int | None:
    """The smallest k that, the same in every matrix, holds a share of all ‖ΔW‖²; ``None`` where k is not computed."""
    total = sum(update.norm**2 for update in updates)
    longest = max((len(update.singular_values) for update in updates), default=0)
    kept = np.zeros(longest)
    for update in updates:
        kept[: len(update.singular_values)] += np.square(update.singular_values)
    enough = np.cumsum(kept) >= share * total * (1 - 1e-12)
    return int(np.argmax(enough)) + 1 if enough.any() else None


def attempt(source: str, options: AuditOptions, base: str) -> FineTune | Unreadable:
    """Measure a fine-tune of a base; what cannot be read is a result too, so that one bad source never stops the rest.

    >>> attempt("model-that-is-not-there", AuditOptions(), ".").finding.code
    'LR000'
    """
    try:
        return compare_models(base, source, options)
    except LorarankError as error:
        return unreadable(source, str(error))
    except MemoryError:
        return unreadable(source, "Out of memory.")
