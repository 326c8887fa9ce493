"""Rows: every token once, no document cut or mixed up, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorarank.corpus import TokenDocument, pack
from lorarank.errors import OptionError

LENGTHS = st.lists(st.integers(1, 16), max_size=50)


def documents_of(lengths):
    """Documents whose tokens are all different, every second one a target."""
    starts = np.cumsum([1, *lengths])
    return [
        TokenDocument(str(at), np.arange(start, start + n, dtype=np.int32), np.arange(n) % 2 == at % 2)
        for at, (start, n) in enumerate(zip(starts, lengths, strict=False))
    ]


@given(lengths=LENGTHS, seed=st.integers(0, 5), packed=st.booleans())
def test_every_token_once_and_documents_whole(lengths, seed, packed):
    documents = documents_of(lengths)
    rows = pack(documents, row_length=16, seed=seed, packed=packed)
    assert {a.shape for a in (rows.input_ids, rows.loss_mask, rows.position_ids, rows.document)} == {
        (len(rows.document), 16)
    }
    assert [a.dtype for a in (rows.input_ids, rows.loss_mask, rows.position_ids, rows.document)] == [
        np.int32,
        np.bool_,
        np.int32,
        np.int32,
    ]
    for at, document in enumerate(documents):
        row, column = np.nonzero(rows.document == at)
        assert len(set(row)) == 1
        assert column.tolist() == list(range(column[0], column[0] + len(document.input_ids)))
        assert rows.input_ids[row, column].tolist() == document.input_ids.tolist()
        assert rows.position_ids[row, column].tolist() == list(range(len(document.input_ids)))
        expected = document.loss_mask.copy()
        expected[0] = False
        assert rows.loss_mask[row, column].tolist() == expected.tolist()
    padding = rows.document == -1
    assert padding.sum() == rows.document.size - sum(lengths)
    assert not rows.input_ids[padding].any()
    assert not rows.position_ids[padding].any()
    assert not rows.loss_mask[padding].any()
    # padding comes last in a row
    assert (np.diff(padding.astype(int), axis=1) >= 0).all()
    if not packed:
        assert [len(set(row[row >= 0].tolist())) for row in rows.document] == [1] * len(documents)


@given(lengths=st.lists(st.integers(1, 16), min_size=1, max_size=50))
def test_no_row_could_have_been_spared_by_joining_two(lengths):
    """Best fit leaves at most one row half empty, so it never needs twice the rows there must be."""
    rows = pack(documents_of(lengths), row_length=16, seed=0)
    used = (rows.document >= 0).sum(axis=1)
    assert (used <= 8).sum() <= 1
    assert len(used) <= max(1, 2 * sum(lengths) / 16)


def test_best_fit_takes_the_tightest_place():
    rows = pack(documents_of([9, 7, 6, 3, 4, 1]), row_length=10, seed=3)
    together = sorted(sorted(set(row[row >= 0].tolist())) for row in rows.document)
    assert together == [[0, 5], [1, 3], [2, 4]]
    assert (rows.document >= 0).all()


def test_the_seed_decides():
    documents = documents_of([3, 5, 2, 7, 1, 8, 4, 6] * 5)
    first, again, other = (pack(documents, row_length=9, seed=seed).document for seed in (1, 1, 2))
    assert (first == again).all()
    assert first.tolist() != other.tolist()


def test_the_first_rows_are_a_fair_sample():
    documents = documents_of([1] * 50 + [16] * 50)
    rows = pack(documents, row_length=16, seed=0, packed=False)
    lengths = (rows.document >= 0).sum(axis=1)
    assert 10 < (lengths[:50] == 1).sum() < 40


def test_nothing_to_pack():
    assert pack([], row_length=8, seed=0).input_ids.shape == (0, 8)


def test_a_document_longer_than_a_row():
    with pytest.raises(OptionError, match="a document of 9 tokens does not fit a row of 8"):
        pack(documents_of([9]), row_length=8, seed=0)
