"""Which documents are held out and which replicate trains on which, by hashes of their content (floor 1).

A document's side depends on its content alone: not on the order of the file, nor on what else is in it. What is
hashed is :attr:`Document.group`, so duplicates and answers to the same prompt always stay together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from lorarank.corpus.documents import Document
from lorarank.errors import CorpusError, OptionError

HELDOUT, REPLICATE = "held-out", "replicate"
"""Salts: the two divisions must not know of each other."""


def _draw(salt: str, group: str) -> float:
    """A number in [0, 1) that the group decides; 52 bits, so that a double holds it exactly."""
    return int(hashlib.sha256(f"{salt}:{group}".encode("ascii")).hexdigest()[:13], 16) / 16**13


def split_heldout(
    documents: Sequence[Document], *, share: float = 0.1
) -> tuple[tuple[Document, ...], tuple[Document, ...]]:
    """``(train, heldout)``; a group is held out when its hash falls in the lowest ``share``.

    Parameters
    ----------
    documents : to be divided; both results keep their order.
    share : expected share of the groups held out, between 0 and 1.

    Raises
    ------
    OptionError : a share that cannot work.
    CorpusError : one side would be empty.

    >>> rows = [Document(f"{i:02}", "text", "", f"row {i}", (), i) for i in range(1, 31)]
    >>> train, heldout = split_heldout(rows)
    >>> len(train), [d.row for d in heldout]
    (28, [3, 15])
    """
    if not 0 < share < 1:
        raise OptionError("held-out share", f"{share} is not between 0 and 1")
    draws = [_draw(HELDOUT, document.group) for document in documents]
    heldout = tuple(document for draw, document in zip(draws, documents, strict=True) if draw < share)
    train = tuple(document for draw, document in zip(draws, documents, strict=True) if draw >= share)
    if not train or not heldout:
        groups = len(set(draws))
        raise CorpusError(
            "data",
            f"{len(documents)} documents with {groups} different prompts or texts leave nothing "
            + ("to train on" if not train else "to hold out"),
            why=f"a hash puts about {share:.0%} of the prompts aside",
            do="give more documents, or held-out documents of their own with --val",
        )
    return train, heldout


def without(documents: Iterable[Document], other: Iterable[Document]) -> tuple[Document, ...]:
    """The ``documents`` whose content is not among the ``other``, in order.

    Between sources of two shapes the words are compared, since one row has two keys there.

    >>> a, b = (Document(key, "text", "", key, (), 1) for key in "ab")
    >>> [d.key for d in without([a, b, a], [b])]
    ['a', 'a']
    >>> without([a, b], [Document("c", "completion", "a", "", (), 1)]) == (b,)
    True
    """
    documents, other = tuple(documents), tuple(other)
    taken, shapes = {d.key for d in other}, {d.shape for d in other}
    words = {d.said for d in other} if {d.shape for d in documents} - shapes else set()
    return tuple(d for d in documents if d.key not in taken and (d.shape in shapes or d.said not in words))


def parts(documents: Sequence[Document], replicates: int) -> tuple[tuple[Document, ...], ...]:
    """Disjoint parts, one a replicate, of about the same size; no group is in two of them.

    Raises
    ------
    OptionError : fewer than one replicate.
    CorpusError : a part would be empty.

    >>> rows = [Document(f"{i:02}", "text", "", f"row {i}", (), i) for i in range(1, 11)]
    >>> [[d.row for d in part] for part in parts(rows, 2)]
    [[1, 3, 5, 7, 8], [2, 4, 6, 9, 10]]
    """
    if replicates < 1:
        raise OptionError("--replicates", f"{replicates} is not a number of replicates", do="give 1 or more")
    divided: list[list[Document]] = [[] for _ in range(replicates)]
    for document in documents:
        divided[int(_draw(REPLICATE, document.group) * replicates)].append(document)
    if not all(divided):
        raise CorpusError(
            "data",
            f"{len(documents)} documents do not give {replicates} replicates one each",
            why="a hash of the prompt or text divides them",
            do="give more documents or fewer replicates",
        )
    return tuple(tuple(part) for part in divided)


def sample(documents: Sequence[Document], characters: float, *, least: int = 1) -> tuple[tuple[Document, ...], float]:
    """The documents with the lowest hashes, in order, that have so many ``characters`` together, and the share of all
    characters that these are; ``least`` distinct ones at least. It is what is read of more than anybody trains on.

    >>> rows = [Document(key, "text", "", key, (), at) for at, key in enumerate("dbacb")]
    >>> read, share = sample(rows, 2)
    >>> [d.key for d in read], share
    (['b', 'a', 'b'], 0.6)
    """
    sizes: dict[str, int] = {}
    for document in documents:
        sizes[document.key] = sizes.get(document.key, 0) + document.characters
    read, last = 0, ""
    for count, key in enumerate(sorted(sizes)):
        if read >= characters and count >= least:
            break
        read, last = read + sizes[key], key
    return tuple(document for document in documents if document.key <= last), read / sum(sizes.values())
