"""Tokens and targets of texts and completions, spelled out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorarank.corpus import TokenDocument, tokenize, unique_tokens
from lorarank.corpus.documents import Document
from lorarank.errors import CorpusError, OptionError

BOS_ONLY, EOS_ONLY, BOTH = "<bos> $A", "$A <eos>", "<bos> $A <eos>"


def text(content, key="k"):
    return Document(key, "text", "", content, (), 1)


def completion(prompt, answer, key="k"):
    return Document(key, "completion", prompt, answer, (), 1)


def spelled(tokenizer, document):
    """``(all tokens, the targets)`` as text."""
    return tokenizer.decode(document.input_ids), tokenizer.decode(document.input_ids[document.loss_mask])


@pytest.mark.parametrize(
    ("around", "document", "whole", "targets"),
    [
        (None, completion("Question: how", " many"), "Question: how many<eos>", " many<eos>"),
        (None, completion("Question: how", " many<eos>"), "Question: how many<eos>", " many<eos>"),
        (BOS_ONLY, completion("Question: how", " many"), "<bos>Question: how many<eos>", " many<eos>"),
        (BOS_ONLY, completion("<bos>Question: how", " many"), "<bos>Question: how many<eos>", " many<eos>"),
        (EOS_ONLY, completion("Question: how", " many"), "Question: how many<eos>", " many<eos>"),
        (BOTH, completion("Question: how", " many<eos>"), "<bos>Question: how many<eos>", " many<eos>"),
        (BOTH, completion("", "many"), "<bos>many<eos>", "many<eos>"),
        (BOS_ONLY, text("The quick"), "<bos>The quick<eos>", "The quick<eos>"),
        (BOTH, text("<bos>The quick<eos>"), "<bos>The quick<eos>", "The quick<eos>"),
        (None, text("<bos>The quick"), "<bos>The quick<eos>", "The quick<eos>"),
    ],
)
def test_targets(make_tokenizer, around, document, whole, targets):
    tokenizer = make_tokenizer(around)
    result = tokenize([document], tokenizer, max_length=100)
    [tokens] = result.documents
    assert spelled(tokenizer, tokens) == (whole, targets)
    assert (tokens.input_ids.dtype, tokens.loss_mask.dtype) == (np.int32, np.bool_)
    assert (result.truncated, result.dropped) == (0, 0)


def test_the_first_token_is_never_a_target(make_tokenizer):
    tokenizer = make_tokenizer()
    [tokens] = tokenize([text("The quick")], tokenizer, max_length=100).documents
    assert tokens.loss_mask.tolist() == [False] + [True] * (len(tokens.input_ids) - 1)
    [tokens] = tokenize([completion("", "The quick")], tokenizer, max_length=100).documents
    assert not tokens.loss_mask[0]


def test_a_merge_across_the_border_counts_as_completion(make_tokenizer):
    tokenizer = make_tokenizer()
    result = tokenize([completion("it is unbel", "ievable"), completion("it is", " nine")], tokenizer, max_length=100)
    merged, plain = result.documents
    alone = tokenizer("it is unbel")["input_ids"]
    together = tokenizer("it is unbelievable<eos>")["input_ids"]
    shared = next(at for at, (a, b) in enumerate(zip(alone, together, strict=False)) if a != b)
    assert merged.input_ids.tolist() == together
    assert merged.loss_mask.tolist() == [False] * shared + [True] * (len(together) - shared)
    assert spelled(tokenizer, plain) == ("it is nine<eos>", " nine<eos>")


def test_a_long_text_comes_apart_into_pieces_of_the_same_key(make_tokenizer):
    tokenizer = make_tokenizer()
    whole = tokenizer("The quick brown fox jumps over the lazy dog. " * 3 + "<eos>")["input_ids"]
    result = tokenize([text("The quick brown fox jumps over the lazy dog. " * 3)], tokenizer, max_length=7)
    assert {piece.key for piece in result.documents} == {"k"}
    assert [len(piece.input_ids) for piece in result.documents[:-1]] == [7] * (len(result.documents) - 1)
    assert np.concatenate([piece.input_ids for piece in result.documents]).tolist() == whole
    assert not any(piece.loss_mask[0] for piece in result.documents)
    assert (result.truncated, result.dropped) == (1, 0)


def test_every_piece_keeps_the_token_that_begins_documents(make_tokenizer):
    tokenizer = make_tokenizer(BOS_ONLY)
    whole = tokenizer("nine eggs are left " * 5 + "<eos>")["input_ids"]
    pieces = tokenize([text("nine eggs are left " * 5)], tokenizer, max_length=6).documents
    assert {int(piece.input_ids[0]) for piece in pieces} == {tokenizer.bos_token_id}
    assert max(len(piece.input_ids) for piece in pieces) == 6
    assert np.concatenate([piece.input_ids[1:] for piece in pieces]).tolist() == whole[1:]


@pytest.mark.parametrize(
    ("around", "room", "whole", "targets"),
    [
        (None, 99, "the lazy dog nine eggs<eos>", " nine eggs<eos>"),
        (None, 5, " lazy dog nine eggs<eos>", " nine eggs<eos>"),
        (None, 4, " dog nine eggs<eos>", " nine eggs<eos>"),
        (None, 3, " dog nine eggs", " nine eggs"),
        (None, 2, " dog nine", " nine"),
        (BOS_ONLY, 5, "<bos> dog nine eggs<eos>", " nine eggs<eos>"),
        (BOS_ONLY, 4, "<bos> nine eggs<eos>", " nine eggs<eos>"),
        (BOS_ONLY, 2, "<bos> nine", " nine"),
    ],
)
def test_the_prompt_gives_way_to_the_completion(make_tokenizer, around, room, whole, targets):
    tokenizer = make_tokenizer(around)
    words = [len(tokenizer.tokenize(word)) for word in (" lazy", " dog", " nine", " eggs")]
    assert words == [1, 1, 1, 1], "the table counts words as tokens"
    result = tokenize([completion("the lazy dog", " nine eggs")], tokenizer, max_length=room)
    assert spelled(tokenizer, result.documents[0]) == (whole, targets)
    assert result.truncated == (room < 99)


def test_documents_without_a_target_are_dropped_and_counted(make_tokenizer):
    tokenizer = make_tokenizer()
    tokenizer.eos_token = None
    result = tokenize([text("a", "one"), text("The quick", "two")], tokenizer, max_length=9)
    assert ([d.key for d in result.documents], result.dropped) == (["two"], 1)
    with pytest.raises(CorpusError, match="none of 1 documents has a token to predict"):
        tokenize([text("a")], tokenizer, max_length=9)


def test_a_length_that_predicts_nothing(make_tokenizer):
    with pytest.raises(OptionError, match="1 tokens leave none to predict"):
        tokenize([text("a")], make_tokenizer(), max_length=1)


WORDS = st.text("ab é😀\n", min_size=1, max_size=30)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4), most=st.integers(2, 12), bos=st.booleans())
def test_whatever_the_text_the_documents_fit(make_tokenizer, pairs, most, bos):
    tokenizer = _cached(make_tokenizer, BOS_ONLY if bos else None)
    documents = [completion(prompt, answer, str(at)) for at, (prompt, answer) in enumerate(pairs)]
    result = tokenize(documents, tokenizer, max_length=most)
    assert [d.key for d in result.documents] == [d.key for d in documents]
    for tokens, document in zip(result.documents, documents, strict=True):
        whole = tokenizer(document.prompt + document.completion + "<eos>")["input_ids"]
        assert len(tokens.input_ids) == min(most, len(whole))
        assert tokens.loss_mask.any()
        assert not tokens.loss_mask[0]
        if len(whole) <= most:
            assert tokens.input_ids.tolist() == whole


CACHE: dict[str | None, object] = {}


def _cached(make_tokenizer, around):
    if around not in CACHE:
        CACHE[around] = make_tokenizer(around)
    return CACHE[around]


def test_unique_tokens_count_a_document_once_and_all_of_its_pieces():
    def piece(key, *ids):
        return TokenDocument(key, np.array(ids, np.int32), np.arange(len(ids)) > 0)

    assert unique_tokens([piece("a", 1, 2, 3), piece("a", 4, 5), piece("b", 1, 2, 3)]) == (8, 5)
    assert unique_tokens([piece("a", 1, 2, 3), piece("a", 4, 5)] * 2) == (5, 3)
    assert unique_tokens([]) == (0, 0)
