"""Held-out documents and parts: decided by content, whatever the order and the company."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorarank.corpus import parts, split_heldout, without
from lorarank.corpus.documents import Document
from lorarank.errors import CorpusError, OptionError


def answer(prompt, completion):
    return Document(f"{prompt}/{completion}", "completion", f"prompt {prompt}", str(completion), (), 1)


FILLER = [answer(f"filler {at}", 0) for at in range(200)]
"""Enough prompts that neither side of a split is ever empty."""

ANSWERS = st.lists(st.builds(answer, st.integers(0, 30), st.integers(0, 3)), max_size=60)


def keys(documents):
    return [document.key for document in documents]


@given(documents=ANSWERS, data=st.data(), share=st.floats(0.05, 0.9))
def test_prompts_stay_on_one_side_in_any_order(documents, data, share):
    train, heldout = split_heldout([*documents, *FILLER], share=share)
    assert sorted(keys(train) + keys(heldout)) == sorted(keys([*documents, *FILLER]))
    assert not {d.prompt for d in train} & {d.prompt for d in heldout}

    shuffled = data.draw(st.permutations(documents))
    again = split_heldout([*FILLER, *shuffled], share=share)
    assert [set(keys(side)) for side in again] == [set(keys(train)), set(keys(heldout))]
    # a document's side does not depend on what else is in the file, and a larger share only adds to the held-out
    alone = split_heldout(FILLER, share=share)
    assert set(keys(alone[1])) <= set(keys(heldout))
    assert set(keys(heldout)) <= set(keys(split_heldout([*documents, *FILLER], share=0.95)[1]))


def test_the_share_is_about_what_was_asked():
    documents = [Document(f"{at}", "text", "", "x", (), at) for at in range(5000)]
    assert len(split_heldout(documents, share=0.1)[1]) == pytest.approx(500, abs=4 * (5000 * 0.09) ** 0.5)
    sizes = [len(part) for part in parts(documents, 4)]
    assert sizes == pytest.approx([1250] * 4, abs=4 * (5000 * 0.1875) ** 0.5)


def test_a_side_is_for_ever():
    """The hash is part of the contract: changing it would move documents between old runs and new."""
    documents = [Document(f"{at}", "text", "", "x", (), at) for at in range(40)]
    assert [d.row for d in split_heldout(documents)[1]] == [15, 33, 39]
    assert [d.row for d in parts(documents, 8)[0]] == [9, 24, 27, 32, 36]


@given(documents=ANSWERS, replicates=st.integers(1, 4))
def test_parts_are_disjoint_and_complete(documents, replicates):
    divided = parts([*documents, *FILLER], replicates)
    assert len(divided) == replicates
    assert sorted(key for part in divided for key in keys(part)) == sorted(keys([*documents, *FILLER]))
    prompts = [{d.prompt for d in part} for part in divided]
    assert sum(map(len, prompts)) == len(set().union(*prompts))


def test_what_stays_together():
    def asked(*contents, key="k"):
        turns = tuple({"role": role, "content": text} for role, text in contents)
        return Document(key, "messages", "", "", turns, 1)

    first = asked(("system", "a"), ("user", "why?"), ("assistant", "x"))
    second = asked(("user", "why?"), ("assistant", "y"), ("user", "and?"), ("assistant", "z"))
    assert first.group == second.group != asked(("user", "how?"), ("assistant", "x")).group
    assert asked(("assistant", "x"), key="other").group == "other"
    assert answer(1, 1).group == answer(1, 2).group != answer(2, 1).group
    assert Document("a", "completion", " ", "x", (), 1).group == "a"
    assert Document("a", "text", "", "x", (), 1).group == "a"


def test_without():
    one, two, three = answer(1, 1), answer(1, 2), answer(2, 1)
    assert without([one, two, three, one], [two]) == (one, three, one)
    assert without([one], []) == (one,)
    assert without([one], [one]) == ()


@pytest.mark.parametrize(
    ("call", "error", "what"),
    [
        (lambda: split_heldout([answer(1, 1)]), CorpusError, "1 documents with 1 different .* nothing to hold out"),
        (lambda: split_heldout([]), CorpusError, "0 documents"),
        (lambda: split_heldout([answer(1, at) for at in range(9)], share=0.99), CorpusError, "nothing to train on"),
        (lambda: split_heldout(FILLER, share=0), OptionError, "0 is not between 0 and 1"),
        (lambda: split_heldout(FILLER, share=float("nan")), OptionError, "nan is not between 0 and 1"),
        (lambda: parts([answer(1, 1)], 2), CorpusError, "1 documents do not give 2 replicates one each"),
        (lambda: parts(FILLER, 0), OptionError, "0 is not a number of replicates"),
    ],
)
def test_errors(call, error, what):
    with pytest.raises(error, match=what):
        call()


def test_a_row_is_the_same_in_another_shape():
    def turns(asked, answered):
        return ({"role": "user", "content": asked}, {"role": "assistant", "content": answered})

    rows = [answer(at, at) for at in range(4)]
    plain = [Document(f"t{at}", "text", "", f"prompt {at} {at}", (), 1) for at in (0, 2)]
    chat = [Document(f"m{at}", "messages", "", "", turns(f"prompt {at}\n", f"{at}"), 1) for at in (1, 2)]
    asked = [Document(f"c{at}", "completion", "", "", turns(f"prompt {at}", f"{at}"), 1, context=1) for at in (3,)]
    assert keys(without(rows, plain)) == keys(rows[i] for i in (1, 3))
    assert keys(without(rows, chat)) == keys(rows[i] for i in (0, 3))
    assert keys(without(rows, asked)) == keys(rows[i] for i in (0, 1, 2))
    assert keys(without(chat, rows)) == []
    # of one shape the key decides: here two answers differ by a space, which is a token
    spaced = Document("other", "completion", "prompt 0", " 0", (), 1)
    assert without([spaced], rows) == (spaced,)
