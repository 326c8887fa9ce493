"""What a sweep can be asked (floor 2, no torch)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from itertools import pairwise
from pathlib import Path

from lorarank.choices import check_keep_loss, check_least
from lorarank.errors import OptionError
from lorarank.estimate.constants import LOSS_SHARE
from lorarank.probe.options import LARGEST_SEED, ProbeOptions
from lorarank.typed import settle

RANKS = (1, 2, 4, 8, 16, 32, 64)
"""The ladder up to the default rank of a probe."""


@dataclass(frozen=True)
class SweepOptions:
    """Everything ``lorarank sweep`` can be asked; the command line reads its defaults from here.

    Parameters
    ----------
    model, data, output, val : as in :class:`~lorarank.probe.options.ProbeOptions`; ``output`` may hold an earlier
        sweep, whose points are used again where nothing that matters has changed.
    ranks : to train at, ascending; ``None`` is :data:`RANKS`, as far as the smallest matrix has room for.
    lrs : learning rates that every rank is trained with; ``None`` finds one on a grid at the two ends of the ranks.
    seeds : how many seeds for the ranks around the answer and around the best, at their best learning rate and at those
        that the first seed does not tell from it; the others get one.
    keep_loss : most that a rank that suffices may lose, as a share of the best rank's gain, in (0, 1). Another one
        needs no point to be trained again; with several seeds the ranks around another answer get theirs.
    tokens : training tokens of every point; ``None`` is the probe's default.
    alpha : ``lora_alpha`` at every rank, so that a good learning rate hardly depends on it.
    target, batch_tokens, row_length, load_in_4bit, gradient_checkpointing, seed, device, checkpoint_seconds : as in
        a probe; ``seed`` is the first of the seeds.
    ray : ``None`` trains here, one point after another; an address, or "" for a cluster of this machine, trains the
        points of a stage side by side with Ray.

    Examples
    --------
    >>> SweepOptions(model="base", data="train.jsonl", output=Path("sweep")).ladder
    (1, 2, 4, 8, 16, 32, 64)
    """

    model: str
    data: str
    output: Path
    _: KW_ONLY
    val: str | None = None
    ranks: tuple[int, ...] | None = None
    lrs: tuple[float, ...] | None = None
    seeds: int = 1
    keep_loss: float = LOSS_SHARE
    tokens: int | None = None
    alpha: int = 32
    target: str = "all-linear"
    batch_tokens: int | None = None
    row_length: int | None = None
    load_in_4bit: bool = False
    gradient_checkpointing: bool = False
    seed: int = 0
    device: str = "auto"
    checkpoint_seconds: float = 300.0
    ray: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work, before anything is loaded.

        Raises
        ------
        OptionError
            Ranks that do not ascend, fewer than two of them, or a value of another type or out of its range.
        """
        settle(self)
        ranks = self.ladder
        if len(ranks) < 2 or ranks[0] < 1 or any(b <= a for a, b in pairwise(ranks)):
            given = ",".join(map(str, ranks))
            raise OptionError(f"--ranks {given}", "a sweep takes two or more ranks, ascending", do="try 1,2,4,8,16")
        if self.lrs is not None and (not self.lrs or len(set(self.lrs)) < len(self.lrs)):
            raise OptionError("--lrs", "the learning rates are none, or some of them the same", do="try auto")
        check_least("--seeds", self.seeds)
        check_keep_loss(self.keep_loss)
        if self.seed + self.seeds - 1 > LARGEST_SEED:
            raise OptionError(f"--seed {self.seed}", f"the last of the seeds must be at most {LARGEST_SEED}")
        for rate in self.lrs or (1e-3,):
            self.point(ranks[-1], rate)  # what is out of range for a probe is so for a point

    @property
    def ladder(self) -> tuple[int, ...]:
        """The ranks to train at."""
        return RANKS if self.ranks is None else self.ranks

    def point(self, rank: int, learning_rate: float | None = None) -> ProbeOptions:
        """The options of a probe that trains as a point does."""
        with said_of_a_sweep():
            return ProbeOptions(
                model=self.model,
                data=self.data,
                output=self.output,
                val=self.val,
                rank=rank,
                alpha=self.alpha,
                tokens=self.tokens,
                target=self.target,
                lr=learning_rate,
                batch_tokens=self.batch_tokens,
                row_length=self.row_length,
                load_in_4bit=self.load_in_4bit,
                gradient_checkpointing=self.gradient_checkpointing,
                seed=self.seed,
                device=self.device,
                checkpoint_seconds=self.checkpoint_seconds,
            )


@contextmanager
def said_of_a_sweep() -> Iterator[None]:
    """What a probe says of its one rank and learning rate, said of the options that a sweep has for several.

    >>> with said_of_a_sweep():
    ...     raise OptionError("--rank 64", "too high", do="give --rank 32 or less")
    Traceback (most recent call last):
    ...
    lorarank.errors.OptionError: --ranks 64: too high. Give --ranks 32 or less.
    """
    try:
        yield
    except OptionError as error:
        where, what, why, do = (
            re.sub(r"--(rank|lr)\b", r"--\1s", part) for part in (error.where, error.what, error.why, error.do)
        )
        raise OptionError(where, what, why=why, do=do) from None
