"""Token frequencies as a model, and completions behind other rows' prompts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lorarank.corpus import Rows, TokenDocument, frequency_losses, pack, with_other_prompts


def document(key: str, prompt: list[int], completion: list[int]) -> TokenDocument:
    mask = np.array([False] * len(prompt) + [True] * len(completion))
    return TokenDocument(key, np.array(prompt + completion, dtype=np.int32), mask)


def rows(*documents: TokenDocument) -> Rows:
    return pack(documents, row_length=32, seed=0)


@given(st.lists(st.integers(0, 7), min_size=1, max_size=20), st.integers(8, 40))
@example([0, 1, 2, 3, 4, 5, 6, 7], 8)
def test_frequencies_are_a_distribution(tokens: list[int], vocabulary: int) -> None:
    train = rows(document("train", [0], tokens))
    each = rows(*(document(f"{token}", [0], [token]) for token in range(vocabulary)))
    losses = frequency_losses(train, each, documents=vocabulary, vocabulary=vocabulary)
    assert np.exp(-losses).sum() == pytest.approx(1)
    seen = [np.exp(-losses[token]) for token in set(tokens)]
    all_seen = len(set(tokens)) == vocabulary
    assert sum(seen) == pytest.approx(1 if all_seen else len(tokens) / (len(tokens) + len(set(tokens))))


def test_where_every_token_was_seen_nothing_is_set_aside() -> None:
    train = rows(document("train", [0], [0, 1, 1, 1]))
    losses = frequency_losses(
        train, rows(document("a", [0], [0]), document("b", [1, 1], [1, 1])), documents=2, vocabulary=2
    )
    assert losses == pytest.approx([-np.log(0.25), -2 * np.log(0.75)])


def test_completions_stand_behind_the_next_other_prompt() -> None:
    pieces = [document("a", [1, 2], [7]), document("b", [1, 2], [8, 8]), document("c", [3], [9])]
    dealt = with_other_prompts(pieces, row_length=8)
    assert dealt is not None
    assert [piece.input_ids.tolist() for piece in dealt] == [[3, 7], [3, 8, 8], [1, 2, 9]]
    assert [piece.input_ids[piece.loss_mask].tolist() for piece in dealt] == [[7], [8, 8], [9]]
    assert [piece.key for piece in dealt] == ["a", "b", "c"]


def test_a_long_prompt_is_cut_from_the_left() -> None:
    dealt = with_other_prompts([document("a", [1, 2, 3, 4], [7]), document("b", [5], [8, 8, 8])], row_length=5)
    assert dealt is not None
    assert [piece.input_ids.tolist() for piece in dealt] == [[5, 7], [3, 4, 8, 8, 8]]


def test_a_prompt_that_is_cut_keeps_the_token_that_begins_documents() -> None:
    pieces = [document("a", [0, 2, 3, 4], [7]), document("b", [0, 5], [8, 8, 8])]
    for row_length, kept in ((5, [0, 4]), (4, [0])):
        dealt = with_other_prompts(pieces, row_length=row_length, begin=0)
        assert dealt is not None
        assert [piece.input_ids.tolist() for piece in dealt] == [[0, 5, 7], [*kept, 8, 8, 8]]


def test_one_prompt_for_all_says_nothing() -> None:
    assert with_other_prompts([document(key, [1, 2], [ord(key)]) for key in "abcd"], row_length=8) is None
    turns = TokenDocument("t", np.arange(6, dtype=np.int32), np.array([False, True, False, True, False, False]))
    assert with_other_prompts([turns, turns, document("a", [9], [1])], row_length=8) is None
