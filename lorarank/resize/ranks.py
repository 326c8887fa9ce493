"""From spectra to the new rank of every module (floor 2); plain values in and out.

Modules that a format gives one rank (the experts of a stack, both projections of PEFT's multihead attention) form a
*group*, whose spectrum is that of its members side by side: the i-th value is the root of the sum of their i-th σ².
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lorarank.errors import OptionError
from lorarank.numerics import criteria
from lorarank.numerics.allocation import allocate
from lorarank.numerics.pooling import pooled_rank
from lorarank.resize.options import ResizeOptions
from lorarank.spectrum import Spectrum

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Group:
    """Modules with one rank between them.

    Attributes
    ----------
    spectra : σ of each member.
    r : their present rank.
    cost : numbers in all their factors for one more rank.
    pinned : whether the adapter carries something of theirs, so that they keep a rank of 1 at least.
    stored : numbers that they take now, where that is less than their ranks would: convolutions in Tucker form, fused
        projections of old PEFT. New factors of theirs are ordinary ones.
    """

    spectra: tuple[Floats, ...]
    r: int
    cost: int
    pinned: bool
    stored: int | None = None

    def size(self, k: int) -> int:
        """Numbers that it takes at a rank: what is stored, where nothing is cut, or a cut would not make it smaller."""
        now = self.r * self.cost if self.stored is None else self.stored
        return now if k == self.r else min(k * self.cost, now) if k < self.r else k * self.cost

    def gaining(self, k: int) -> int:
        """A rank, or the present one where that takes no more numbers.

        >>> tucker = Group((np.ones(8),), 8, 100, False, stored=250)
        >>> [tucker.gaining(k) for k in (1, 2, 3)], [tucker.size(k) for k in (2, 3, 8)]
        ([1, 2, 8], [200, 250, 250])
        """
        return self.r if 0 < k < self.r and k * self.cost >= self.size(self.r) else k

    @property
    def pooled(self) -> Floats:
        """(r,) the members' spectra side by side."""
        found = np.zeros(self.r)
        for values in self.spectra:
            found[: values.size] = np.hypot(found[: values.size], values)
        return found


def grouped(
    spectra: Sequence[Spectrum], labels: Sequence[Hashable], pinned: Sequence[bool]
) -> tuple[list[Group], list[int]]:
    """Groups of modules with the same label, and for each module the place of its group."""
    places = {label: place for place, label in enumerate(dict.fromkeys(labels))}
    homes = [places[label] for label in labels]
    members: list[list[int]] = [[] for _ in places]
    for index, home in enumerate(homes):
        members[home].append(index)
    groups = [
        Group(
            spectra=tuple(spectra[i].singular_values for i in inside),
            r=max(spectra[i].r for i in inside),
            cost=sum(spectra[i].parameters_per_rank for i in inside),
            pinned=any(pinned[i] for i in inside),
            stored=sum(spectra[i].parameters for i in inside),
        )
        for inside in members
    ]
    return groups, homes


def choose(groups: Sequence[Group], options: ResizeOptions, keep_loss: Callable[[float], int]) -> tuple[int, ...]:
    """The new rank of each group; 0 leaves its modules out.

    Parameters
    ----------
    groups : as :func:`grouped` gives them.
    options : the criterion.
    keep_loss : share of the gain → the smallest uniform rank that loses at most that; only asked where needed.

    Raises
    ------
    OptionError
        A rank above all present ones without ``pad``, or a budget too small for anything.

    >>> one, two = (Group((np.array(s),), 2, 10, False) for s in ([3.0, 1.0], [2.0, 0.1]))
    >>> choose([one, two], ResizeOptions(energy=0.95), int)
    (2, 2)
    >>> choose([one, two], ResizeOptions(threshold_global=0.5), int), choose([one, two], ResizeOptions(params=25), int)
    ((1, 1), (1, 1))
    """
    if options.rank is None and not any(values.any() for group in groups for values in group.spectra):
        raise OptionError(options.flag, "the update is zero everywhere, so nothing says a rank", do="give --rank")
    ranks = _ranks(groups, options, keep_loss)
    if options.rank is None:  # who asks for a rank wants it, even where it takes more room
        ranks = tuple(group.gaining(k) for group, k in zip(groups, ranks, strict=True))
    if not any(ranks):
        raise OptionError(
            f"--{options.criterion.replace('_', '-')}",
            "would leave nothing of this adapter",
            do="ask for less of a cut",
        )
    return ranks


def _ranks(groups: Sequence[Group], options: ResizeOptions, keep_loss: Callable[[float], int]) -> tuple[int, ...]:
    if options.rank is not None:
        return _uniform(groups, _checked(groups, options.rank, options.pad), pad=options.pad)
    if options.energy is not None:
        if options.per_module:
            return tuple(max(criteria.energy(g.pooled, options.energy), int(g.pinned)) for g in groups)
        return _uniform(groups, pooled_rank([group.pooled for group in groups], options.energy))
    if options.threshold_global is not None:
        return _above(groups, options.threshold_global)
    if options.keep_loss is not None:
        return _uniform(groups, keep_loss(options.keep_loss))
    assert options.params is not None  # noqa: S101 (one criterion is always given)
    return (_within if options.per_module else _uniform_within)(groups, options.params)


def _uniform(groups: Iterable[Group], k: int, *, pad: bool = False) -> tuple[int, ...]:
    return tuple(k if pad else min(k, group.r) for group in groups)


def _checked(groups: Sequence[Group], k: int, pad: bool) -> int:
    largest = max(group.r for group in groups)
    if k > largest and not pad:
        raise OptionError(
            f"--rank {k}",
            f"it is above the r = {largest} that this adapter has",
            why="a cut cannot add what was not trained",
            do=f"give at most {largest}, or fill up with zeros by --pad",
        )
    return k


def _above(groups: Sequence[Group], share: float) -> tuple[int, ...]:
    """One threshold on all σ pooled, as in PARA (arXiv 2604.27796), here relative to the largest of them."""
    largest = max((float(values[0]) for group in groups for values in group.spectra if values.size), default=0.0)
    return tuple(
        max(max(int(np.count_nonzero(values > share * largest)) for values in group.spectra), int(group.pinned))
        for group in groups
    )


def _uniform_within(groups: Sequence[Group], budget: int) -> tuple[int, ...]:
    """The largest k for all that the budget pays."""
    for k in range(max(group.r for group in groups), 0, -1):
        ranks = _uniform(groups, k)
        if _cost(groups, ranks) <= budget:
            return ranks
    raise OptionError(
        f"--params {budget}",
        f"a rank of 1 everywhere takes {_cost(groups, _uniform(groups, 1)):,}",
        do="give more, or leave modules out with --per-module",
    )


def _within(groups: Sequence[Group], budget: int) -> tuple[int, ...]:
    """Ranks by energy per parameter; a first rank of pinned groups is paid before all else."""
    if sum(group.size(group.r) for group in groups) <= budget:
        return tuple(group.r for group in groups)
    left = budget - sum(group.cost for group in groups if group.pinned)
    if left < 0:
        raise OptionError(
            f"--params {budget}", f"modules that have to stay take {budget - left:,} at a rank of 1", do="give more"
        )
    spectra = [group.pooled[int(group.pinned) :] for group in groups]
    bought = allocate(spectra, [group.cost for group in groups], left)
    return tuple(int(group.pinned) + count for group, count in zip(groups, bought, strict=True))


def _cost(groups: Sequence[Group], ranks: Sequence[int]) -> int:
    return sum(group.size(rank) for group, rank in zip(groups, ranks, strict=True))
